//! The three acts of the rotation demo.

use std::time::Duration;

use rustix::process::Signal;
use signet_proto::admin::v1alpha1::{AuthorityState, Phase, Rotation};

use super::judge::{bundle, proxies_use};
use super::record::KILLED;
use super::stage::{BYSTANDER_ID, Cast};
use super::watch::Watch;
use crate::client::admin::{active_root, coverage, is_settled, root_ids, roots_in};
use crate::client::keys;
use crate::client::token::now;
use crate::demo::narrator::short;
use crate::failure::{Outcome, ensure};
use crate::harness::beside::{Beside, Echo};

/// Renewals, and what hangs on them.
const SOON: Duration = Duration::from_secs(120);
/// Until nothing chains to an old root any more.
const DRAIN: Duration = Duration::from_secs(240);
/// How long activation is watched not to happen.
const HELD: Duration = Duration::from_secs(3);
/// What follows a command at once, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Everything is settled on one root; gives its id.
///
/// # Errors
/// [`Failure`](crate::failure::Failure).
pub async fn settle(cast: &Cast, watch: &mut Watch<'_>) -> Outcome<String> {
    let settled = async |rotation: &Rotation| {
        let (covered, holders) = coverage(rotation);
        Ok((is_settled(rotation) && holders >= 4 && covered == holders).then(|| active_root(rotation)))
    };
    let root = watch.until("a settled start", SOON, settled).await?;
    proxies_use(cast, &root, watch).await?;
    watch.reached("settled", &format!("every holder has the bundle; {} signs", short(&root)));
    Ok(root)
}

/// A planned rotation to a new root key, to the retirement of the old one, with one agent stopped: gives the new root.
///
/// # Errors
/// [`Failure`](crate::failure::Failure).
pub async fn rotate(cast: &Cast, old: &str, watch: &mut Watch<'_>) -> Outcome<String> {
    // Right after a renewal, so that it holds its certificate for as long as the Istio client needs to catch up.
    let renewals = cast.bystander.identity().await?.renewals;
    let renewed = async |_: &Rotation| Ok((cast.bystander.identity().await?.renewals > renewals).then_some(()));
    watch.until("a renewal of the bystander", SOON, renewed).await?;
    let expires = cast.bystander.identity().await?.not_after;
    cast.bystander.process.signal(Signal::STOP);
    watch.tell(&format!("the agent of {BYSTANDER_ID} is stopped: it will not hear of the new root"));

    let command = cast.stage.ca.command(&["authority", "rotate", "--wait"], &["--reason", "demo"])?;
    watch.tell("signet-ca authority rotate --wait says:");
    let mut rotate = Beside::start(command, Echo::Shown)?;

    let prepared = async |rotation: &Rotation| {
        let prepared = roots_in(rotation, AuthorityState::Prepared).first().map(|one| one.id.clone());
        Ok(prepared.filter(|_| rotation.phase() == Phase::Propagate))
    };
    let new = watch.until("a prepared root in the bundle", AT_ONCE, prepared).await?;
    watch.reached("rotation: propagate", &format!("{} is in the bundle and signs nothing", short(&new)));
    let all_but_one = async |rotation: &Rotation| {
        let (covered, holders) = coverage(rotation);
        Ok((holders >= 4 && covered + 1 == holders).then_some(()))
    };
    watch.until("everybody but the stopped agent to know the new root", SOON, all_but_one).await?;
    proxies_use(cast, old, watch).await?;
    ensure(now() + 5 < expires, || "the stopped agent's certificate ends too early for this demo".to_owned())?;
    let behind = cast.stage.ca.operator().behind()?;
    ensure(behind == [BYSTANDER_ID], || format!("holders list --behind names {behind:?}"))?;
    let waits = |rotation: &Rotation| {
        let named = rotation.coverage.as_ref().is_some_and(|coverage| {
            coverage.laggards.iter().map(|holder| holder.spiffe_id.as_str()).eq([BYSTANDER_ID])
        });
        active_root(rotation) == old && rotation.phase() == Phase::Propagate && named
    };
    watch.stays("activation waits for the stopped agent and names it", HELD, waits).await?;
    watch.reached("rotation: laggard awaited", &format!("activation waits for {BYSTANDER_ID}"));
    if let Some(process) = cast.kill_replica() {
        watch.reached(KILLED, &format!("process {process} is gone for good; the other one goes on"));
    }
    cast.bystander.process.signal(Signal::CONT);
    watch.tell("the agent goes on");

    let active = async |rotation: &Rotation| Ok((active_root(rotation) == new).then_some(()));
    watch.until("activation after the laggard returned", SOON, active).await?;
    watch.reached("rotation: drain", &format!("{} signs; {} stays for those who need it", short(&new), short(old)));
    let retired =
        async |rotation: &Rotation| Ok((root_ids(rotation) == [new.as_str()] && is_settled(rotation)).then_some(()));
    watch.until("retirement of the old root", DRAIN, retired).await?;
    let status = watch.until("the end of authority rotate --wait", SOON, async |_| rotate.ended()).await?;
    ensure(status.success() && !rotate.printed().is_empty(), || {
        format!("authority rotate --wait ended with {status}: {:?} {:?}", rotate.printed(), rotate.complained())
    })?;
    proxies_use(cast, &new, watch).await?;
    watch.reached("rotation: retired", &format!("{} is in no bundle any more", short(old)));
    Ok(new)
}

/// The root is compromised: another one takes over, agents renew, the tainted one is removed; gives the replacement.
///
/// # Errors
/// [`Failure`](crate::failure::Failure).
pub async fn emergency(cast: &Cast, tainted: &str, watch: &mut Watch<'_>) -> Outcome<String> {
    let operator = cast.stage.ca.operator();
    operator.taint(tainted, "demo: pretend that its key is known to others")?;
    let marked = async |rotation: &Rotation| {
        Ok(rotation.authorities.iter().any(|one| one.id == tainted && one.tainted_at.is_some()).then_some(()))
    };
    watch.until("the taint", AT_ONCE, marked).await?;
    watch.reached("emergency: tainted", &format!("{} is compromised, so somebody says", short(tainted)));
    let replaced = async |rotation: &Rotation| {
        let active = active_root(rotation);
        Ok((active != tainted && !active.is_empty()).then_some(active))
    };
    let new = watch.until("a covered replacement that signs", SOON, replaced).await?;
    let switched = watch.seconds();
    watch.tell(&format!("{} signs; agents are told to renew in a window of a few seconds", short(&new)));
    let moved = async |rotation: &Rotation| {
        Ok(rotation.authorities.iter().all(|one| one.id != tainted || one.holders == 0).then_some(()))
    };
    watch.until("every holder to have left the tainted root", SOON, moved).await?;
    let took = watch.seconds() - switched;
    proxies_use(cast, &new, watch).await?;
    watch.reached("emergency: replaced", &format!("no newest certificate chains to it after {took:.1} s"));
    watch.tell("a root that has just ceased to sign is protected for some seconds: requests may be on their way");
    operator.revoke(tainted, "demo: pretend that its key is known to others").await?;
    let gone = async |rotation: &Rotation| Ok((!root_ids(rotation).iter().any(|id| id == tainted)).then_some(()));
    watch.until("the tainted root to leave the bundle", AT_ONCE, gone).await?;
    proxies_use(cast, &new, watch).await?;
    watch.reached("emergency: revoked", &format!("{} is in no bundle any more", short(tainted)));
    Ok(new)
}

/// A third root is prepared and taken back while it propagates: the bundle is as before.
///
/// # Errors
/// [`Failure`](crate::failure::Failure).
pub async fn take_back(cast: &Cast, root: &str, watch: &mut Watch<'_>) -> Outcome {
    let before = keys::ids(&bundle(cast)?)?;
    let operator = cast.stage.ca.operator();
    operator.prepare()?;
    let published = async |rotation: &Rotation| {
        let prepared = roots_in(rotation, AuthorityState::Prepared).first().map(|one| one.id.clone());
        Ok(prepared.filter(|_| rotation.phase() == Phase::Propagate && coverage(rotation).0 > 0))
    };
    let third = watch.until("a third root in the bundle", SOON, published).await?;
    watch.reached("rollback: prepared", &format!("{} is in the bundle and signs nothing", short(&third)));
    operator.rollback()?;
    let back = async |rotation: &Rotation| Ok((root_ids(rotation) == [root] && is_settled(rotation)).then_some(()));
    watch.until("the bundle as before", AT_ONCE, back).await?;
    let after = keys::ids(&bundle(cast)?)?;
    ensure(after == before, || format!("the bundle was {before:?} and is {after:?}"))?;
    proxies_use(cast, root, watch).await?;
    watch.reached("rollback: back", &format!("{} is gone as if it had never been", short(&third)));
    Ok(())
}
