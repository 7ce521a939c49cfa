//! An Envoy that reads the trust bundle from the CA itself, without an agent, as `docs/proxies.md` shows.

use std::net::SocketAddr;

use serde_json::json;
use signet_tests::failure::Outcome;
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Envoy, yaml};
use signet_tests::stage::CLIENT_ID;

use super::{SOON, installation};

const BUNDLE_SOURCE: &str =
    "/common_tls_context/combined_validation_context/validation_context_sds_secret_config/sds_config";

#[tokio::test]
async fn a_real_envoy_follows_the_bundle_over_tls_with_its_token() -> Outcome {
    let dev = installation("1h", &["server=default/server"])?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("server").await?;
    let upstream = signet_tests::upstream::Upstream::start().await?;
    let mut bootstrap = Bootstrap::new(Side::Server, agent.socket(), upstream.address, CLIENT_ID)?;
    // Its certificate comes from the agent; its roots come from the CA.
    let source = json!({
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{
                "envoy_grpc": { "cluster_name": "signet-ca", "authority": "localhost" },
                "initial_metadata": [{ "key": "authorization", "value": format!("Bearer {}", dev.token("server")?) }],
            }],
        },
    });
    yaml::replace(&mut bootstrap.document, &format!("{}{BUNDLE_SOURCE}", Side::Server.tls()), source)?;
    let clusters = bootstrap.document.pointer_mut("/static_resources/clusters").and_then(|list| list.as_array_mut());
    clusters.unwrap().push(ca_cluster(dev.listen, &dev.text("root-cert.pem")?));
    let envoy = Envoy::started("envoy-direct", dev.directory(), &bootstrap).await?;
    let loaded = async |roots: usize| {
        let bundle = envoy.secrets().await.ok()?.roots;
        (bundle.matches("BEGIN CERTIFICATE").count() == roots).then_some(())
    };
    eventually("one root in Envoy", SOON, async || loaded(1).await).await?;
    let both =
        async || ((ca.metrics().await.ok()?.sum("signet_ca_bundle_streams", &[]) - 2.0).abs() < 0.5).then_some(());
    eventually("the streams of the agent and of Envoy", SOON, both).await?;
    ca.operator().prepare()?;
    eventually("two roots in Envoy", SOON, async || loaded(2).await).await?;
    ca.operator().rollback()?;
    eventually("one root in Envoy again", SOON, async || loaded(1).await).await
}

fn ca_cluster(listen: SocketAddr, roots: &str) -> serde_json::Value {
    json!({
        "name": "signet-ca",
        "type": "STATIC",
        "connect_timeout": "10s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
        "load_assignment": {
            "cluster_name": "signet-ca",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": { "socket_address": {
                "address": listen.ip().to_string(), "port_value": listen.port(),
            } } } }] }],
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "localhost",
                "common_tls_context": {
                    "validation_context": {
                        "trusted_ca": { "inline_string": roots },
                        "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": "localhost" } }],
                    },
                },
            },
        },
    })
}
