//! Where rotation stands and what was done, in words for operators.

use signet_core::authority::AuthorityId;
use signet_core::clock::rfc3339;
use signet_core::holder::Holder;
use signet_core::moment;
use signet_core::rotation::{
    Activation, Authorities, AuthorityState, Observed, Phase, Refused, Retirement, RootAuthority, Rules, SETTLE, Step,
    is_held, propagated_at,
};
use time::OffsetDateTime;

use crate::rotator::Look;

/// A holder as refusals name it.
pub(super) fn holder(holder: &Holder) -> String {
    let place = holder.pod.as_ref().map_or_else(|| holder.key.instance.clone(), |pod| format!("pod {pod}"));
    let refused = holder.refused.as_ref().map(|(_, text)| format!(", refused it: {text}")).unwrap_or_default();
    format!("{} ({place}, has bundle {}{refused})", holder.key.spiffe_id, holder.sequence)
}

/// What a forced taint has done that was carried out in two goes.
pub(super) const REPLACED: &str = "another root signs in place of the compromised one";

/// What a command has done to what was seen.
pub(super) fn done(step: &Step, look: &Look) -> String {
    match step {
        Step::PrepareRoot(_) => "the next root is prepared and published".to_owned(),
        Step::Await(id, _) => format!("root {id} signs as soon as every holder knows it"),
        Step::CertifyIssuing(_) => "a new issuing CA takes over".to_owned(),
        Step::Activate(id) => format!("root {id} signs from now on"),
        Step::DropPrepared(id, _) => format!("the prepared root {id} is dropped"),
        Step::Reinstate(id) => format!("root {id} signs again; automatic rotation is paused"),
        Step::Taint(id) => format!("root {id} is declared compromised; another one takes its place once it is covered"),
        Step::TaintIssuing(id) => format!("agents renew the certificates of issuing CA {id}; then it can be revoked"),
        Step::Leave(id) => format!(
            "root {id} leaves the trust bundle in {} s, when every serving certificate has moved to another root",
            SETTLE.as_secs()
        ),
        Step::Revoke(id) => {
            let holders = look.authorities.root(id).map_or(0, |root| look.seen().holders_of(root));
            format!("root {id} is in no bundle any more{}", cut_off(holders))
        }
        Step::RevokeIssuing(id) => {
            let holders = look.coverage.by_authority.get(id).copied().unwrap_or_default();
            format!("issuing CA {id} is on the revocation list of its root{}", cut_off(holders))
        }
        Step::AdoptRoots => adopted(look),
        Step::Resume(shown) => format!(
            "the trust bundle goes on above {shown}, the highest number that was shown, and above the clock; agents follow"
        ),
        _ => "done".to_owned(),
    }
}

/// What this replica has is adopted.
fn adopted(look: &Look) -> String {
    let signs = look.authorities.active().map(|root| &root.id);
    match &look.source.offer {
        Some(offer) if signs == Some(&offer.signer) => {
            format!("the CA files of this replica are adopted; root {} goes on signing", offer.signer)
        }
        Some(offer) => format!(
            "the CA files of this replica are adopted; root {} signs as soon as every holder knows it",
            offer.signer
        ),
        None => "the backend of this replica is adopted; a root of its own signs as soon as every holder knows it"
            .to_owned(),
    }
}

/// Who has to renew before anybody accepts it again.
fn cut_off(holders: u64) -> String {
    match holders {
        0 => String::new(),
        1 => "; 1 holder is refused until it has renewed, see `holders list --cut-off`".to_owned(),
        _ => format!("; {holders} holders are refused until they have renewed, see `holders list --cut-off`"),
    }
}

/// What happens next by itself, in words, and when at the latest.
pub(super) fn what_next(look: &Look, rules: &Rules) -> (String, Option<OffsetDateTime>) {
    let (mut text, expected) = progress(look, rules);
    if former(&look.authorities).next().is_some() && !text.is_empty() {
        text += STATIC_FILES;
    }
    (text, expected)
}

/// Roots that have signed, and leave the bundle in the end.
fn former(authorities: &Authorities) -> impl Iterator<Item = &RootAuthority> {
    authorities.roots.iter().filter(|root| root.is_old() && !root.pinned)
}

/// What coverage does not see.
const STATIC_FILES: &str = "; by the time the old root is retired, static files of roots (CA_ROOT_CA of istio-agents, \
                            ca.root_file of agents that start anew, mounted ConfigMaps) must hold the root that signs";

/// Former roots that an operator is to let go.
pub(super) fn held(look: &Look, rules: &Rules) -> Vec<AuthorityId> {
    let is_held = |root: &&RootAuthority| is_held(root, &look.seen(), rules, look.now);
    look.authorities.roots.iter().filter(is_held).map(|root| root.id.clone()).collect()
}

fn progress(look: &Look, rules: &Rules) -> (String, Option<OffsetDateTime>) {
    let (authorities, seen) = (&look.authorities, look.seen());
    if authorities.active().is_none() {
        return (Refused::NoAuthority.to_string(), None);
    }
    let expected = authorities.expected_end(&seen);
    if !look.clock_is_steady {
        return (
            "the clock has jumped, or the storage came from a backup (the checks of `status` tell); nothing is activated or \
             removed by itself until that has been over for a while"
                .into(),
            None,
        );
    }
    let behind = |sequence| look.coverage.live().saturating_sub(look.coverage.covered(sequence));
    let waits_for = |root: &RootAuthority| match behind(root.published) {
        0 => {
            let at = signs_at(look, root, rules).map(|at| format!(", at {}", rfc3339(at))).unwrap_or_default();
            format!("its propagation time is over{at}")
        }
        1 => "1 more holder has received it".to_owned(),
        count => format!("{count} more holders have received it"),
    };
    let phase = Phase::of(authorities);
    if let Some(root) = authorities.prepared().filter(|_| matches!(phase, Phase::Propagate | Phase::Emergency)) {
        let missing = waits_for(root);
        let expected = match behind(root.published) {
            0 => signs_at(look, root, rules),
            _ => expected,
        };
        let activation = root.activation().unwrap_or_default();
        let at = match activation {
            Activation::NotBefore(at) => OffsetDateTime::from_unix_timestamp(at).ok().filter(|at| *at > look.now),
            _ => None,
        };
        return match (activation, at) {
            _ if phase == Phase::Emergency => (format!("root {} is activated when {missing}", root.id), expected),
            (Activation::OnCommand, _) => {
                let how = format!("`authority activate {}`, or `authority rotate`", root.id);
                (format!("{how}, lets the prepared root sign when {missing}"), None)
            }
            (_, Some(at)) => {
                let when = rfc3339(at);
                (format!("root {} is activated from {when} on, once every holder has received it", root.id), Some(at))
            }
            _ => (format!("root {} is activated when {missing}", root.id), expected),
        };
    }
    let text = match phase {
        Phase::None | Phase::Settled => return (settled(authorities, rules), None),
        Phase::Emergency if authorities.active().is_some_and(|root| root.tainted_at.is_some()) => {
            "another root takes the place of the compromised one; with CA files, put new ones there".to_owned()
        }
        Phase::Emergency => emergency(authorities, &seen),
        Phase::Propagate => return (left(look, rules), expected),
        Phase::Drain => return drain(look, rules, expected),
    };
    (text, expected)
}

/// When a root may sign that everybody has, if that is to come.
fn signs_at(look: &Look, root: &RootAuthority, rules: &Rules) -> Option<OffsetDateTime> {
    propagated_at(&look.authorities, root, &look.seen(), rules, look.now).filter(|at| *at > look.now)
}

fn drain(look: &Look, rules: &Rules, expected: Option<OffsetDateTime>) -> (String, Option<OffsetDateTime>) {
    let (authorities, seen) = (&look.authorities, look.seen());
    if let [id, ..] = held(look, rules).as_slice() {
        let text = format!("no certificate chains to root {id} any more: `authority retire {id}` lets it go");
        return (text, None);
    }
    if former(authorities).all(|root| root.leaving_since().is_some()) {
        return ("the old root leaves the trust bundle when every serving certificate has moved".to_owned(), expected);
    }
    let staying = former(authorities).find(|root| root.leaving_since().is_none());
    match staying.filter(|_| rules.retirement == Retirement::Manual) {
        Some(root) => {
            let (id, end) = (&root.id, rfc3339(seen.drained_at(root)));
            (
                format!("the last certificate under root {id} ends at {end}; then `authority retire {id}` lets it go"),
                None,
            )
        }
        None => ("the old root is retired when its last certificate has ended".to_owned(), expected),
    }
}

/// The root that signs is not the one that is followed, and none is prepared.
fn left(look: &Look, rules: &Rules) -> String {
    let authorities = &look.authorities;
    if authorities.paused {
        return PAUSED.to_owned();
    }
    match look.offer.as_ref().and_then(|offer| authorities.root(&offer.signer)) {
        Some(root) if root.tainted_at.is_some() => {
            format!("root {} of the CA files is compromised and signs no more: put other files there", root.id)
        }
        Some(root) => {
            let from = signs_at(look, root, rules).map(|at| format!(", from {} on", rfc3339(at))).unwrap_or_default();
            format!("root {} of the CA files signs as soon as every holder knows it{from}", root.id)
        }
        None if authorities.roots.iter().any(|root| root.pinned) => {
            "a root that the CA files list signs as soon as every holder knows it".to_owned()
        }
        None => "a root of the configured backend is made and takes over".to_owned(),
    }
}

/// Nothing is done by itself.
const PAUSED: &str = "automatic rotation is paused since a rollback; `authority rotate` goes on";

fn emergency(authorities: &Authorities, seen: &Observed<'_>) -> String {
    let tainted = authorities.roots.iter().filter(|root| root.state == AuthorityState::Tainted);
    let holders: u64 = tainted.clone().map(|root| seen.holders_of(root)).sum();
    let ids: Vec<&str> = tainted.map(|root| root.id.as_str()).collect();
    match holders {
        0 => format!("nobody uses the compromised root any more: `authority revoke {}` removes it", ids.join(" ")),
        1 => "1 holder still uses a certificate of the compromised root; agents renew now".to_owned(),
        count => format!("{count} holders still use certificates of the compromised root; agents renew now"),
    }
}

fn settled(authorities: &Authorities, rules: &Rules) -> String {
    let Some(active) = authorities.active() else { return String::new() };
    if authorities.paused {
        return PAUSED.to_owned();
    }
    if !rules.automatic || active.pinned {
        return String::new();
    }
    let life = moment::until(active.not_before, active.not_after);
    let at = moment::after(active.not_before, life.mul_f64(f64::from(rules.prepare_at) / 100.0));
    format!("the next root is prepared at {}", rfc3339(at))
}
