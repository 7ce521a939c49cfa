//! A proxy that is reached only through Istio's `CreateCertificate`: its client knows nothing else of the CA.

use std::time::Duration;

use signet_tests::client::keys;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Dev, DevOptions, Envoy};
use signet_tests::istio_agent::{IstioAgent, Settings};
use signet_tests::stage::SERVER_ID;
use signet_tests::traffic::Traffic;
use signet_tests::upstream::Upstream;

const WITHIN: Duration = Duration::from_secs(120);
/// Half of it is for the start of a CA on a busy machine.
const LIFE: Duration = Duration::from_secs(30);
const ISTIO_ID: &str = "spiffe://cluster.local/ns/istio/sa/web";

fn installation() -> Outcome<Dev> {
    Dev::init(&DevOptions {
        // The service's certificate outlasts the absence of the CA; the caller's is the one that is looked at.
        svid_ttl: Some("5m".into()),
        workloads: vec!["server=default/server".into(), "istio=istio/web".into()],
        ..DevOptions::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_fed_from_replies_renews_under_requests_and_keeps_its_certificate_without_a_ca() -> Outcome {
    let dev = installation()?;
    let upstream = Upstream::start().await?;
    let mut ca = dev.start_ca().await?;
    let agent = dev.start_agent("server").await?;
    let bootstrap = Bootstrap::new(Side::Server, agent.socket(), upstream.address, ISTIO_ID)?;
    let server = Envoy::started("envoy-server", dev.directory(), &bootstrap).await?;
    let istio = IstioAgent::started(Settings::of(&dev, "istio", ISTIO_ID, LIFE)).await?;
    let bootstrap = Bootstrap::fed_by_files(Side::Client, istio.secrets(), server.listen, SERVER_ID)?;
    let proxy = Envoy::started("envoy-istio", dev.directory(), &bootstrap.reconnect_every(2)?).await?;
    let traffic = Traffic::start(proxy.listen, 2, Duration::from_millis(20));
    istio.until("two renewals", WITHIN, |view| view.received >= 3).await?;
    let newest = async || (proxy.secrets().await.ok()?.serial().ok()? == istio.view().serial).then_some(());
    eventually("the newest certificate in Envoy", WITHIN, newest).await?;
    let used = async || (traffic.tally().client_certificates.len() >= 2).then_some(());
    eventually("handshakes with renewed certificates", WITHIN, used).await?;
    // A failing renewal changes nothing that is in use.
    ca.process.kill();
    // A renewal that was under way may have been answered still; after one that failed, there is nothing more to come.
    let before = istio.until("a failed renewal", WITHIN, |view| view.failures_in_a_row >= 1).await?;
    let after = istio.until("another one", WITHIN, |view| view.failures > before.failures).await?;
    ensure(after.serial == before.serial && after.received == before.received, || format!("{after:?}"))?;
    let kept = async || (proxy.secrets().await.ok()?.serial().ok()? == before.serial).then_some(());
    eventually("the last good certificate in Envoy", WITHIN, kept).await?;
    let _ca = dev.start_ca().await?;
    istio.until("a certificate after the CA came back", WITHIN, |view| view.received > before.received).await?;
    let tally = traffic.stop().await;
    ensure(tally.failed == 0 && tally.succeeded > 100, || format!("{tally:#?}"))?;
    assert_eq!(tally.client_identities.keys().collect::<Vec<_>>(), [ISTIO_ID]);
    let root = dev.text("root-cert.pem")?;
    for envoy in [&proxy, &server] {
        let secrets = envoy.secrets().await?;
        secrets.chains_to(&[("the root", root.as_str())])?;
        assert_eq!(keys::ids(&secrets.roots)?, keys::ids(&root)?);
    }
    Ok(())
}
