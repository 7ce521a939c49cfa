//! What happens next and what was done, on the wire.

use signet_core::authority::AuthorityId;
use signet_proto::admin::v1alpha1::{Done as WireDone, Next as WireNext, done, next};

use super::values::time;
use crate::operations::{Awaited, Done, Next};

/// What happens next; nothing when nothing does. `static_files` says whether a former root is retired in the end.
pub(super) fn next(what: &Next, static_files: bool) -> Option<WireNext> {
    use next::Step;
    let plain = |step: Step| WireNext { step: step.into(), static_files, ..WireNext::default() };
    let about = |step, id: &AuthorityId| WireNext { authorities: vec![id.to_string()], ..plain(step) };
    let when = |step, id, awaited: &Awaited| match awaited {
        &Awaited::Holders { holders, refusing, until } => {
            WireNext { holders, refusing, at: until.map(time), ..about(step, id) }
        }
        Awaited::Publishers(publishers) => WireNext { publishers: publishers.clone(), ..about(step, id) },
        Awaited::Propagation(at) => WireNext { at: at.map(time), ..about(step, id) },
    };
    Some(match what {
        Next::Nothing => return None,
        Next::Init => plain(Step::InitByCommand),
        Next::TrustClock => plain(Step::TrustClock),
        Next::Activate(root, awaited) => when(Step::Activate, root, awaited),
        Next::ActivateByCommand(root, awaited) => when(Step::ActivateByCommand, root, awaited),
        Next::ActivateNotBefore(root, at) => WireNext { at: Some(time(*at)), ..about(Step::ActivateNotBefore, root) },
        Next::ReplaceCompromised => plain(Step::ReplaceCompromised),
        Next::Renew(holders) => WireNext { holders: *holders, ..plain(Step::Renew) },
        Next::RenewCutOff(holders) => WireNext { holders: *holders, ..plain(Step::RenewCutOff) },
        Next::Accept(holders) => WireNext { holders: *holders, ..plain(Step::Accept) },
        Next::Publish(publishers) => WireNext { publishers: publishers.clone(), ..plain(Step::Publish) },
        Next::RevokeElsewhere => plain(Step::RevokeElsewhere),
        Next::Follow => plain(Step::Follow),
        Next::RevokeByCommand(roots) => {
            let authorities = roots.iter().map(ToString::to_string).collect();
            WireNext { authorities, ..plain(Step::RevokeByCommand) }
        }
        Next::RotateByCommand => plain(Step::RotateByCommand),
        Next::ReplaceFilesByHand(root) => about(Step::ReplaceFilesByHand, root),
        Next::SignWithFiles(root, at) => WireNext { at: at.map(time), ..about(Step::SignWithFiles, root) },
        Next::SignWithListed => plain(Step::SignWithListed),
        Next::SignWithBackend => plain(Step::SignWithBackend),
        Next::RetireByCommand(root, at) => WireNext { at: at.map(time), ..about(Step::RetireByCommand, root) },
        Next::Retire => plain(Step::Retire),
        Next::Leave => plain(Step::Leave),
        Next::Prepare(at) => WireNext { at: Some(time(*at)), ..plain(Step::Prepare) },
    })
}

/// What was done.
pub(super) fn done(what: &Done) -> WireDone {
    use done::Step;
    let plain = |step: Step| WireDone { step: step.into(), ..WireDone::default() };
    let about = |step, id: &AuthorityId| WireDone { authority: id.to_string(), ..plain(step) };
    match what {
        Done::Other => plain(Step::Unspecified),
        Done::Nothing => plain(Step::Nothing),
        Done::NothingToResume => plain(Step::NothingToResume),
        Done::NothingToAdopt => plain(Step::NothingToAdopt),
        Done::Prepared => plain(Step::Prepared),
        Done::Awaited(root) => about(Step::Awaited, root),
        Done::IssuingRenewed => plain(Step::IssuingRenewed),
        Done::Activated(root) => about(Step::Activated, root),
        Done::Dropped(root) => about(Step::Dropped, root),
        Done::Reinstated(root) => about(Step::Reinstated, root),
        Done::Tainted(root) => about(Step::Tainted, root),
        Done::IssuingTainted(issuing) => about(Step::IssuingTainted, issuing),
        Done::FormerTainted(root) => about(Step::FormerTainted, root),
        Done::Replaced { of, by, behind } => {
            WireDone { holders: *behind, successor: by.to_string(), ..about(Step::Replaced, of) }
        }
        Done::Leaving(root, seconds) => WireDone { seconds: *seconds, ..about(Step::Leaving, root) },
        Done::Revoked(root, holders) => WireDone { holders: *holders, ..about(Step::Revoked, root) },
        Done::IssuingRevoked(issuing, holders) => {
            WireDone { holders: *holders, ..about(Step::IssuingRevoked, issuing) }
        }
        Done::FilesAdopted(root) => about(Step::FilesAdopted, root),
        Done::FilesAwaited(root) => about(Step::FilesAwaited, root),
        Done::BackendAdopted => plain(Step::BackendAdopted),
        Done::Resumed(sequence) => WireDone { sequence: *sequence, ..plain(Step::Resumed) },
    }
}
