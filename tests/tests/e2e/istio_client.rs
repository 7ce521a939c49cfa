//! A proxy that is reached only through Istio's `CreateCertificate`: its client knows nothing else of the CA.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair, SanType};
use signet_tests::client::ask::Ask;
use signet_tests::client::bundle_stream::with_identity;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Dev, DevOptions, Envoy};
use signet_tests::istio_agent::{IstioAgent, Settings};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::traffic::Traffic;
use signet_tests::upstream::Upstream;
use tonic::Code;

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

/// What istio-agent shows when `PROV_CERT` names a directory, beside its token or, where there is none, instead of it.
#[tokio::test]
async fn a_client_certificate_takes_the_place_of_no_token_and_a_foreign_one_ends_the_handshake() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let made = csr::like_ztunnel(None)?;
    let ask = Ask::like_istio_agent(&made.csr, &dev.token("client")?);
    let reply = Client::connect(&dev).await?.issued(&ask).await?;
    let [chain @ .., _roots] = reply.as_slice() else { return Err(Failure::unexpected("an empty reply")) };
    let with_own = Client::over(with_identity(&dev, &chain.concat(), &made.key).await?);
    let next = Ask { csr: csr::like_ztunnel(None)?.csr, ..ask };
    with_own.issued(&next).await?;
    let bare = Ask { authorization: Vec::new(), ..next.clone() };
    let told = with_own.refused(&bare, Code::Unauthenticated).await?;
    ensure(told == "request authenticate failure", || told.clone())?;
    let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
    params.subject_alt_names = vec![SanType::URI(CLIENT_ID.try_into().unwrap())];
    let foreign = params.self_signed(&key).unwrap().pem();
    // In TLS 1.3 the client hears of it only after its own part of the handshake.
    let refused = match with_identity(&dev, &foreign, &key.serialize_pem()).await {
        Ok(channel) => Client::over(channel).call(&next).await.err().map(|status| status.code()),
        Err(_) => Some(Code::Unavailable),
    };
    ensure(matches!(refused, Some(Code::Unavailable | Code::Unknown)), || format!("{refused:?}"))
}
