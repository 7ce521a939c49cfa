//! What an operator may do and when: the one judge of commands, whoever brings them.

use time::OffsetDateTime;

use super::Phase;
use super::compromise::{revoke, taint};
use super::retire::is_held;
use super::rules::{Observed, Rules, SETTLE};
use super::state::{Activation, Authorities, AuthorityState, RootAuthority};
use super::step::{Step, certifies_until, is_covered, is_ours, propagated_at, unpublished, usable_issuer};
use crate::authority::AuthorityId;
use crate::clock::rfc3339;
use crate::source::{Offer, SourceStanding};

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Publish the next root and wait.
    Prepare,
    /// Publish the next root and let everything else follow.
    Rotate,
    /// Adopt the CA files, or the backend, of the replica that this is sent to, although others were adopted after them.
    Adopt,
    /// Replace the issuing CA.
    RenewIssuing,
    /// Let a prepared root sign.
    Activate {
        /// The root.
        id: AuthorityId,
        /// Although holders do not know it.
        force: bool,
    },
    /// Take the last step back.
    Rollback,
    /// Declare a root compromised.
    Taint {
        /// The root.
        id: AuthorityId,
        /// Switch although holders do not know the next one.
        force: bool,
    },
    /// Remove a compromised root, or revoke an issuing CA.
    Revoke {
        /// The root or issuing CA.
        id: AuthorityId,
        /// Although holders still need it.
        force: bool,
    },
    /// Let a former root go that nothing chains to any more.
    Retire {
        /// The root.
        id: AuthorityId,
    },
    /// Go on after the storage was restored from a backup.
    Resume {
        /// The highest bundle sequence of this CA that anybody has shown, 0 for none that matters.
        shown: u64,
    },
}

impl Command {
    /// The name shown to people and in records.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Rotate => "rotate",
            Self::Adopt => "adopt",
            Self::RenewIssuing => "rotate --issuing",
            Self::Activate { .. } => "activate",
            Self::Rollback => "rollback",
            Self::Taint { .. } => "taint",
            Self::Revoke { .. } => "revoke",
            Self::Retire { .. } => "retire",
            Self::Resume { .. } => "resume",
        }
    }

    /// Whether holders may be left behind.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        match self {
            Self::Activate { force, .. } | Self::Taint { force, .. } | Self::Revoke { force, .. } => *force,
            Self::Prepare | Self::Rotate | Self::Adopt | Self::RenewIssuing | Self::Rollback => false,
            Self::Resume { .. } | Self::Retire { .. } => false,
        }
    }
}

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is nothing yet.
    #[error(
        "there is no authority in this storage, and none is made by itself: for a new installation run `signet-ca init`; otherwise `storage` is mistyped or its volume is not mounted"
    )]
    NoAuthority,
    /// No such authority.
    #[error("there is no authority {0}; `authority list` shows them")]
    Unknown(AuthorityId),
    /// The operator's own CA cannot be commanded.
    #[error(
        "the authority is somebody else's, and followed: with authority.backend: files, put the new CA into that directory; with vault, rotate the root in Vault; with cert-manager, change its issuer and then its roots"
    )]
    Foreign,
    /// This replica does not have the adopted source.
    #[error(
        "this replica's CA files, or its authority.backend, are not those that were adopted last: send the command to a replica that has the newest; or, if what this one has is to count from now on, `authority adopt` here says so"
    )]
    Superseded,
    /// Nothing usable comes from the backend.
    #[error(
        "what the backend of this replica brings (CA files, Vault, cert-manager) cannot be used, see `status`: put it in order, or send the command to another"
    )]
    NoFiles,
    /// The state does not allow it.
    #[error("authority {id} is {state}: {hint}")]
    State {
        /// Which.
        id: AuthorityId,
        /// Its state.
        state: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// Holders do not know the root yet.
    #[error(
        "{behind} of {live} holders have not received bundle {sequence}, which holds {id}: wait for them, or use --force with a --reason"
    )]
    NotCovered {
        /// The root.
        id: AuthorityId,
        /// The bundle that they need.
        sequence: u64,
        /// How many have not received it.
        behind: u64,
        /// How many there are.
        live: u64,
    },
    /// It is not everywhere where roots are read.
    #[error(
        "bundle {sequence}, which holds {id}, is not published everywhere yet: {publishers} (`status` says why): wait, or use --force with a --reason"
    )]
    NotPublished {
        /// The root.
        id: AuthorityId,
        /// The bundle.
        sequence: u64,
        /// The publishers that lack it.
        publishers: String,
    },
    /// It was published, or the last holder that had been behind was counted, too short a time ago.
    #[error(
        "authority {id} signs from {until} on, once it has been with every holder for authority.rotation.propagation: wait, or use --force with a --reason"
    )]
    TooSoon {
        /// The root.
        id: AuthorityId,
        /// When it may sign.
        until: String,
    },
    /// Certificates still chain to it.
    #[error(
        "{holders} holders still use certificates that chain to {id}: wait for their renewal, or use --force with a --reason"
    )]
    Needed {
        /// The root.
        id: AuthorityId,
        /// How many.
        holders: u64,
    },
    /// Certificates chain to it that end at a known time.
    #[error(
        "certificates that chain to root {id} are valid until {until} ({holders} holders have no newer one); it can be retired then"
    )]
    StillChained {
        /// The root.
        id: AuthorityId,
        /// How many have no newer certificate.
        holders: u64,
        /// When the last one ends.
        until: String,
    },
    /// It has stopped to sign only now.
    #[error("authority {0} has signed until a moment ago; requests may be on their way: try again in {secs} s", secs = SETTLE.as_secs())]
    Settling(AuthorityId),
    /// There is no step to take back.
    #[error(
        "there is nothing to roll back: no root is prepared, and no earlier root is in the bundle that could sign again"
    )]
    NothingToRollBack,
    /// The lists would not be complete.
    #[error(
        "revocation lists need one list for every authority in the bundle, and none of {0} can be signed here: its owner has to revoke (ca-crl.pem beside the CA files; with Vault, `status` says why no list of it can be used; cert-manager has none), unless its certificate has no key usage cRLSign, so that nobody can as long as it is in the bundle"
    )]
    ListsImpossible(AuthorityId),
    /// The issuing CA is one of the backend's, which is not told to revoke its own.
    #[error(
        "issuing CA {id} is the backend's own, which has its key, and this CA revokes none of those. With Vault: let another issuer sign first (`bao write pki/root/rotate/internal ...`, `bao write pki/config/issuers default=...`, `authority rotate --wait`); then an intermediate is put on the list above it by `bao write -f pki/issuer/NAME/revoke`, which travels in the trust bundle, and a root is on no list: `authority taint {root}`, then `authority revoke {root}`, take it out of the bundle. With cert-manager: put another issuer in its place, then the same with the root"
    )]
    BackendsOwn {
        /// Which.
        id: AuthorityId,
        /// The root above it.
        root: AuthorityId,
    },
    /// The wall clock has jumped.
    #[error(
        "the clock of this host has jumped a moment ago, or the storage comes from a backup (`status` says which): try again in a few minutes, or use --force with a --reason"
    )]
    ClockJumped,
    /// The same, for what is never forced.
    #[error(
        "the clock of this host has jumped a moment ago, or the storage comes from a backup (`status` says which): try again in a few minutes"
    )]
    ClockDoubtful,
}

/// Decides what a command does now: a step, or `None` when it is done already.
///
/// # Errors
/// [`Refused`]; nothing changes then.
pub fn judge(
    now: OffsetDateTime,
    authorities: &Authorities,
    seen: &Observed<'_>,
    rules: &Rules,
    command: &Command,
) -> Result<Option<Step>, Refused> {
    let active = authorities.active().ok_or(Refused::NoAuthority)?;
    if seen.source.standing == SourceStanding::Superseded {
        match command {
            // Adopting says that these files are meant, and not late; the others only mark what the journal
            // holds, and whatever follows from that, others do.
            Command::Adopt | Command::Taint { force: false, .. } | Command::Revoke { .. } | Command::Resume { .. } => {}
            Command::Retire { .. } => {}
            _ if seen.source.fingerprint.is_none() => return Err(Refused::NoFiles),
            _ => return Err(Refused::Superseded),
        }
    }
    match command {
        Command::Prepare => prepare(authorities, seen, Activation::OnCommand),
        Command::Rotate => rotate(now, authorities, seen, rules),
        Command::Adopt => adopt(seen),
        // Who would certify it does not answer.
        Command::RenewIssuing if seen.offer.is_some() && seen.source.fingerprint.is_none() => Err(Refused::NoFiles),
        Command::RenewIssuing if certifies_until(active, seen.offer).is_none() => Err(Refused::Foreign),
        Command::RenewIssuing => Ok(Some(Step::CertifyIssuing(active.id.clone()))),
        Command::Activate { id, force } => activate(now, authorities, seen, rules, id, *force),
        Command::Rollback => rollback(now, authorities, seen),
        Command::Taint { id, force } => taint(now, authorities, seen, id, *force),
        Command::Revoke { id, force } => revoke(now, authorities, seen, id, *force),
        Command::Retire { id } => super::retire::retire(now, authorities, seen, id),
        // Also when it is said again, or by two at once.
        Command::Resume { shown } => Ok((*shown > authorities.bundle_sequence).then_some(Step::Resume(*shown))),
    }
}

pub(super) fn find<'a>(authorities: &'a Authorities, id: &AuthorityId) -> Result<&'a RootAuthority, Refused> {
    authorities.root(id).ok_or_else(|| Refused::Unknown(id.clone()))
}

pub(super) fn refuse<T>(root: &RootAuthority, hint: &'static str) -> Result<T, Refused> {
    Err(Refused::State { id: root.id.clone(), state: root.state.as_str(), hint })
}

fn prepare(authorities: &Authorities, seen: &Observed<'_>, activation: Activation) -> Result<Option<Step>, Refused> {
    if seen.offer.is_some() {
        return Err(Refused::Foreign);
    }
    Ok(authorities.prepared().is_none().then_some(Step::PrepareRoot(activation)))
}

/// The only way to tell that earlier files are meant, and not late.
fn adopt(seen: &Observed<'_>) -> Result<Option<Step>, Refused> {
    match seen.source.standing {
        _ if seen.source.fingerprint.is_none() => Err(Refused::NoFiles),
        SourceStanding::Newest => Ok(None),
        SourceStanding::New | SourceStanding::Superseded => Ok(Some(Step::AdoptRoots)),
    }
}

/// With files, what an operator has put there is all that there is to rotate to. Said while that is under way, nothing is
/// begun, so that whoever waits for the end may say it.
fn follow_files(authorities: &Authorities, seen: &Observed<'_>, offer: &Offer) -> Result<Option<Step>, Refused> {
    if seen.source.standing == SourceStanding::New {
        return Ok(Some(Step::AdoptRoots));
    }
    let signs = authorities.active().is_some_and(|root| root.id == offer.signer);
    let compromised = authorities.root(&offer.signer).is_some_and(|root| root.tainted_at.is_some());
    let under_way = if signs { Phase::of(authorities) == Phase::Drain } else { !compromised };
    if under_way { Ok(None) } else { Err(Refused::Foreign) }
}

/// Run again after an interruption, it goes on with the rotation that is under way instead of beginning another one.
/// Former roots that an operator holds are no part of one.
fn rotate(
    now: OffsetDateTime,
    authorities: &Authorities,
    seen: &Observed<'_>,
    rules: &Rules,
) -> Result<Option<Step>, Refused> {
    if let Some(offer) = seen.offer {
        return follow_files(authorities, seen, offer);
    }
    let mut former = authorities.roots.iter().filter(|root| root.is_old() && !root.pinned);
    let drains = Phase::of(authorities) == Phase::Drain && former.any(|root| !is_held(root, seen, rules, now));
    match authorities.prepared() {
        Some(root) if root.activation() == Some(Activation::WhenCovered) => Ok(None),
        Some(root) => Ok(Some(Step::Await(root.id.clone(), Activation::WhenCovered))),
        None if drains && !authorities.paused => Ok(None),
        None => prepare(authorities, seen, Activation::WhenCovered),
    }
}

fn activate(
    now: OffsetDateTime,
    authorities: &Authorities,
    seen: &Observed<'_>,
    rules: &Rules,
    id: &AuthorityId,
    force: bool,
) -> Result<Option<Step>, Refused> {
    let root = find(authorities, id)?;
    match root.state {
        AuthorityState::Prepared(_) if root.tainted_at.is_none() => {}
        AuthorityState::Prepared(_) => return refuse(root, "a compromised root never signs"),
        // So that whoever got no answer may ask again.
        AuthorityState::Active if root.tainted_at.is_none() => return Ok(None),
        AuthorityState::Active => return refuse(root, "it signs until its successor is known to all holders"),
        AuthorityState::Old { .. } => {
            return refuse(root, "to let the previous root sign again, use `authority rollback`");
        }
        AuthorityState::Tainted => return refuse(root, "a compromised root never signs again"),
        AuthorityState::Unknown => return refuse(root, "only a newer version of this program knows what that means"),
    }
    // Nothing would sign under it: its issuing CA comes with what cannot be used now, or is certified by who does not answer.
    if seen.offer.is_some_and(|offer| offer.signer != *id) && root.issuing.is_empty() {
        return Err(Refused::NoFiles);
    }
    if force {
        return Ok(Some(Step::Activate(id.clone())));
    }
    if !seen.clock_is_steady {
        return Err(Refused::ClockJumped);
    }
    if !is_covered(root, seen, rules) {
        let (live, covered) = (seen.coverage.live(), seen.coverage.covered(root.published));
        return Err(Refused::NotCovered { id: id.clone(), sequence: root.published, behind: live - covered, live });
    }
    let lacking = unpublished(authorities, root, seen, rules, now);
    if !lacking.is_empty() {
        return Err(Refused::NotPublished { id: id.clone(), sequence: root.published, publishers: lacking.join(", ") });
    }
    if let Some(until) = propagated_at(authorities, root, seen, rules, now).filter(|until| now < *until) {
        return Err(Refused::TooSoon { id: id.clone(), until: rfc3339(until) });
    }
    let certifies = seen.offer.is_none() || certifies_until(root, seen.offer).is_some();
    let lists = !authorities.revocations.lists.is_empty() && certifies;
    if lists && usable_issuer(authorities, root, seen, now).is_none() {
        // Its issuing CA's list travels first; then it goes on by itself.
        return Ok(Some(Step::Await(id.clone(), Activation::WhenCovered)));
    }
    Ok(Some(Step::Activate(id.clone())))
}

fn rollback(now: OffsetDateTime, authorities: &Authorities, seen: &Observed<'_>) -> Result<Option<Step>, Refused> {
    if seen.offer.is_some() {
        return Err(Refused::Foreign);
    }
    if let Some(root) = authorities.active().filter(|root| root.tainted_at.is_some()) {
        return refuse(root, "it is compromised, so its successor is needed: there is no way back");
    }
    if let Some(root) = authorities.prepared() {
        return Ok(Some(Step::DropPrepared(root.id.clone(), true)));
    }
    // Back, never forth: run again by somebody who got no answer, it must not return to what was taken back. An earlier
    // root is in everybody's bundle, or it would not have signed; unless that was forced.
    let generation = authorities.active().map_or(0, |active| active.generation);
    let earlier = authorities.roots.iter().filter(|root| {
        root.is_old()
            && root.generation < generation
            && root.tainted_at.is_none()
            && is_ours(root, None)
            && now < root.not_after
            && seen.coverage.reaches(root.published, 100)
    });
    let newest = earlier.max_by_key(|root| (root.since, root.generation)).ok_or(Refused::NothingToRollBack)?;
    Ok(Some(Step::Reinstate(newest.id.clone())))
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
