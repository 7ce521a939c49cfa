//! A replica that was asleep while the other one changed the authorities lets nothing out that peers would refuse, and
//! the calls that waited at it are answered all the same.

use std::time::Duration;

use rustix::process::Signal;
use signet_proto::admin::v1alpha1::Rotation;
use signet_tests::client::admin::{active_root, is_settled, root_ids};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{Operator, ROTATION};
use signet_tests::harness::{Ca, Dev};
use signet_tests::judge::Case;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{SOON, installation, now_at, prepared, until};
use crate::facts;

type Reply = Result<Vec<String>, Status>;

/// Two processes on one database, and clients that are connected to each.
struct Pair {
    awake: Client,
    asleep: Client,
    first: Ca,
    second: Ca,
    dev: Dev,
}

impl Pair {
    async fn start(svid_ttl: &str) -> Outcome<Self> {
        let dev = installation(svid_ttl, &["client=default/client"])?;
        facts::without_limits(&dev)?;
        let replica = dev.replica()?;
        let first = dev.start_ca().await?;
        let second = replica.start(&dev).await?;
        let roots = dev.text("root-cert.pem")?;
        let (awake, asleep) =
            (Client::trusting(dev.listen, &roots).await?, Client::trusting(replica.listen, &roots).await?);
        let pair = Self { awake, asleep, first, second, dev };
        pair.asleep.certificate(&pair.dev, "client").await?;
        Ok(pair)
    }

    fn operator(&self) -> Operator<'_> {
        self.first.operator()
    }

    /// Waits until both sign with the same issuing CA: one that lags may go on with the one before, under the same root.
    async fn agree(&self) -> Outcome {
        eventually("both processes to sign with the same issuing CA", SOON, async || {
            let one = self.awake.certificate(&self.dev, "client").await.ok()?;
            let other = self.asleep.certificate(&self.dev, "client").await.ok()?;
            (issuer(&one) == issuer(&other)).then_some(())
        })
        .await
    }

    /// Stops the second process, but not while it holds the lock of the database.
    async fn stop(&self) -> Outcome {
        for _ in 0..20 {
            self.second.process.signal(Signal::STOP);
            let stopped = async || self.second.process.is_stopped().then_some(());
            eventually("every thread to stop", SOON, stopped).await?;
            let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &self.dev.token("client")?);
            if self.awake.call(&ask).await.is_ok() {
                return Ok(());
            }
            self.second.process.signal(Signal::CONT);
        }
        Err(Failure::unexpected("the second process always holds the lock when it is stopped"))
    }

    /// Calls that arrive at the second process.
    fn calls(&self, count: usize) -> Outcome<JoinSet<Reply>> {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &self.dev.token("client")?);
            let client = self.asleep.clone();
            calls.spawn(async move { client.call(&ask).await });
        }
        Ok(calls)
    }

    /// Lets the second process go on, and judges what comes out of it: it chains to a root of the newest bundle and
    /// brings every root of that.
    async fn wake(&self, what: &str, calls: JoinSet<Reply>) -> Outcome<Vec<Vec<String>>> {
        let newest = self.awake.certificate(&self.dev, "client").await?;
        self.second.process.signal(Signal::CONT);
        let (mut released, mut refused, mut wrong) = (Vec::new(), Vec::new(), 0);
        for reply in calls.join_all().await {
            match reply {
                Ok(chain) => {
                    wrong += usize::from(judge(&chain, &newest).is_err());
                    released.push(chain);
                }
                Err(status) => refused.push(status),
            }
        }
        ensure(wrong == 0, || {
            format!("{what}: {wrong} of {} released certificates are of no use with the newest bundle", released.len())
        })?;
        ensure(refused.iter().all(|status| status.code() == Code::Unavailable), || format!("{what}: {refused:?}"))?;
        ensure(released.len() > refused.len(), || {
            format!("{what}: {} of the calls failed: {refused:?}", refused.len())
        })?;
        Ok(released)
    }
}

/// Whether peers that have the newest bundle accept this, and whoever gets it accepts them.
fn judge(reply: &[String], newest: &[String]) -> Outcome {
    let ([chain @ .., roots], [.., wanted]) = (reply, newest) else {
        return Err(Failure::unexpected("a reply without roots"));
    };
    let missing = wanted.split_inclusive("-----END CERTIFICATE-----\n").find(|root| !roots.contains(root));
    ensure(missing.is_none(), || "a root of the newest bundle is missing".to_owned())?;
    let mut with_newest = chain.to_vec();
    with_newest.push(wanted.clone());
    Case::new(&with_newest)?.verifies_for("sslclient")
}

/// The issuing CA of a reply, PEM.
fn issuer(reply: &[String]) -> Option<&String> {
    reply.get(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_through_an_emergency_releases_nothing_under_the_revoked_root() -> Outcome {
    let pair = Pair::start("1h").await?;
    let admin = pair.first.admin()?;
    let old = active_root(&now_at(&admin).await?);
    pair.stop().await?;
    let calls = pair.calls(64)?;
    pair.operator().prepare()?;
    let new = prepared(&admin).await?;
    pair.operator().done(&["authority", "activate", &new, "--force", "--reason", "test"])?;
    pair.operator().taint(&old, "test")?;
    pair.operator().done(&["authority", "revoke", &old, "--force", "--reason", "test"])?;
    assert_eq!(root_ids(&now_at(&admin).await?), [new.as_str()]);
    pair.wake("after an emergency", calls).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_through_a_whole_rotation_releases_nothing_under_the_retired_root() -> Outcome {
    let pair = Pair::start("20s").await?;
    let admin = pair.first.admin()?;
    let old = active_root(&now_at(&admin).await?);
    pair.stop().await?;
    pair.operator().rotate()?;
    until(&admin, "the end of the rotation", ROTATION, |rotation| {
        (is_settled(rotation) && !root_ids(rotation).contains(&old)).then_some(())
    })
    .await?;
    let calls = pair.calls(64)?;
    pair.wake("after a rotation", calls).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_through_any_one_step_signs_with_what_the_other_one_says() -> Outcome {
    let pair = Pair::start("1h").await?;
    let admin = pair.first.admin()?;
    let old = active_root(&now_at(&admin).await?);
    let mut new = String::new();
    for (step, change) in [
        ("prepare", "prepare"),
        ("activate", "activate"),
        ("issuing", "rotate --issuing"),
        ("taint", "taint"),
        ("revoke", "revoke"),
        ("prepare", "prepare once more"),
        ("rollback", "rollback"),
    ] {
        pair.agree().await?;
        pair.stop().await?;
        let calls = pair.calls(16)?;
        match step {
            "prepare" => {
                pair.operator().prepare()?;
                new = prepared(&admin).await?;
            }
            "activate" => {
                drop(pair.operator().done(&["authority", "activate", &new, "--force", "--reason", "test"])?)
            }
            "issuing" => drop(pair.operator().done(&["authority", "rotate", "--issuing"])?),
            "taint" => drop(pair.operator().taint(&old, "test")?),
            "revoke" => {
                drop(pair.operator().done(&["authority", "revoke", &old, "--force", "--reason", "test"])?);
            }
            _ => drop(pair.operator().rollback()?),
        }
        let released = pair.wake(change, calls).await?;
        // The issuing CA of before may go on under the same root; in all other steps there is one that may sign.
        let newest = pair.awake.certificate(&pair.dev, "client").await?;
        let others = released.iter().filter(|reply| issuer(reply) != issuer(&newest)).count();
        ensure(step == "issuing" || others == 0, || format!("{change}: {others} of another issuing CA"))?;
    }
    // Both agree in the end, and nobody was left waiting.
    let (one, other) = (now_at(&admin).await?, pair.second.admin()?);
    until(&other, "both to agree", SOON, |rotation| (root_ids(rotation) == root_ids(&one)).then_some(())).await?;
    let reply = tokio::time::timeout(Duration::from_secs(30), pair.asleep.certificate(&pair.dev, "client")).await;
    judge(
        &reply.map_err(Failure::while_doing("wait for a certificate"))??,
        &pair.awake.certificate(&pair.dev, "client").await?,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_sleeps_through_any_phase_of_a_planned_rotation_releases_nothing_of_the_phase_before() -> Outcome
{
    let pair = Pair::start("20s").await?;
    let admin = pair.first.admin()?;
    let old = active_root(&now_at(&admin).await?);
    type Reached = fn(&Rotation, &str) -> bool;
    let phases: [(&str, Reached); 3] = [
        ("a root is published", |now, old| root_ids(now).len() == 2 && active_root(now) == old),
        ("it signs", |now, old| active_root(now) != old && root_ids(now).iter().any(|root| root == old)),
        ("the old one is retired", |now, old| is_settled(now) && root_ids(now).iter().all(|root| root != old)),
    ];
    for (phase, reached) in phases {
        pair.agree().await?;
        pair.stop().await?;
        let calls = pair.calls(16)?;
        if phase == "a root is published" {
            pair.operator().rotate()?;
        }
        // Only who asks again learns of a new bundle: the awake client is what makes the rotation go on.
        let asking = async || {
            pair.awake.certificate(&pair.dev, "client").await.ok()?;
            let now = admin.rotation().await.ok()?;
            reached(&now, &old).then_some(())
        };
        eventually(phase, ROTATION, asking).await?;
        pair.wake(phase, calls).await?;
    }
    // One process was asleep most of the time: the other one has made every step, each once.
    super::retired_once(&pair.first, &old).await
}
