//! What operators see and what they run into.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, rules};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::limits::bound_by_permissions;
use signet_tests::harness::{Ca, Dev, probe};
use signet_tests::tools;
use tokio::task::JoinSet;
use tonic::Code;

const SHORT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_port_in_use_is_named_and_the_process_ends() -> Outcome {
    let dev = Dev::plain()?;
    for (key, address) in [("listen", dev.listen), ("ops", dev.ops)] {
        let _taken = TcpListener::bind(address).unwrap();
        let mut ca = Ca::start(&dev)?;
        let status = ca.process.wait(SHORT).await?;
        let log = ca.process.log();
        ensure(!status.success() && log.contains(key) && log.contains(&address.to_string()), || log.clone())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_second_ca_does_not_take_the_admin_socket_of_a_living_one() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let mut second = Ca::start(&dev)?;
    ensure(!second.process.wait(SHORT).await?.success(), || "two processes serve one configuration".to_owned())?;
    ensure(ca.ask(&["status"])?["ready"] == true, || "the first one lost its socket".to_owned())
}

#[tokio::test]
async fn a_read_only_state_directory_is_named_and_the_process_ends() -> Outcome {
    let dev = Dev::on_file()?;
    let config = signet_tests::harness::yaml::read(&dev.path("signet-ca.yaml"))?;
    let database = config["storage"].as_str().unwrap().trim_start_matches("sqlite://").to_owned();
    let log = tempfile::tempdir().unwrap();
    dev.set_ca("admin", format!("unix://{}/admin.sock", log.path().display()))?;
    let mode = |mode| std::fs::set_permissions(dev.directory(), std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o444)).unwrap();
    mode(0o555);
    let command = bound_by_permissions(&dev.ca_command(&["serve"])?)?;
    let mut process = signet_tests::harness::Process::start_command("ca", command, log.path())?;
    let ended = process.wait(SHORT).await;
    let text = process.log();
    mode(0o700);
    ensure(!ended?.success(), || format!("it runs:\n{text}"))?;
    ensure(text.contains(&database) && !text.contains("panicked"), || text.clone())
}

#[tokio::test]
async fn status_and_bundle_are_shown_to_people_and_programs() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let status = ca.ask(&["status"])?;
    assert_eq!(status["ready"], true);
    assert_eq!(status["trust_domain"], "cluster.local");
    assert_eq!(status["counters"]["issued"], 1);
    assert_eq!(status["root_count"], 1);
    let kinds: Vec<_> = status["authorities"].as_array().unwrap().iter().map(|a| a["kind"].as_str().unwrap()).collect();
    ensure(kinds.contains(&"root") && kinds.contains(&"issuing"), || format!("{kinds:?}"))?;
    let table = tools::run(&mut dev.ca_command(&["status"])?)?;
    ensure(table.contains("cluster.local") && table.contains("issuing"), || table.clone())?;
    let pem = tools::run(&mut dev.ca_command(&["bundle", "show", "--output", "pem"])?)?;
    assert_eq!(pem, dev.text("root-cert.pem")?);
    assert_eq!(rules::certificates_in(&pem), 1);
    assert_eq!(ca.ask(&["bundle", "show"])?["roots"][0]["certificate"], pem);
    drop(ca);
    let output = tools::output(&mut dev.ca_command(&["status"])?)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.code() == Some(1) && text.contains("ca-admin.sock"), || text.clone())
}

#[tokio::test]
async fn metrics_have_our_names_and_those_that_dashboards_know() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    client.certificate(&dev, "client").await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, "bad");
    client.refused(&ask, Code::Unauthenticated).await?;
    client.refused(&Ask::new("bad", &dev.token("client")?), Code::InvalidArgument).await?;
    let metrics = ca.metrics().await?;
    for (name, labels, expected) in [
        ("signet_ca_certificates_total", &["outcome=\"issued\""][..], 1.0),
        ("signet_ca_certificates_total", &["outcome=\"refused\"", "reason=\"token_malformed\""], 1.0),
        ("signet_ca_certificates_total", &["outcome=\"refused\"", "reason=\"csr_not_pem\""], 1.0),
        ("citadel_server_csr_count", &[], 3.0),
        ("citadel_server_success_cert_issuance_count", &[], 1.0),
        ("citadel_server_authentication_failure_count", &[], 1.0),
        ("citadel_server_csr_sign_err_count", &["error=\"CSR_ERROR\""], 1.0),
        ("signet_ca_request_duration_seconds_count", &[], 3.0),
        ("signet_ca_sign_duration_seconds_count", &[], 1.0),
    ] {
        let found = metrics.sum(name, labels);
        ensure((found - expected).abs() < 0.5, || format!("{name}{labels:?} is {found}, not {expected}"))?;
    }
    for name in [
        "citadel_server_root_cert_expiry_timestamp",
        "citadel_server_root_cert_expiry_seconds",
        "citadel_server_cert_chain_expiry_timestamp",
        "citadel_server_cert_chain_expiry_seconds",
        "citadel_server_csr_parsing_err_count",
        "citadel_server_id_extraction_err_count",
        "signet_ca_token_verification_duration_seconds_count",
        "signet_ca_decision_duration_seconds_count",
        "signet_ca_audit_commit_duration_seconds_count",
        "process_resident_memory_bytes",
    ] {
        ensure(metrics.has(name), || format!("{name} is missing; there are {:?}", metrics.names()))?;
    }
    Ok(())
}

#[tokio::test]
async fn probes_answer_and_unknown_paths_do_not() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    for (path, expected) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/../etc/passwd", 404)]
    {
        let (status, body) = probe::fetch(dev.ops, path).await?;
        ensure(status == expected, || format!("{path}: {status}\n{body}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn limits_answer_with_a_code_that_clients_retry() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("limits.per_identity.per_second", 1)?;
    dev.set_ca("limits.per_identity.burst", 2)?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
    for _ in 0..2 {
        client.issued(&ask).await?;
    }
    // All at once, so that however slow the machine is, few of them are let through by the passing of time.
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let (client, ask) = (client.clone(), ask.clone());
        calls.spawn(async move { client.call(&ask).await.map_or_else(|status| status.code(), |_| Code::Ok) });
    }
    let codes = calls.join_all().await;
    ensure(codes.contains(&Code::ResourceExhausted), || format!("{codes:?}"))?;
    // One identity's flood is no other identity's problem.
    client.certificate(&dev, "server").await.map(drop)
}
