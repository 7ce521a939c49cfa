//! How many bundle streams one identity may have, and when a stream ends.

use serde_json::json;
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::keys;
use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::process::eventually;
use signet_tests::stage::CLIENT_ID;
use tonic::Code;

use super::{SOON, holder, installation, settled, streaming_holder};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// How far behind `exp` a token is still accepted, in seconds.
const LEEWAY: i64 = 60;

/// A token of the workload `client` that is accepted for so many more seconds.
fn token_for(dev: &Dev, seconds: i64) -> Outcome<String> {
    let mut token = Token::read(&dev.token("client")?)?;
    token.claims["exp"] = json!(now() + seconds - LEEWAY);
    ClusterKey::of(dev)?.sign(&token)
}

#[tokio::test]
async fn five_certificates_of_one_identity_hold_no_more_streams_than_one_identity_may() -> Outcome {
    const LIMIT: usize = 10;
    let dev = installation("1h", &TWO)?;
    dev.set_ca("limits.bundle_streams_per_identity", LIMIT)?;
    let ca = dev.start_ca().await?;
    let mut held = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..5 {
        let (chain, key) = streaming_holder(&dev, "server").await?;
        for _ in 0..8 {
            match BundleStream::with_certificate(&dev, &chain, &key).await {
                Ok(stream) => held.push(stream),
                Err(status) => refused.push(status),
            }
        }
    }
    // Another way to be told apart, by what a client says of itself.
    let authorization = format!("Bearer {}", dev.token("server")?);
    let channel = signet_tests::client::certify::Client::connect(&dev).await?.channel;
    for digit in ["0", "1", "2"] {
        let instance = digit.repeat(32);
        let headers = [("authorization", authorization.as_str()), ("signet-instance", instance.as_str())];
        refused.extend(BundleStream::over(channel.clone(), &headers).await.err());
    }
    assert_eq!((held.len(), refused.len()), (LIMIT, 40 - LIMIT + 3));
    for status in refused {
        let is_told = status.message().contains("limits.bundle_streams_per_identity");
        ensure(status.code() == Code::ResourceExhausted && is_told, || status.to_string())?;
    }
    for stream in &mut held {
        stream.next().await?;
    }
    let mut other =
        BundleStream::with_token(&dev, &dev.token("client")?).await.map_err(Failure::while_doing("open"))?;
    other.next().await?;
    // Places come back.
    drop(held);
    let again = async || BundleStream::over(channel.clone(), &[("authorization", &authorization)]).await.ok();
    eventually("a free place", SOON, again).await?.next().await?;
    drop(ca);
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_the_agent_goes_on_with_the_next_one() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let good = dev.token("client")?;
    let mut stream =
        BundleStream::with_token(&dev, &token_for(&dev, 5)?).await.map_err(Failure::while_doing("open"))?;
    stream.next().await?;
    let status = stream.ended().await?;
    ensure(status.code() == Code::Unauthenticated && status.message().contains("token"), || status.to_string())?;
    // The same with a real agent, whose token is replaced in time, as kubelet does.
    let file = dev.path("tokens/client.jwt");
    std::fs::write(&file, token_for(&dev, 8)?).map_err(Failure::io("write a token"))?;
    let agent = dev.start_agent("client").await?;
    let stream = async || agent.identity().await.ok()?.bundle_stream.filter(|stream| stream.state == "up");
    let first = eventually("a bundle stream", SOON, stream).await?;
    std::fs::write(&file, good).map_err(Failure::io("write a token"))?;
    let next = async || stream().await.filter(|stream| stream.since != first.since);
    let next = eventually("another bundle stream", SOON, next).await?;
    ensure(next.last_error.is_empty(), || format!("it counts as a failure: {next:?}"))?;
    let log = agent.process.log();
    ensure(!log.contains("no bundle stream") && !log.contains("\"WARN\""), || log.clone())?;
    // What it acknowledged counts, and it goes on acknowledging.
    settled(&admin, 1).await?;
    ca.operator().prepare()?;
    let sequence = super::now_at(&admin).await?.bundle_sequence;
    let counted = async || (holder(&admin, CLIENT_ID).await.ok()?.bundle_sequence == sequence).then_some(());
    eventually("the acknowledgement of the next bundle", SOON, counted).await
}

#[tokio::test]
async fn a_stream_ends_at_once_when_its_certificate_is_revoked_and_others_go_on() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let (chain, key) = streaming_holder(&dev, "server").await?;
    let (other_chain, other_key) = streaming_holder(&dev, "server").await?;
    let open = async |chain: &str, key: &str| {
        let stream = BundleStream::with_certificate(&dev, chain, key).await;
        let mut stream = stream.map_err(Failure::while_doing("open"))?;
        stream.next().await?;
        Ok::<_, Failure>(stream)
    };
    let mut revoked = open(&chain, &key).await?;
    let mut other = open(&other_chain, &other_key).await?;
    ca.operator().revoke_certificate(&keys::serial(&keys::facts(&chain)?), "key_compromise")?;
    let status = revoked.ended_after_an_update().await?;
    ensure(status.code() == Code::Unauthenticated && status.message().contains("certificate"), || status.to_string())?;
    // It gets the lists that name the first one.
    other.next().await?;
    ensure(open(&chain, &key).await.is_err(), || "a revoked certificate opens a stream".to_owned())
}
