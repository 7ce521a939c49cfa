//! What the CA tells, in words for people: names of what the API has numbers for, times, holders, and where a rotation
//! stands. What a newer CA has added is shown as unknown, with its number.

use prost_types::Timestamp;
use signet_core::clock::rfc3339;
use signet_core::rotation::Refused;
use signet_proto::admin::v1alpha1::{
    AuthorityKind, AuthorityState, CheckState, Coverage, Done as WireDone, Holder, LearnsBy, Next, Phase,
    RefusedBundle, TokenKind, Unsettled, Verdict, done as wire_done, next as wire_next,
};
use time::OffsetDateTime;

use super::printable;
use crate::grpc::admin::values;
use crate::operations::Done;
use crate::over_limit::Limit;

/// The first 8 digits of an id, as tables and lines show it.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The id as it is, as programs want it.
pub(super) fn whole(id: &str) -> &str {
    id
}

/// A time.
pub(super) fn time(at: &Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(at.seconds).map_or_else(|_| "-".to_owned(), rfc3339)
}

/// A time that there may be none of.
pub(super) fn time_or_dash(at: Option<&Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), time)
}

/// The name of a phase.
pub(super) fn phase(number: i32) -> String {
    name(number, Phase::as_str_name, "PHASE_")
}

/// The name of a kind of authority.
pub(super) fn kind(number: i32) -> String {
    name(number, AuthorityKind::as_str_name, "AUTHORITY_KIND_")
}

/// The name of an authority's state.
pub(super) fn state(number: i32) -> String {
    name(number, AuthorityState::as_str_name, "AUTHORITY_STATE_")
}

/// The name of a readiness condition's state.
pub(super) fn check_state(number: i32) -> String {
    name(number, CheckState::as_str_name, "CHECK_STATE_")
}

/// How the tokens of a cluster are verified, as the configuration says it.
pub(super) fn tokens(number: i32) -> String {
    name(number, TokenKind::as_str_name, "TOKEN_KIND_").replace('_', "-")
}

/// A verdict.
pub(super) fn verdict(number: i32) -> String {
    name(number, Verdict::as_str_name, "VERDICT_")
}

/// How it is known what a holder has received.
pub(super) fn learns_by(number: i32) -> String {
    name(number, LearnsBy::as_str_name, "LEARNS_BY_")
}

/// A limit by the name that it has in metrics.
pub(super) fn limit(number: i32) -> String {
    let known = Limit::ALL.into_iter().find(|limit| i32::from(values::limit(*limit)) == number);
    known.map_or_else(|| unknown(number), |limit| limit.label().to_owned())
}

/// The name of a value in the API, in lower case and without what it shares with the others.
fn name<E: TryFrom<i32>>(number: i32, name: fn(&E) -> &'static str, prefix: &str) -> String {
    match E::try_from(number) {
        Ok(value) if number != 0 => {
            let name = name(&value);
            name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
        }
        _ => unknown(number),
    }
}

fn unknown(number: i32) -> String {
    if number == 0 { "unknown".to_owned() } else { format!("unknown ({number})") }
}

/// What is said of a step that a newer CA has added.
fn newer(number: i32) -> String {
    format!("{}: the CA is newer than this command", unknown(number))
}

/// A phase and what it means.
pub(super) fn phase_with_meaning(number: i32) -> String {
    let meaning = match Phase::try_from(number).unwrap_or_default() {
        Phase::Settled => "one root signs, nothing is under way",
        Phase::Propagate => "the next root is on its way to all holders and signs nothing yet",
        Phase::Drain => "the new root signs; the former one stays until nothing chains to it",
        Phase::Emergency => "an authority is compromised, or holders are accepted by nobody",
        Phase::Degraded => "one root signs, no other is under way, but not all is in order",
        Phase::None => "there is no authority in this storage",
        Phase::Unspecified => "the CA is newer than this command",
    };
    format!("{}: {meaning}", phase(number))
}

/// What coverage does not see.
const STATIC_FILES: &str = "; by the time the old root is retired, static files of roots (CA_ROOT_CA of istio-agents, \
                            ca.root_file of agents that start anew, mounted ConfigMaps) must hold the root that signs";

/// What happens next, with ids in the form that `id` gives them.
pub(super) fn next(next: &Next, id: fn(&str) -> &str) -> String {
    use wire_next::Step;
    let ids: Vec<&str> = next.authorities.iter().map(|one| id(one)).collect();
    let root = ids.join(" ");
    let at = |before: &str, after: &str| {
        next.at.as_ref().map(|at| format!("{before}{}{after}", time(at))).unwrap_or_default()
    };
    let publishers = printable(&next.publishers.join(", "));
    let awaited = match next.holders {
        0 if !next.publishers.is_empty() => {
            format!("it is published by {publishers} (`status` says what is missing)")
        }
        0 => format!("its propagation time is over{}", at(", at ", "")),
        1 => format!("1 more holder has received it{}", at(", or its certificate has ended (at ", ")")),
        holders => {
            format!(
                "{holders} more holders have received it{}",
                at(", or their certificates have ended (the last one at ", ")")
            )
        }
    };
    let awaited = match next.refusing {
        0 => awaited,
        1 => format!("{awaited}; 1 holder has refused a bundle, which takes somebody to look"),
        refusing => format!("{awaited}; {refusing} holders have refused a bundle, which takes somebody to look"),
    };
    let Ok(step) = Step::try_from(next.step) else { return newer(next.step) };
    let mut text = match step {
        Step::Unspecified => newer(next.step),
        Step::InitByCommand => Refused::NoAuthority.to_string(),
        Step::TrustClock => {
            "the clock has jumped, or the storage came from a backup (the checks of `status` tell); nothing is \
                             activated or removed by itself until that has been over for a while"
                .to_owned()
        }
        Step::Activate => format!("root {root} is activated when {awaited}"),
        Step::ActivateByCommand => {
            format!("`authority activate {root}`, or `authority rotate`, lets the prepared root sign when {awaited}")
        }
        Step::ActivateNotBefore => {
            format!("root {root} is activated{}, once every holder has received it", at(" from ", " on"))
        }
        Step::ReplaceCompromised => {
            "another root takes the place of the compromised one; with CA files, put new ones there; with Vault, rotate the root in it".to_owned()
        }
        Step::Renew if next.holders == 1 => {
            "1 holder still uses a certificate of the compromised authority; agents renew now, and a pod whose kubelet keeps it has to be replaced".to_owned()
        }
        Step::Renew => {
            format!("{} holders still use certificates of the compromised authority; agents renew now, and pods whose kubelets keep theirs have to be replaced", next.holders)
        }
        Step::RenewCutOff => format!(
            "{} renewed by its agent, or ends: nobody accepts it until then; `holders list --cut-off` names whose it is",
            if next.holders == 1 {
                "1 certificate is".to_owned()
            } else {
                format!("each of {} certificates is", next.holders)
            }
        ),
        Step::RevokeElsewhere => {
            "the backend revokes the leaves that are revoked here; `status` says why it has not yet".to_owned()
        }
        Step::Accept => format!(
            "{} a bundle; `holders list` says which and why, and it is sent again when that is mended",
            if next.holders == 1 {
                "1 holder has refused".to_owned()
            } else {
                format!("{} holders have refused", next.holders)
            }
        ),
        Step::Publish => {
            format!("the trust bundle is published by {publishers} where it is missing (`status` says why it is)")
        }
        Step::Follow => "this replica gets the CA files, or the backend, that others have adopted".to_owned(),
        Step::RevokeByCommand => {
            format!("nobody uses the compromised authority any more: `authority revoke {root}` removes it")
        }
        Step::RotateByCommand => "automatic rotation is paused since a rollback; `authority rotate` goes on".to_owned(),
        Step::ReplaceFilesByHand => {
            format!("root {root} of the backend is compromised and signs no more: put other CA files there, or rotate it in Vault or cert-manager")
        }
        Step::SignWithFiles => {
            format!("root {root} of the backend signs as soon as every holder knows it{}", at(", from ", " on"))
        }
        Step::SignWithListed => "a root that the backend lists signs as soon as every holder knows it".to_owned(),
        Step::SignWithBackend => "a root of the configured backend is made and takes over".to_owned(),
        Step::RetireByCommand if next.at.is_none() => {
            format!("no certificate chains to root {root} any more: `authority retire {root}` lets it go")
        }
        Step::RetireByCommand => format!(
            "the last certificate under root {root} ends{}; then `authority retire {root}` lets it go",
            at(" at ", "")
        ),
        Step::Retire => "the old root is retired when its last certificate has ended".to_owned(),
        Step::Leave => "the old root leaves the trust bundle when every serving certificate has moved".to_owned(),
        Step::Prepare => format!("the next root is prepared{}", at(" at ", "")),
    };
    if next.static_files {
        text += STATIC_FILES;
    }
    text
}

/// What was done, with the id in the form that `id` gives it.
pub(super) fn done(done: &WireDone, id: fn(&str) -> &str) -> String {
    use wire_done::Step;
    let (authority, holders) = (id(&done.authority), done.holders);
    let Ok(step) = Step::try_from(done.step) else { return newer(done.step) };
    let done = match step {
        Step::Unspecified => Done::Other,
        Step::Nothing => Done::Nothing,
        Step::NothingToResume => Done::NothingToResume,
        Step::NothingToAdopt => Done::NothingToAdopt,
        Step::Prepared => Done::Prepared,
        Step::Awaited => Done::Awaited(authority),
        Step::IssuingRenewed => Done::IssuingRenewed,
        Step::Activated => Done::Activated(authority),
        Step::Dropped => Done::Dropped(authority),
        Step::Reinstated => Done::Reinstated(authority),
        Step::Tainted => Done::Tainted(authority),
        Step::IssuingTainted => Done::IssuingTainted(authority),
        Step::FormerTainted => Done::FormerTainted(authority),
        Step::Replaced => Done::Replaced { of: authority, by: id(&done.successor), behind: holders },
        Step::Leaving => Done::Leaving(authority, done.seconds),
        Step::Revoked => Done::Revoked(authority, holders),
        Step::IssuingRevoked => Done::IssuingRevoked(authority, holders),
        Step::FilesAdopted => Done::FilesAdopted(authority),
        Step::FilesAwaited => Done::FilesAwaited(authority),
        Step::BackendAdopted => Done::BackendAdopted,
        Step::Resumed => Done::Resumed(done.sequence),
    };
    done.to_string()
}

/// The numbers of coverage.
pub(super) fn coverage(coverage: &Coverage) -> String {
    let Coverage { sequence, holders, covered, threshold_percent, gone, .. } = coverage;
    let gone = if *gone > 0 { format!("; {gone} more, whose pods are gone, do not count") } else { String::new() };
    match holders {
        0 => format!("no holders; bundle {sequence} is the one that counts{gone}"),
        _ => format!("{covered} of {holders} holders have bundle {sequence} ({threshold_percent} % needed){gone}"),
    }
}

/// What is not over, a line for each.
pub(super) fn unsettled(unsettled: &Unsettled) -> Vec<(&'static str, String)> {
    let Unsettled { cut_off, refusing, tainted_roots, tainted_issuing, unrevoked, superseded, unpublished } =
        *unsettled;
    let holders = |count: u64| if count == 1 { "1 holder".to_owned() } else { format!("{count} holders") };
    let mut rows = Vec::new();
    if cut_off > 0 {
        rows.push(("CUT OFF", format!("{} accepted by nobody: `holders list --cut-off`", holders(cut_off))));
    }
    if tainted_roots > 0 || tainted_issuing > 0 {
        let text =
            format!("{tainted_roots} root(s) and {tainted_issuing} issuing CA(s), still accepted: `authority list`");
        rows.push(("COMPROMISED", text));
    }
    if unrevoked > 0 {
        let text = format!("{unrevoked} leaf(s), revoked here and not yet by the backend: see its checks in `status`");
        rows.push(("NOT REVOKED", text));
    }
    if refusing > 0 {
        rows.push(("REFUSED", format!("by {}, a bundle: `holders list` says which and why", holders(refusing))));
    }
    if unpublished > 0 {
        rows.push(("NOT PUBLISHED", format!("by {unpublished} publisher(s), see PUBLISHER in `status`")));
    }
    if superseded {
        let text = "newer CA files, or another backend, than this replica has were adopted: see its checks in `status`";
        rows.push(("LEFT BEHIND", text.to_owned()));
    }
    rows
}

/// A bundle that was refused.
pub(super) fn refused(refused: &RefusedBundle) -> String {
    format!("bundle {}: {}", refused.sequence, refused.reason)
}

/// A holder in one line; what it lacks comes first, where a narrow terminal does not cut it off.
pub(super) fn holder(holder: &Holder) -> String {
    let place = match (holder.pod.as_str(), holder.node.as_str()) {
        ("", "") => format!("instance {}", holder.instance),
        (pod, "") => format!("pod {pod}"),
        ("", node) => format!("on {node}"),
        (pod, node) => format!("pod {pod} on {node}"),
    };
    let id = &holder.spiffe_id;
    printable(&match (&holder.refused, holder.bundle_sequence) {
        (Some(bundle), _) => format!("REFUSED  {id}  {place}  {}", refused(bundle)),
        (None, 0) => format!("no bundle  {id}  {place}"),
        (None, sequence) => format!("bundle {sequence}  {id}  {place}"),
    })
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
