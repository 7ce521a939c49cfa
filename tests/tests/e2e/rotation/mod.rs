//! Roots rotate without a failed request, and the operator can see it.

mod admin;
mod clock;
mod commands;
mod commit;
mod coverage;
mod crash;
mod delivered;
mod direct;
mod emergency;
mod fence;
pub(crate) mod files;
mod files_roots;
mod followers;
mod no_end;
mod picky_envoy;
mod planned;
mod refused_files;
mod replicas;
mod restored;
pub(crate) mod revocation;
mod socket;
mod static_roots;
mod stream;
mod streams;
mod terminal;
mod told;

use std::time::Duration;

use signet_proto::admin::v1alpha1::{Holder, Rotation};
use signet_tests::client::admin::{Admin, active_root, coverage as covered, is_root, is_settled, root_ids};
use signet_tests::client::ask::{Acknowledges, Ask};
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::demo::rotation::watch::in_words;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{Pace, ROTATION};
use signet_tests::harness::{Ca, Dev, DevOptions};
use signet_tests::traffic::Tally;

/// Anything but the end of a certificate.
const SOON: Duration = Duration::from_secs(60);

/// An installation that rotates fast, with an authority that is made when its CA is first started.
pub(crate) fn installation(svid_ttl: &str, workloads: &[&str]) -> Outcome<Dev> {
    let dev = Dev::init(&DevOptions {
        svid_ttl: Some(svid_ttl.to_owned()),
        workloads: workloads.iter().map(|&text| text.to_owned()).collect(),
        ..DevOptions::default()
    })?;
    dev.set_pace(&Pace::default())?;
    dev.start_over()?;
    Ok(dev)
}

/// Waits until rotation stands as wanted. A CA that does not answer for a while is no failure.
pub(crate) async fn until<T>(
    admin: &Admin,
    what: &str,
    within: Duration,
    mut wanted: impl FnMut(&Rotation) -> Option<T>,
) -> Outcome<T> {
    let mut last = String::new();
    let look = async || match admin.rotation().await {
        Ok(rotation) => {
            last = in_words(&rotation);
            wanted(&rotation)
        }
        Err(status) => {
            last = status.to_string();
            None
        }
    };
    let result = eventually(what, within, look).await;
    result.map_err(|_late| Failure::Deadline { what: what.to_owned(), within, context: format!("; {last}") })
}

/// Where rotation stands now.
pub(crate) async fn now_at(admin: &Admin) -> Outcome<Rotation> {
    admin.rotation().await.map_err(Failure::while_doing("ask where rotation stands"))
}

/// Waits until one root signs, everybody knows it, and nothing is left to do; gives the root.
pub(crate) async fn settled(admin: &Admin, holders: u64) -> Outcome<String> {
    until(admin, "a settled state", ROTATION, |rotation| {
        let (knowing, all) = covered(rotation);
        let one = is_settled(rotation) && root_ids(rotation).len() == 1;
        (one && all >= holders && knowing == all).then(|| active_root(rotation))
    })
    .await
}

/// Waits until another root is in the bundle beside the one that signs; gives it. On a busy machine it may have gone on
/// from there before anybody looks.
async fn prepared(admin: &Admin) -> Outcome<String> {
    until(admin, "a prepared root", SOON, |rotation| {
        let roots = || rotation.authorities.iter().filter(|one| is_root(one));
        let newest = roots().max_by_key(|one| one.generation)?;
        (roots().count() > 1).then(|| newest.id.clone())
    })
    .await
}

/// Waits until this root signs.
pub(crate) async fn active(admin: &Admin, root: &str) -> Outcome {
    until(admin, "the new root to sign", ROTATION, |rotation| (active_root(rotation) == root).then_some(())).await
}

/// The holder of this identity.
async fn holder(admin: &Admin, identity: &str) -> Outcome<Holder> {
    let holders = admin.holders(false).await.map_err(Failure::while_doing("list holders"))?;
    let found = holders.iter().find(|holder| holder.spiffe_id == identity).cloned();
    found.ok_or_else(|| Failure::unexpected(format!("{identity} is no holder: {holders:?}")))
}

/// A certificate for a workload whose client says that it keeps a bundle stream: chain and key, PEM.
async fn streaming_holder(dev: &Dev, workload: &str) -> Outcome<(String, String)> {
    let made = csr::like_ztunnel(None)?;
    let ask = Ask::new(&made.csr, &dev.token(workload)?).as_instance(&"ab".repeat(16), Acknowledges::OnStream);
    let reply = Client::connect(dev).await?.issued(&ask).await?;
    let [chain @ .., _roots] = reply.as_slice() else { return Err(Failure::unexpected("an empty reply")) };
    Ok((chain.concat(), made.key))
}

/// No request has failed, and there were some.
pub(crate) fn calm(tally: &Tally) -> Outcome {
    ensure(tally.failed == 0 && tally.succeeded > 0, || {
        format!("{} of {} requests failed: {:#?}", tally.failed, tally.failed + tally.succeeded, tally.first_failures)
    })
}

/// The details of all steps with authorities that were made, oldest first. What was intended is on record too, since
/// another process may have been faster.
pub(crate) fn steps(ca: &Ca) -> Outcome<Vec<String>> {
    let events = ca.audit(&[])?;
    let steps = events.iter().rev().filter(|event| event["kind"] == "authority" && event["outcome"] != "intended");
    Ok(steps.map(|event| event["detail"].as_str().unwrap_or_default().to_owned()).collect())
}

/// The retirement of a root is on record once. A step is in the journal before it is on record as done.
async fn retired_once(ca: &Ca, root: &str) -> Outcome {
    let retirements =
        |record: &[String]| record.iter().filter(|text| text.contains(&root[..8]) && text.contains("retire")).count();
    let recorded = async || (retirements(&steps(ca).ok()?) > 0).then_some(());
    let waited = eventually("the retirement on record", SOON, recorded).await;
    let record = steps(ca)?;
    let times = retirements(&record);
    ensure(waited.is_ok() && times == 1, || format!("the retirement of {root} is {times} times on record: {record:#?}"))
}
