//! What happens next, and when it will be over.

use signet_core::authority::AuthorityId;
use signet_core::clock::rfc3339;
use signet_core::moment;
use signet_core::rotation::{
    Activation, Authorities, AuthorityState, Observed, Phase, Refused, Retirement, RootAuthority, Rules, is_held,
    propagated_at,
};
use time::OffsetDateTime;

use super::Scene;

/// What happens next by itself, in words, and when at the latest.
pub(crate) fn what_next(scene: &Scene<'_>, rules: &Rules) -> (String, Option<OffsetDateTime>) {
    let (mut text, expected) = progress(scene, rules);
    if former(scene.authorities).next().is_some() && !text.is_empty() {
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
pub(crate) fn held(scene: &Scene<'_>, rules: &Rules) -> Vec<AuthorityId> {
    let is_held = |root: &&RootAuthority| is_held(root, &scene.seen, rules, scene.now);
    scene.authorities.roots.iter().filter(is_held).map(|root| root.id.clone()).collect()
}

fn progress(scene: &Scene<'_>, rules: &Rules) -> (String, Option<OffsetDateTime>) {
    let (authorities, seen) = (scene.authorities, &scene.seen);
    if authorities.active().is_none() {
        return (Refused::NoAuthority.to_string(), None);
    }
    let expected = authorities.expected_end(seen);
    if !scene.seen.clock_is_steady {
        return (
            "the clock has jumped, or the storage came from a backup (the checks of `status` tell); nothing is activated or \
             removed by itself until that has been over for a while"
                .into(),
            None,
        );
    }
    let behind = |sequence| scene.seen.coverage.live().saturating_sub(scene.seen.coverage.covered(sequence));
    let waits_for = |root: &RootAuthority| match behind(root.published) {
        0 => {
            let at = signs_at(scene, root, rules).map(|at| format!(", at {}", rfc3339(at))).unwrap_or_default();
            format!("its propagation time is over{at}")
        }
        1 => "1 more holder has received it".to_owned(),
        count => format!("{count} more holders have received it"),
    };
    let phase = Phase::of(authorities);
    if let Some(root) = authorities.prepared().filter(|_| matches!(phase, Phase::Propagate | Phase::Emergency)) {
        let missing = waits_for(root);
        let expected = match behind(root.published) {
            0 => signs_at(scene, root, rules),
            _ => expected,
        };
        let activation = root.activation().unwrap_or_default();
        let at = match activation {
            Activation::NotBefore(at) => OffsetDateTime::from_unix_timestamp(at).ok().filter(|at| *at > scene.now),
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
        Phase::Emergency => emergency(authorities, seen),
        Phase::Propagate => return (left(scene, rules), expected),
        Phase::Drain => return drain(scene, rules, expected),
    };
    (text, expected)
}

/// When a root may sign that everybody has, if that is to come.
fn signs_at(scene: &Scene<'_>, root: &RootAuthority, rules: &Rules) -> Option<OffsetDateTime> {
    propagated_at(scene.authorities, root, &scene.seen, rules, scene.now).filter(|at| *at > scene.now)
}

fn drain(scene: &Scene<'_>, rules: &Rules, expected: Option<OffsetDateTime>) -> (String, Option<OffsetDateTime>) {
    let (authorities, seen) = (scene.authorities, &scene.seen);
    if let [id, ..] = held(scene, rules).as_slice() {
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

/// The root that signs is not that of the adopted source, and none is prepared.
fn left(scene: &Scene<'_>, rules: &Rules) -> String {
    let authorities = scene.authorities;
    if authorities.paused {
        return PAUSED.to_owned();
    }
    match scene.seen.offer.and_then(|offer| authorities.root(&offer.signer)) {
        Some(root) if root.tainted_at.is_some() => {
            format!("root {} of the CA files is compromised and signs no more: put other files there", root.id)
        }
        Some(root) => {
            let from = signs_at(scene, root, rules).map(|at| format!(", from {} on", rfc3339(at))).unwrap_or_default();
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
