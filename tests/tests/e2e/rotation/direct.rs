//! An Envoy that reads the trust bundle from the CA itself, without an agent, as `docs/proxies.md` shows.

use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::Bootstrap;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Dev, Envoy};
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

use super::{SOON, installation};

/// Writes a token of the server that ends after so many seconds to the file from which Envoy reads.
fn give_token(dev: &Dev, seconds: i64) -> Outcome {
    let mut token = Token::read(&dev.token("server")?)?;
    token.claims["exp"] = (now() + seconds).into();
    let signed = ClusterKey::of(dev)?.sign(&token)?;
    // Put into place as a whole, as Kubernetes does it.
    let (written, place) = (dev.path("token.new"), dev.path("token"));
    std::fs::write(&written, signed).map_err(Failure::io("write a token"))?;
    std::fs::rename(written, place).map_err(Failure::io("put a token into place"))
}

/// Starts the shipped proxy, with a certificate in files.
async fn proxy(dev: &Dev) -> Outcome<Envoy> {
    let files = dev.path("files");
    tools::run(dev.agent_command("server", &["fetch"])?.arg("--dir").arg(&files))?;
    let upstream = signet_tests::upstream::Upstream::start().await?;
    let places = (&*files, &*dev.path("root-cert.pem"), &*dev.path("token"));
    let bootstrap = Bootstrap::following_ca(dev.listen, places, upstream.address, CLIENT_ID)?;
    Envoy::started("envoy-direct", dev.directory(), &bootstrap).await
}

async fn has_roots(envoy: &Envoy, number: usize) -> Option<()> {
    let bundle = envoy.roots().await.ok()?;
    (bundle.matches("BEGIN CERTIFICATE").count() == number).then_some(())
}

#[tokio::test]
async fn a_real_envoy_follows_the_bundle_over_tls_with_its_token() -> Outcome {
    let dev = installation("1h", &["server=default/server"])?;
    let ca = dev.start_ca().await?;
    give_token(&dev, 3600)?;
    let envoy = proxy(&dev).await?;
    eventually("one root in Envoy", SOON, async || has_roots(&envoy, 1).await).await?;
    let open =
        async || ((ca.metrics().await.ok()?.sum("signet_ca_bundle_streams", &[]) - 1.0).abs() < 0.5).then_some(());
    eventually("the stream of Envoy", SOON, open).await?;
    ca.operator().prepare()?;
    eventually("two roots in Envoy", SOON, async || has_roots(&envoy, 2).await).await?;
    ca.operator().rollback()?;
    eventually("one root in Envoy again", SOON, async || has_roots(&envoy, 1).await).await
}

#[tokio::test]
async fn when_its_token_has_ended_it_keeps_what_it_has_and_goes_on_with_the_next_one() -> Outcome {
    let dev = installation("1h", &["server=default/server"])?;
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["tokens"]["leeway"] = "0s".into();
        Ok(())
    })?;
    let ca = dev.start_ca().await?;
    give_token(&dev, 5)?;
    let envoy = proxy(&dev).await?;
    let says = async |words: &str| envoy.process.log().contains(words).then_some(());
    eventually("the end of the stream", SOON, async || says("the token that opened this stream has ended").await)
        .await?;
    eventually("a refusal", SOON, async || says("request authenticate failure").await).await?;
    // A root that comes now does not reach it, and what it has stays in use.
    ca.operator().prepare()?;
    ensure(has_roots(&envoy, 1).await.is_some(), || "Envoy has other roots than before".to_owned())?;
    ensure(envoy.is_ready().await, || "Envoy is not ready any more".to_owned())?;
    give_token(&dev, 3600)?;
    eventually("two roots in Envoy", SOON, async || has_roots(&envoy, 2).await).await
}
