//! Two CA processes on one database: one of them wins each step, and both end in the same state.

use std::time::Duration;

use signet_proto::admin::v1alpha1::{AuthorityState, LearnsBy, Rotation};
use signet_tests::client::admin::{active_root, is_settled, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::beside::{Beside, Echo};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{ROTATION, Replica};
use signet_tests::harness::{Agent, Ca, Dev, Envoy};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::traffic::Traffic;
use signet_tests::upstream::Upstream;

use super::{SOON, calm, installation, retired_once, until};

/// Two processes; the client's agent asks one, the server's agent the other.
struct Pair {
    client: Envoy,
    _server: Envoy,
    _agents: (Agent, Agent),
    first: Ca,
    second: Ca,
    _upstream: Upstream,
    replica: Replica,
    dev: Dev,
}

impl Pair {
    async fn start() -> Outcome<Self> {
        let dev = installation("20s", &["client=default/client", "server=default/server"])?;
        let replica = dev.replica()?;
        replica.serve_agent(&dev, "server")?;
        let upstream = Upstream::start().await?;
        // At once, on one authority that neither of them has used.
        let first = Ca::start(&dev)?;
        let second = replica.start(&dev).await?;
        let mut first = first;
        first.ready().await?;
        let agents = (dev.start_agent("client").await?, dev.start_agent("server").await?);
        let bootstrap = Bootstrap::new(Side::Server, agents.1.socket(), upstream.address, CLIENT_ID)?;
        let server = Envoy::started("envoy-server", dev.directory(), &bootstrap).await?;
        let bootstrap =
            Bootstrap::new(Side::Client, agents.0.socket(), server.listen, SERVER_ID)?.reconnect_every(2)?;
        let client = Envoy::started("envoy-client", dev.directory(), &bootstrap).await?;
        Ok(Self { client, _server: server, _agents: agents, first, second, _upstream: upstream, replica, dev })
    }

    /// Waits until both processes say the same, and what they say.
    async fn agree(&self) -> Outcome<Rotation> {
        let (first, second) = (self.first.admin()?, self.second.admin()?);
        let same = async || {
            let (one, other) = (first.rotation().await.ok()?, second.rotation().await.ok()?);
            (essence(&one) == essence(&other)).then_some(one)
        };
        eventually("both processes to agree", SOON, same).await
    }
}

/// What must be the same everywhere.
fn essence(rotation: &Rotation) -> (u64, Vec<(String, AuthorityState, u64)>) {
    let authorities = rotation.authorities.iter();
    let parts = authorities.map(|one| (one.id.clone(), one.state(), one.generation)).collect();
    (rotation.bundle_sequence, parts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_rotate_once_and_end_in_the_same_state() -> Outcome {
    let pair = Pair::start().await?;
    let before = pair.agree().await?;
    assert_eq!(root_ids(&before).len(), 1, "both started at once with one root");
    let old = active_root(&before);
    let traffic = Traffic::start(pair.client.listen, 2, Duration::from_millis(20));
    // The same command to both at the same moment.
    let mut both = [
        Beside::start(pair.first.command(&["authority", "rotate"], &[])?, Echo::Kept)?,
        Beside::start(pair.second.command(&["authority", "rotate"], &[])?, Echo::Kept)?,
    ];
    for command in &mut both {
        let status = command.wait(SOON).await?;
        ensure(status.success(), || format!("{status}: {:?}", command.complained()))?;
    }
    let during = pair.agree().await?;
    assert_eq!(root_ids(&during).len(), 2, "two commands, one new root: {during:?}");
    assert_eq!(during.bundle_sequence, before.bundle_sequence + 1);
    let settled = |rotation: &Rotation| {
        (is_settled(rotation) && !root_ids(rotation).contains(&old)).then(|| active_root(rotation))
    };
    let new = until(&pair.second.admin()?, "the end of the rotation", ROTATION, settled).await?;
    let after = pair.agree().await?;
    assert_eq!((active_root(&after), root_ids(&after).len()), (new, 1));
    assert_eq!(after.bundle_sequence, before.bundle_sequence + 2);
    retired_once(&pair.first, &old).await?;
    calm(&traffic.stop().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_process_is_killed_the_other_finishes() -> Outcome {
    let mut pair = Pair::start().await?;
    let old = active_root(&pair.agree().await?);
    // The client's agent asks the one that stays: the other one's agent would rightly be missed.
    pair.first.operator().rotate()?;
    pair.first.process.kill();
    let second = pair.second.admin()?;
    until(&second, "a step of the other process", SOON, |rotation| (root_ids(rotation).len() == 2).then_some(()))
        .await?;
    pair.first = pair.dev.start_ca().await?;
    pair.second.process.kill();
    let first = pair.first.admin()?;
    until(&first, "activation", ROTATION, |rotation| (active_root(rotation) != old).then_some(())).await?;
    pair.second = pair.replica.start(&pair.dev).await?;
    let gone = |rotation: &Rotation| (is_settled(rotation) && !root_ids(rotation).contains(&old)).then_some(());
    until(&second, "the end of the rotation", ROTATION, gone).await?;
    let after = pair.agree().await?;
    assert_eq!(root_ids(&after).len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_one_process_hears_the_other_counts() -> Outcome {
    let pair = Pair::start().await?;
    let state = pair.agree().await?;
    pair.first.operator().prepare()?;
    for ca in [&pair.first, &pair.second] {
        let whole = |rotation: &Rotation| {
            let coverage = rotation.coverage.as_ref()?;
            let whole = coverage.covered == coverage.holders && coverage.holders == 2;
            (whole && rotation.bundle_sequence > state.bundle_sequence).then_some(())
        };
        until(&ca.admin()?, "both agents to be counted", SOON, whole).await?;
        let holders = ca.admin()?.holders(false).await.map_err(Failure::while_doing("list holders"))?;
        ensure(holders.iter().all(|holder| holder.learns_by() == LearnsBy::Acknowledged), || format!("{holders:?}"))?;
    }
    Ok(())
}
