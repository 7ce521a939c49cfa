//! A root that Signet takes and a real Envoy does not: the proxies keep what they have, say so, go on with renewed
//! certificates, and nothing signs that they do not know.

use std::time::{Duration, Instant};

use serde_json::Value;
use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::envoy::Loaded;
use signet_tests::harness::odd_root::{Oddity, odd_root};
use signet_tests::harness::plugged::{Mount, OwnCa, Set, istio_names};
use signet_tests::harness::process::eventually;
use signet_tests::stage::{CLIENT_ID, SERVER_ID, Stage};
use signet_tests::traffic::{Tally, Traffic};

use super::files::{id, plugged_for};
use super::{SOON, active, calm, now_at, settled, until};

/// What Envoy says about roots that it cannot read.
const ENVOYS_WORDS: &str = "Failed to load trusted CA certificates";

/// A stage whose next signer's root comes along with one that the proxies refuse.
struct Picky {
    stage: Stage,
    traffic: Traffic,
    mount: Mount,
    old: OwnCa,
    new: OwnCa,
    /// The files of the next signer, and the same with the odd root.
    good: Set,
    odd: Set,
}

impl Picky {
    async fn set(svid_ttl: &str) -> Outcome<Self> {
        let (old, new) = (OwnCa::root("old root")?, OwnCa::root("new root")?);
        let (dev, mount) = plugged_for(&istio_names(&old.certify("old signer")?, &old), svid_ttl)?;
        let stage = Stage::set(dev, 2, |_| {}).await?;
        assert_eq!(settled(&stage.ca.admin()?, 2).await?, id(&old)?);
        let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
        let good = istio_names(&new.certify("new signer")?, &new);
        let mut odd = good.clone();
        odd[2].1 += &odd_root(Oddity::Name)?;
        Ok(Self { stage, traffic, mount, old, new, good, odd })
    }

    /// The operator mounts the set with the odd root; waits until both proxies have refused it.
    async fn spoil(&mut self) -> Outcome {
        self.mount.swap(&self.odd)?;
        let named = async || {
            let behind = self.refusing().ok()?;
            (behind.len() == 2 && behind.iter().all(|(_, why)| why.contains(ENVOYS_WORDS))).then_some(behind)
        };
        let behind = eventually("both refusals among the holders", SOON, named).await?;
        assert_eq!(behind.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [CLIENT_ID, SERVER_ID]);
        Ok(())
    }

    /// `holders list --behind`: names and why they refuse, in the order of the names.
    fn refusing(&self) -> Outcome<Vec<(String, String)>> {
        let answer = self.stage.ca.operator().done(&["holders", "list", "--behind"])?;
        let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let holders = answer["holders"].as_array().cloned().unwrap_or_default();
        let mut named: Vec<_> = holders.iter().map(|one| (text(one, "spiffe_id"), text(one, "refused"))).collect();
        named.sort();
        Ok(named)
    }

    /// For this long the old root goes on to sign, and requests are answered.
    async fn holds(&self, time: Duration) -> Outcome {
        let (admin, start, answered) = (self.stage.ca.admin()?, Instant::now(), self.traffic.tally().succeeded);
        while start.elapsed() < time {
            let rotation = now_at(&admin).await?;
            ensure(active_root(&rotation) == id(&self.old)?, || format!("activated without coverage: {rotation:?}"))?;
            assert_eq!(root_ids(&rotation).len(), 3);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure(self.traffic.tally().succeeded > answered, || "no request was answered meanwhile".to_owned())
    }

    /// The operator takes the odd root out again; everything goes on by itself.
    async fn mend(&mut self) -> Outcome {
        self.mount.swap(&self.good)?;
        active(&self.stage.ca.admin()?, &id(&self.new)?).await?;
        let refusing = self.refusing()?;
        ensure(refusing.iter().all(|(_, why)| why.is_empty()), || format!("a refusal is still told: {refusing:?}"))
    }

    /// The leaves that the two Envoys identify themselves with.
    async fn leaves(&self) -> Outcome<Vec<Loaded>> {
        Ok([self.stage.client.certificates().await?, self.stage.server.certificates().await?].concat())
    }

    /// Both agents are replaced, one after the other; waits until each has its proxy's refusal from that proxy itself.
    async fn restart_agents(&mut self) -> Outcome {
        let Stage { client_agent, server_agent, dev, .. } = &mut self.stage;
        for (agent, workload) in [(client_agent, "client"), (server_agent, "server")] {
            agent.process.stop().await?;
            *agent = dev.start_agent(workload).await?;
            let refused = async || {
                let streams = agent.inspect().await.ok()?.streams;
                let roots = streams.into_iter().find(|stream| stream.names == ["ROOTCA"])?;
                (roots.last_nack.contains(ENVOYS_WORDS) || roots.acks > 0).then_some(roots)
            };
            let roots = eventually("the proxy's word to the new agent", SOON, refused).await?;
            ensure(roots.acks == 0 && roots.nacks > 0, || format!("{workload}'s proxy is believed: {roots:#?}"))?;
        }
        Ok(())
    }

    async fn end(self) -> Tally {
        self.traffic.stop().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_envoy_refuses_is_named_with_its_words_and_keeps_the_next_one_waiting() -> Outcome {
    let mut picky = Picky::set("1h").await?;
    picky.spoil().await?;
    // Longer than the propagation time.
    picky.holds(Duration::from_secs(4)).await?;
    let (admin, operator) = (picky.stage.ca.admin()?, picky.stage.ca.operator());
    let told = operator.refused(&["authority", "activate", &id(&picky.new)?])?;
    for words in [CLIENT_ID, SERVER_ID, ENVOYS_WORDS] {
        ensure(told.contains(words), || format!("{words} is not in: {told}"))?;
    }
    for envoy in [&picky.stage.client, &picky.stage.server] {
        ensure(envoy.is_ready().await, || "Envoy is not ready any more".to_owned())?;
    }
    picky.mend().await?;
    picky.stage.ca.operator().taint(&id(&picky.old)?, "everybody is to move now")?;
    let old = id(&picky.old)?;
    until(&admin, "no holder under the old root", SOON, |rotation| {
        rotation.authorities.iter().all(|one| one.id != old || one.holders == 0).then_some(())
    })
    .await?;
    for envoy in [&picky.stage.client, &picky.stage.server] {
        let moved = async || envoy.secrets().await.ok()?.chains_to(&[("the new root", &picky.new.certificate)]).ok();
        eventually("a certificate below the new root in Envoy", SOON, moved).await?;
    }
    calm(&picky.end().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_have_refused_a_root_go_on_with_renewed_certificates() -> Outcome {
    // Of which each lives shorter than the refusal lasts.
    let mut picky = Picky::set("12s").await?;
    picky.spoil().await?;
    let before = picky.leaves().await?;
    picky.holds(Duration::from_secs(25)).await?;
    let now = picky.leaves().await?;
    ensure(before.len() == 2 && now.len() == 2, || format!("{before:?} {now:?}"))?;
    ensure(now.iter().all(|one| !before.contains(one)), || {
        format!("an old certificate is in use: {before:?} {now:?}")
    })?;
    let refusing = picky.refusing()?;
    ensure(refusing.len() == 2 && refusing.iter().all(|(_, why)| why.contains(ENVOYS_WORDS)), || {
        format!("the refusal is forgotten: {refusing:?}")
    })?;
    picky.mend().await?;
    // Each verifies the other by the new root then.
    for envoy in [&picky.stage.client, &picky.stage.server] {
        let moved = async || envoy.secrets().await.ok()?.chains_to(&[("the new root", &picky.new.certificate)]).ok();
        eventually("a certificate below the new root in Envoy", SOON, moved).await?;
    }
    let answered = picky.traffic.tally().succeeded;
    let more = async || (picky.traffic.tally().succeeded > answered + 20).then_some(());
    eventually("requests between the new certificates", SOON, more).await?;
    calm(&picky.end().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_outlives_the_agents_that_it_was_told() -> Outcome {
    let mut picky = Picky::set("1h").await?;
    picky.spoil().await?;
    // The first time the proxies hold the roots from before, the second time the refused ones.
    for _ in 0..2 {
        picky.restart_agents().await?;
        picky.holds(Duration::from_secs(4)).await?;
        let refusing = picky.refusing()?;
        for name in [CLIENT_ID, SERVER_ID] {
            let named = refusing.iter().any(|(of, why)| of == name && why.contains(ENVOYS_WORDS));
            ensure(named, || format!("{name} does not refuse: {refusing:?}"))?;
        }
    }
    picky.mend().await?;
    calm(&picky.end().await)
}

#[tokio::test]
async fn a_root_that_an_agent_cannot_read_keeps_nobody_from_renewing() -> Outcome {
    let root = OwnCa::root("own root")?;
    let good = istio_names(&root.certify("signer")?, &root);
    let (dev, mut mount) = plugged_for(&good, "12s")?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let admin = ca.admin()?;
    settled(&admin, 1).await?;
    let mut odd = good;
    odd[2].1 += &odd_root(Oddity::Algorithm)?;
    mount.swap(&odd)?;
    until(&admin, "both roots", SOON, |rotation| (root_ids(rotation).len() == 2).then_some(())).await?;
    let before = agent.identity().await?;
    let renewed = async || (agent.identity().await.ok()?.renewals >= before.renewals + 2).then_some(());
    let result = eventually("two renewals", Duration::from_secs(90), renewed).await;
    ensure(result.is_ok(), || agent.process.log())
}
