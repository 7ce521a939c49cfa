//! Real Envoys, configured by the bootstraps that we ship, fed by real agents.

use std::time::Duration;

use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Dev, DevOptions, Envoy};
use signet_tests::stage::{CLIENT_ID, SERVER_ID, Stage};
use signet_tests::traffic::{self, Traffic};

const WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

async fn stage(svid_ttl: Option<&str>) -> Outcome<Stage> {
    let dev = Dev::init(&DevOptions { svid_ttl: svid_ttl.map(str::to_owned), ..DevOptions::default() })?;
    Stage::set(dev, 2, |_| {}).await
}

fn calm(tally: &traffic::Tally) -> Outcome {
    ensure(tally.failed == 0, || {
        format!("{} of {} requests failed: {:#?}", tally.failed, tally.failed + tally.succeeded, tally.first_failures)
    })
}

#[tokio::test]
async fn two_envoys_speak_mutual_tls_and_each_knows_the_other() -> Outcome {
    let stage = stage(None).await?;
    let body = traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    let headers: serde_json::Value = serde_json::from_str(&body).map_err(Failure::while_doing("read the echo"))?;
    let xfcc = headers["x-forwarded-client-cert"].as_str().unwrap_or_default();
    ensure(xfcc.contains(&format!("URI={CLIENT_ID}")), || format!("the service learns {xfcc:?}"))?;
    for (envoy, agent, id) in
        [(&stage.client, &stage.client_agent, CLIENT_ID), (&stage.server, &stage.server_agent, SERVER_ID)]
    {
        let loaded = envoy.certificates().await?;
        let serial = agent.identity().await?.serial;
        let expected = serial.trim_start_matches('0').to_owned();
        ensure(loaded.iter().any(|one| one.uris == [id] && one.serial.trim_start_matches('0') == expected), || {
            format!("Envoy holds {loaded:?}, the agent serves {serial} of {id}")
        })?;
    }
    // Versions are the same on both sides, so that they can be compared.
    for (envoy, agent) in [(&stage.client, &stage.client_agent), (&stage.server, &stage.server_agent)] {
        let (shown, told) = (envoy.versions().await?, agent.inspect().await?.secrets);
        let equal = told.iter().all(|secret| shown.get(&secret.name) == Some(&secret.version));
        ensure(equal && told.len() == 2, || format!("Envoy shows {shown:?}, the agent {told:?}"))?;
    }
    // A caller that is not admitted, and one that forges the header.
    let forged = Bootstrap::new(Side::Client, stage.client_agent.socket(), stage.server.listen, CLIENT_ID)?;
    let wrong_server = Envoy::started("envoy-wrong-server", stage.dev.directory(), &forged).await?;
    let refused = traffic::once(wrong_server.listen).await;
    ensure(refused.as_ref().is_err_and(|error| error.starts_with("503")), || format!("a wrong server: {refused:?}"))?;
    ensure(wrong_server.stat("cluster.service.ssl.fail_verify_san").await? >= 1, || {
        "no SAN failure is counted".into()
    })?;
    let impostor = Bootstrap::new(Side::Client, stage.server_agent.socket(), stage.server.listen, SERVER_ID)?;
    let wrong_client = Envoy::started("envoy-wrong-client", stage.dev.directory(), &impostor).await?;
    let refused = traffic::once(wrong_client.listen).await;
    ensure(refused.as_ref().is_err_and(|error| error.starts_with("503")), || format!("a wrong client: {refused:?}"))?;
    // And whoever has no certificate at all.
    let naked = traffic::once(stage.server.listen).await;
    ensure(naked.is_err(), || format!("plain text was answered: {naked:?}"))?;
    traffic::once(stage.entrance()).await.map(drop).map_err(Failure::unexpected)
}

#[tokio::test]
async fn renewed_certificates_are_used_and_no_request_fails() -> Outcome {
    let stage = stage(Some("20s")).await?;
    let traffic = Traffic::start(stage.entrance(), 2, PAUSE);
    let renewed = async || {
        let (client, server) = (stage.client_agent.identity().await.ok()?, stage.server_agent.identity().await.ok()?);
        let handshakes = traffic.tally().client_certificates.len();
        (client.renewals >= 2 && server.renewals >= 2 && handshakes >= 3).then_some(())
    };
    eventually("two renewals of each certificate, each used", WITHIN, renewed).await?;
    let tally = traffic.stop().await;
    calm(&tally)?;
    assert_eq!(tally.client_identities.keys().collect::<Vec<_>>(), [CLIENT_ID]);
    for envoy in [&stage.client, &stage.server] {
        let stats = envoy.stats().await?;
        let names: Vec<_> = stats.names().into_iter().filter(|name| name.contains("sds")).collect();
        ensure(!names.is_empty(), || "Envoy counts no SDS".to_owned())?;
        let rejected: f64 =
            names.iter().filter(|name| name.contains("update_rejected")).map(|name| stats.sum(name, &[])).sum();
        ensure(rejected < 0.5, || format!("Envoy rejected {rejected} updates"))?;
    }
    Ok(())
}

#[tokio::test]
async fn while_the_ca_is_away_everything_goes_on_even_for_a_restarted_envoy() -> Outcome {
    let mut stage = stage(Some("60s")).await?;
    let traffic = Traffic::start(stage.entrance(), 1, PAUSE);
    stage.ca.process.kill();
    let before = stage.client_agent.identity().await?;
    // Longer than a renewal interval: both agents have tried and failed.
    let failing = async || {
        let (client, server) = (stage.client_agent.identity().await.ok()?, stage.server_agent.identity().await.ok()?);
        (client.failures_in_a_row >= 1 && server.failures_in_a_row >= 1).then_some(client)
    };
    let identity = eventually("failed renewals", WITHIN, failing).await?;
    assert_eq!(identity.serial, before.serial, "the last good certificate is kept");
    ensure(!identity.last_error.is_empty(), || "inspect does not say what is wrong".to_owned())?;
    let degraded = async || {
        let (status, readiness) = stage.client_agent.readiness().await.ok()?;
        (status == 200 && readiness.to_string().contains("degraded")).then_some(())
    };
    eventually("readiness that is degraded and no worse", WITHIN, degraded).await?;
    let metrics = stage.client_agent.metrics().await?;
    let counted = metrics.sum("signet_agent_renewals_total", &[])
        - metrics.sum("signet_agent_renewals_total", &["result=\"ok\""])
        - metrics.sum("signet_agent_renewals_total", &["result=\"first\""]);
    ensure(metrics.has("signet_agent_renewals_total") && counted >= 1.0, || {
        format!("no failure is counted: {:?}", metrics.names())
    })?;
    // A proxy that is restarted now still gets its certificate: a second one, so that the traffic goes on meanwhile.
    let bootstrap = Bootstrap::new(Side::Client, stage.client_agent.socket(), stage.server.listen, SERVER_ID)?;
    let late = Envoy::started("envoy-late", stage.dev.directory(), &bootstrap).await?;
    traffic::once(late.listen).await.map_err(Failure::unexpected)?;
    stage.ca = stage.dev.start_ca().await?;
    let recovered = async || {
        let (client, server) = (stage.client_agent.identity().await.ok()?, stage.server_agent.identity().await.ok()?);
        (client.renewals > before.renewals && server.renewals >= 1 && client.failures_in_a_row == 0).then_some(())
    };
    eventually("renewals after the CA came back", WITHIN, recovered).await?;
    let ready = async || {
        let (status, readiness) = stage.client_agent.readiness().await.ok()?;
        (status == 200 && !readiness.to_string().contains("degraded")).then_some(())
    };
    eventually("full readiness", WITHIN, ready).await?;
    calm(&traffic.stop().await)
}

#[tokio::test]
async fn an_envoy_waits_for_its_first_certificate_and_survives_a_restart_of_the_agent() -> Outcome {
    let dev = Dev::plain()?;
    let upstream = signet_tests::upstream::Upstream::start().await?;
    let mut agent = signet_tests::harness::Agent::start(&dev, "server")?;
    let bootstrap = Bootstrap::new(Side::Server, agent.socket(), upstream.address, CLIENT_ID)?;
    let mut envoy = Envoy::start("envoy", dev.directory(), &bootstrap)?;
    let connected = async || agent.inspect().await.ok().filter(|answer| !answer.streams.is_empty()).map(drop);
    eventually("Envoy on the agent's socket", WITHIN, connected).await?;
    ensure(!envoy.is_ready().await, || "Envoy is ready without a certificate".to_owned())?;
    let open = tokio::net::TcpStream::connect(bootstrap.listen).await;
    ensure(open.is_err(), || "the port is open without a certificate".to_owned())?;
    let _ca = dev.start_ca().await?;
    envoy.ready().await?;
    let first = agent.identity().await?.serial;
    agent.process.kill();
    drop(agent);
    let agent = dev.start_agent("server").await?;
    let second = agent.identity().await?.serial;
    ensure(first != second, || "the agent kept a key over its own end".to_owned())?;
    let second = second.trim_start_matches('0').to_owned();
    let switched = async || {
        let loaded = envoy.certificates().await.ok()?;
        loaded.iter().any(|one| one.serial.trim_start_matches('0') == second).then_some(())
    };
    eventually("the new agent's certificate in Envoy", WITHIN, switched).await
}
