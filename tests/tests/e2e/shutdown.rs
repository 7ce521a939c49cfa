//! SIGTERM: calls in flight finish, new ones go elsewhere, and nobody can hold the process up for ever.

use std::time::{Duration, Instant};

use rustls::version::TLS13;
use serde_json::json;
use signet_tests::client::ask::Ask;
use signet_tests::client::raw::{Raw, framed, head};
use signet_tests::client::{csr, tls};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Dev, yaml};

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_call_in_flight_is_finished_after_sigterm() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("drain", "50s")?;
    let mut ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
    let mut connection = Raw::connect(dev.listen, config.clone()).await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, "").request()?.into_inner();
    let body = framed(&prost::Message::encode_to_vec(&ask));
    let authorization = format!("Bearer {}", dev.token("client")?);
    let mut call = connection.begin(head(&[("authorization", &authorization)])?).await?;
    let (first, rest) = body.split_at(40);
    call.send(bytes::Bytes::copy_from_slice(first))?;
    // The pong says that the server has read everything sent before the ping.
    connection.ping().await?;
    ca.process.terminate();
    let closed = async || tls::connect(dev.listen, config.clone()).await.is_err().then_some(());
    eventually("the port to close", WITHIN, closed).await?;
    let answer = call.finish(bytes::Bytes::copy_from_slice(rest)).await?;
    assert_eq!(answer.grpc_status(), Some(0), "{answer:?}");
    assert!(answer.certificates()?.len() >= 2);
    drop(connection);
    let status = ca.process.wait(WITHIN).await?;
    ensure(status.success(), || format!("{status}\n{}", ca.process.log()))
}

#[tokio::test]
async fn a_call_that_never_ends_cannot_hold_the_process_longer_than_the_drain() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("drain", "1s")?;
    let mut ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
    let mut connection = Raw::connect(dev.listen, config).await?;
    let mut call = connection.begin(head(&[])?).await?;
    call.send(bytes::Bytes::from_static(&[0]))?;
    connection.ping().await?;
    let start = Instant::now();
    ca.process.terminate();
    let status = ca.process.wait(WITHIN).await?;
    // Without the setting it would be ten seconds.
    ensure(start.elapsed() < Duration::from_secs(9), || format!("it took {:?} to stop", start.elapsed()))?;
    // The log says what was cut off; whether that is a failure of the process is left open here.
    ensure(status.code().is_some_and(|code| code <= 1), || format!("{status}\n{}", ca.process.log()))
}

#[tokio::test]
async fn an_idle_ca_and_agent_stop_at_once() -> Outcome {
    let dev = Dev::plain()?;
    // Longer than the test waits.
    dev.set_ca("drain", "5m")?;
    dev.edit("agent-client.yaml", |config| yaml::set(config, "drain", "5m"))?;
    let mut ca = dev.start_ca().await?;
    let mut agent = dev.start_agent("client").await?;
    for process in [&mut agent.process, &mut ca.process] {
        let status = process.stop().await?;
        ensure(status.success(), || format!("{status}\n{}", process.log()))?;
    }
    ensure(!agent.socket().exists(), || "the agent left its socket behind".to_owned())
}

/// Whatever it follows, publishes and answers in a cluster: here one whose API server is away.
#[tokio::test]
async fn an_idle_ca_with_all_that_a_cluster_can_have_stops_at_once() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("drain", "5m")?;
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{name: a, user: {token: t}}]\n\
        clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
        contexts: [{name: a, context: {cluster: a, user: a}}]\n";
    std::fs::write(dev.path("kubeconfig"), kubeconfig).map_err(Failure::io("write a kubeconfig"))?;
    let cluster = json!({
        "id": "Kubernetes", "trust_domain": "cluster.local", "tokens": {"kind": "token-review"},
        "api_server": dev.path("kubeconfig").display().to_string(),
        "trusted_node_accounts": ["istio-system/ztunnel"],
        "client_certificates": {"live_objects": true},
        "publish": {"config_maps": {}, "cluster_trust_bundle": {}},
        "pod_certificates": {"signer": "signet.internal/workload"},
    });
    dev.set_ca("clusters", json!([cluster]))?;
    let mut ca = dev.start_ca().await?;
    let told = async || {
        let text = ca.ask(&["status"]).ok()?["checks"].to_string();
        text.contains("publisher config-map/Kubernetes").then_some(())
    };
    eventually("the publishers in status", WITHIN, told).await?;
    let status = ca.process.stop().await?;
    ensure(status.success(), || format!("{status}\n{}", ca.process.log()))
}
