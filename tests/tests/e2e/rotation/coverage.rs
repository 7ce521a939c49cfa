//! Nothing signs before everybody knows it: who is missing is named, and only force goes over it.

use std::time::{Duration, Instant};

use signet_proto::admin::v1alpha1::LearnsBy;
use signet_tests::client::admin::{active_root, coverage as covered};
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::certify::Client;
use signet_tests::client::keys;
use signet_tests::client::sds::{Stream, acknowledge, refuse, subscribe};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{ROTATION, keys as config};
use signet_tests::harness::{Dev, Envoy};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::tools;

use super::{SOON, active, holder, installation, now_at, prepared, settled, streaming_holder, until};

pub(super) const TWO: [&str; 2] = ["client=default/client", "server=default/server"];
/// Longer than the propagation time of an installation.
const HELD: Duration = Duration::from_secs(4);

/// For as long as it is looked at, this root goes on to sign.
pub(super) async fn holds(admin: &signet_tests::client::admin::Admin, root: &str) -> Outcome {
    let start = Instant::now();
    while start.elapsed() < HELD {
        let rotation = now_at(admin).await?;
        ensure(active_root(&rotation) == root, || format!("activated without coverage: {rotation:?}"))?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn open(dev: &Dev, workload: &str) -> Outcome<BundleStream> {
    BundleStream::with_token(dev, &dev.token(workload)?).await.map_err(Failure::while_doing("open a bundle stream"))
}

#[tokio::test]
async fn an_agent_that_never_acknowledges_is_waited_for_and_named_until_somebody_forces_it() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    streaming_holder(&dev, "server").await?;
    let mut silent = open(&dev, "server").await?;
    let first = silent.next().await?;
    silent.acknowledge(&first).await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    let old = settled(&admin, 2).await?;
    operator.rotate()?;
    let new = prepared(&admin).await?;
    silent.until(first.sequence + 1).await?;
    until(&admin, "everybody else", SOON, |rotation| (covered(rotation) == (1, 2)).then_some(())).await?;
    holds(&admin, &old).await?;
    assert_eq!(operator.behind()?, [SERVER_ID]);
    let told = operator.refused(&["authority", "activate", &new])?;
    ensure(told.contains(SERVER_ID) && !told.contains(CLIENT_ID), || format!("the laggard is not named: {told}"))?;
    // Force needs a reason, and both are on record.
    let nameless = operator.run(&["authority", "activate", &new, "--force"])?;
    ensure(nameless.is_err(), || "forced without a reason".to_owned())?;
    assert_eq!(active_root(&now_at(&admin).await?), old);
    operator.done(&["authority", "activate", &new, "--force", "--reason", "the server is being replaced"])?;
    active(&admin, &new).await?;
    let events = ca.audit(&[])?;
    let forced = events.iter().find(|event| event["kind"] == "admin" && event["outcome"] == "done");
    let forced = forced.ok_or_else(|| Failure::unexpected(format!("no admin event: {events:#?}")))?.to_string();
    ensure(forced.contains("the server is being replaced") && forced.contains("force"), || forced.clone())?;
    let refused = events.iter().any(|event| event["kind"] == "admin" && event["outcome"] == "refused");
    ensure(refused, || "the refused activation is not on record".to_owned())
}

#[tokio::test]
async fn a_late_acknowledgement_lets_the_rotation_go_on_by_itself() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    streaming_holder(&dev, "server").await?;
    let mut late = open(&dev, "server").await?;
    let first = late.next().await?;
    late.acknowledge(&first).await?;
    let admin = ca.admin()?;
    let old = settled(&admin, 1).await?;
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    let second = late.until(first.sequence + 1).await?;
    holds(&admin, &old).await?;
    late.acknowledge(&second).await?;
    active(&admin, &new).await
}

#[tokio::test]
async fn a_holder_whose_certificate_ends_is_waited_for_no_longer() -> Outcome {
    // Long enough for a busy machine to get to the point before it ends.
    let dev = installation("30s", &TWO)?;
    let ca = dev.start_ca().await?;
    streaming_holder(&dev, "server").await?;
    let mut silent = open(&dev, "server").await?;
    let first = silent.next().await?;
    silent.acknowledge(&first).await?;
    let admin = ca.admin()?;
    let old = settled(&admin, 1).await?;
    let ends = holder(&admin, SERVER_ID).await?.not_after.map_or(0, |at| at.seconds);
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    holds(&admin, &old).await?;
    active(&admin, &new).await?;
    let now = signet_tests::client::token::now();
    ensure(now + 1 >= ends, || format!("activated {} s before the holder's certificate ended", ends - now))
}

#[tokio::test]
async fn a_proxy_that_refuses_the_bundle_is_named_with_its_words_until_it_takes_it() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let mut proxy = Stream::open(&agent, subscribe("picky", &["default", "ROOTCA"])).await?;
    let read = |result: Result<_, tonic::Status>| result.map_err(Failure::while_doing("read the agent's stream"));
    let names = ["default", "ROOTCA"];
    let first = read(proxy.next().await)?;
    proxy.send(acknowledge(&first, &names)).await?;
    let admin = ca.admin()?;
    let old = settled(&admin, 1).await?;
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    let second = read(proxy.next().await)?;
    proxy.send(refuse(&second, &names, "I do not like this root")).await?;
    let named = async || {
        let holder = holder(&admin, CLIENT_ID).await.ok()?;
        holder.refused?.reason.contains("I do not like this root").then_some(())
    };
    eventually("the refusal among the holders", SOON, named).await?;
    holds(&admin, &old).await?;
    let told = ca.operator().refused(&["authority", "activate", &new])?;
    ensure(told.contains(CLIENT_ID) && told.contains("I do not like this root"), || told.clone())?;
    // It thinks again.
    proxy.send(acknowledge(&second, &names)).await?;
    active(&admin, &new).await?;
    assert_eq!(holder(&admin, CLIENT_ID).await?.refused, None);
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_says_nothing_holds_its_agent_back_until_it_leaves() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let mut proxy = Stream::open(&agent, subscribe("silent", &["ROOTCA"])).await?;
    let first = proxy.next().await.map_err(Failure::while_doing("read the agent's stream"))?;
    proxy.send(acknowledge(&first, &["ROOTCA"])).await?;
    let admin = ca.admin()?;
    let old = settled(&admin, 1).await?;
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    proxy.next().await.map_err(Failure::while_doing("read the agent's stream"))?;
    holds(&admin, &old).await?;
    assert_eq!(ca.operator().behind()?, [CLIENT_ID]);
    drop(proxy);
    active(&admin, &new).await
}

/// How soon a bundle is in Envoy, and how soon the CA knows: about a second on an idle machine. A machine that stalls now
/// and then is late now and then; somebody who polls is late most of the time.
const LOADED: Duration = Duration::from_secs(3);
const ACKNOWLEDGED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_bundle_reaches_agent_and_envoy_within_seconds_and_nothing_is_issued() -> Outcome {
    let dev = installation("1h", &TWO)?;
    dev.set_ca(config::PROPAGATION, "1h")?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let behind = signet_tests::harness::ports::free()?;
    let bootstrap = Bootstrap::new(Side::Client, agent.socket(), behind, SERVER_ID)?;
    let envoy = Envoy::started("envoy", dev.directory(), &bootstrap).await?;
    let admin = ca.admin()?;
    settled(&admin, 1).await?;
    let before = agent.identity().await?;
    let issued = ca.audit(&["--outcome", "issued"])?.len();
    let mut quick = 0;
    for roots in [2, 1, 2, 1, 2, 1] {
        let operator = ca.operator();
        let _answer = if roots == 2 { operator.prepare()? } else { operator.rollback()? };
        let start = Instant::now();
        let loaded = async || (keys::ids(&envoy.secrets().await.ok()?.roots).ok()?.len() == roots).then_some(());
        eventually("the bundle in Envoy", SOON, loaded).await?;
        let loaded = start.elapsed();
        let acknowledged = |rotation: &signet_proto::admin::v1alpha1::Rotation| {
            let coverage = rotation.coverage.as_ref()?;
            (coverage.covered == 1 && coverage.sequence == rotation.bundle_sequence).then_some(())
        };
        until(&admin, "the acknowledgement", SOON, acknowledged).await?;
        let acknowledged = start.elapsed();
        let in_time = loaded < LOADED && acknowledged < ACKNOWLEDGED;
        quick += u32::from(in_time);
        if !in_time {
            tools::complain(&format!(
                "{roots} roots reached Envoy after {loaded:?} and were known after {acknowledged:?}"
            ));
        }
        assert_eq!(agent.identity().await?.roots, u32::try_from(roots).unwrap());
    }
    ensure(quick >= 3, || format!("only {quick} of 6 bundles were there in time"))?;
    let after = agent.identity().await?;
    assert_eq!((after.serial, after.renewals), (before.serial, before.renewals));
    let issued_since = ca.audit(&["--outcome", "issued"])?.len() - issued;
    ensure(issued_since == 0, || format!("{issued_since} certificates were issued"))
}

#[tokio::test]
async fn those_who_learn_by_replies_are_counted_by_their_replies() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let old = settled(&admin, 1).await?;
    let first = holder(&admin, CLIENT_ID).await?;
    assert_eq!((first.learns_by(), first.bundle_sequence), (LearnsBy::Reply, now_at(&admin).await?.bundle_sequence));
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    holds(&admin, &old).await?;
    assert_eq!(holder(&admin, CLIENT_ID).await?.bundle_sequence, first.bundle_sequence);
    let reply = Client::connect(&dev).await?.certificate(&dev, "client").await?;
    assert_eq!(keys::ids(reply.last().unwrap())?.len(), 2, "the reply carries both roots");
    until(&admin, "activation", ROTATION, |rotation| (active_root(rotation) == new).then_some(())).await
}
