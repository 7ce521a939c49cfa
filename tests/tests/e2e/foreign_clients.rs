//! The gRPC library of C++ and Python on the agent's socket. By itself it sends the socket's path as `:authority`, which is no
//! authority of HTTP (RFC 3986 section 3.2.2 knows no host of that form for a path), and is refused below our code.

use std::path::Path;
use std::process::Command;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message as _;
use serde_json::{Value, json};
use signet_tests::client::sds::{self, subscribe};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Dev, yaml};
use signet_tests::tools;

const SDS: &str = "/envoy.service.secret.v3.SecretDiscoveryService";

/// Makes one call; gives its code, its details and its response.
fn call(socket: &Path, method: &str, kind: &str, names: &[&str], authority: Option<&str>) -> Outcome<Value> {
    let request = subscribe("python", names).encode_to_vec();
    let request: String = request.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new(tools::python("grpc")?);
    command.args(["-c", include_str!("foreign_client.py")]).arg(socket).args([method, kind, &request]).args(authority);
    serde_json::from_str(&tools::run(&mut command)?).map_err(Failure::while_doing("read what the client tells"))
}

fn secrets(told: &Value) -> Outcome<Vec<String>> {
    let hex = told["response"].as_str().ok_or_else(|| Failure::unexpected(format!("no response: {told}")))?;
    let bytes: Result<Vec<u8>, _> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect();
    let response = DiscoveryResponse::decode(bytes.unwrap().as_slice()).map_err(Failure::while_doing("decode"))?;
    Ok(sds::secrets(&response)?.into_iter().map(|secret| secret.name).collect())
}

#[tokio::test]
async fn a_client_that_names_a_host_is_served_and_one_that_names_the_socket_is_reset() -> Outcome {
    let dev = Dev::plain()?;
    dev.edit("agent-client.yaml", |config| yaml::set(config, "log", json!({ "level": "info,h2::server=debug" })))?;
    let _ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let fetch = |authority| call(agent.socket(), &format!("{SDS}/FetchSecrets"), "unary", &["default"], authority);
    for authority in ["localhost", "localhost:0", "signet-agent", "spire_agent", "[::1]:80"] {
        assert_eq!(secrets(&fetch(Some(authority))?)?, ["default"], "{authority}");
    }
    let path = agent.socket().to_string_lossy().into_owned();
    for authority in [None, Some(&*path), Some("tmp%2Fagent.sock"), Some("outbound|15012||agent"), Some("")] {
        let told = fetch(authority)?;
        // Once these are served, docs/proxies.md need not ask for an authority any more.
        assert_eq!(told["code"], "INTERNAL", "{authority:?}: {told}");
        let details = told["details"].as_str().unwrap_or_default();
        ensure(details.contains("RST_STREAM with error code 1"), || format!("{authority:?}: {told}"))?;
    }
    let own = path.trim_start_matches('/').replace('/', "%2F");
    let log = agent.process.log();
    ensure(log.contains(&format!("malformed authority (b\\\"{own}\\\")")), || format!("{own} is not in {log}"))
}

#[tokio::test]
async fn a_foreign_client_streams_and_is_told_what_is_not_served() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let call = |method: &str, kind, names: &[&str]| call(agent.socket(), method, kind, names, Some("localhost"));
    let stream = format!("{SDS}/StreamSecrets");
    let mut got = secrets(&call(&stream, "stream", &["default", "ROOTCA"])?)?;
    got.sort();
    assert_eq!(got, ["ROOTCA", "default"]);
    // Without names: all.
    assert_eq!(secrets(&call(&stream, "stream", &[])?)?.len(), 2);
    for (method, kind, names, code, words) in [
        (&*format!("{SDS}/FetchSecrets"), "unary", &["defualt"][..], "NOT_FOUND", "served are: ROOTCA, default"),
        (&*format!("{SDS}/FetchSecrets"), "unary", &["x"; 1000], "INVALID_ARGUMENT", "at most 128"),
        (&stream, "stream", &["x"; 1000], "INVALID_ARGUMENT", "at most 128"),
        (&*format!("{SDS}/DeltaSecrets"), "stream", &["default"], "UNIMPLEMENTED", "incremental SDS"),
        (&*format!("{SDS}/NoSuchCall"), "unary", &["default"], "UNIMPLEMENTED", ""),
        ("/SpiffeWorkloadAPI/FetchX509SVID", "stream", &[], "UNIMPLEMENTED", ""),
        ("/SpiffeWorkloadAPI/FetchJWTSVID", "unary", &[], "UNIMPLEMENTED", ""),
    ] {
        let told = call(method, kind, names)?;
        assert_eq!(told["code"], code, "{method}: {told}");
        let details = told["details"].as_str().unwrap_or_default();
        ensure(details.contains(words), || format!("{method}: {told}"))?;
    }
    Ok(())
}
