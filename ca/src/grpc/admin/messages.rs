//! The operators' messages: from what the CA knows to what the wire says.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost_types::Timestamp;
use signet_core::authority::{AuthorityId, IssuingCa, subject_key_id};
use signet_core::clock::rfc3339;
use signet_core::holder::{Coverage, Holder, HolderKey};
use signet_core::publication::{self, Publication, Publications};
use signet_core::renewal::half_life;
use signet_core::rotation::{Authorities, AuthorityState, IssuingAuthority, RootAuthority, Unsettled, is_revoked};
use signet_core::time_math;
use signet_proto::admin::v1alpha1 as wire;
use time::OffsetDateTime;

use super::progress;
use super::values::{limit, phase, state, time};
use crate::operations::{Done, View};
use crate::over_limit::Met;

/// What is known about the use of authorities.
#[derive(Default)]
pub(super) struct Use<'a> {
    coverage: Option<&'a Coverage>,
    last_ends: Option<&'a BTreeMap<AuthorityId, OffsetDateTime>>,
    /// Former roots that an operator is to let go.
    held: &'a [AuthorityId],
}

impl Use<'_> {
    fn holders(&self, issuing: &AuthorityId) -> u64 {
        self.coverage.and_then(|coverage| coverage.by_authority.get(issuing)).copied().unwrap_or_default()
    }

    fn needed_until(&self, issuing: &AuthorityId) -> Option<OffsetDateTime> {
        self.last_ends.and_then(|ends| ends.get(issuing)).copied()
    }
}

/// Where rotation stands; `done` says what was done, when this answers a change.
pub(super) fn rotation(view: &View, done: Option<&Done>, now: OffsetDateTime) -> wire::Rotation {
    let used = Use { coverage: Some(&view.coverage), last_ends: Some(&view.last_ends), held: &view.held };
    wire::Rotation {
        phase: phase(view.phase).into(),
        bundle_sequence: view.authorities.bundle_sequence,
        authorities: authorities(&view.authorities, &used, now),
        coverage: Some(wire::Coverage {
            sequence: view.awaited_sequence,
            holders: view.coverage.live(),
            covered: view.coverage.covered(view.awaited_sequence),
            threshold_percent: u32::from(view.threshold_percent),
            laggards: view.laggards.iter().map(holder).collect(),
            gone: view.coverage.gone,
        }),
        paused: view.authorities.paused,
        next: progress::next(&view.next, view.has_former),
        expected_at: view.expected_at.map(time),
        revoked_certificates: count(view.authorities.revocations.entries.len()),
        done: done.map(progress::done),
        unsettled: Some(unsettled(&view.unsettled)),
        publishers: publishers(&view.coverage.published, &view.lacking, now),
    }
}

fn unsettled(unsettled: &Unsettled) -> wire::Unsettled {
    let Unsettled { cut_off, refusing, tainted_roots, tainted_issuing, unrevoked, superseded, unpublished } =
        *unsettled;
    wire::Unsettled { cut_off, refusing, tainted_roots, tainted_issuing, unrevoked, superseded, unpublished }
}

/// Those that storage knows, and those of which nothing was heard yet.
fn publishers(published: &Publications, lacking: &[String], now: OffsetDateTime) -> Vec<wire::Publisher> {
    let mut rows: Vec<wire::Publisher> = published.all().iter().map(|one| publisher(one, lacking, now)).collect();
    let is_known = |name: &String| published.all().iter().any(|one| one.publisher == *name);
    let unheard = lacking.iter().filter(|name| !is_known(name));
    rows.extend(unheard.map(|name| wire::Publisher {
        name: name.clone(),
        lacking: true,
        ..wire::Publisher::default()
    }));
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// After how long without a word of a publisher it is said that there is none.
const UNHEARD: Duration = Duration::from_secs(120);

fn publisher(one: &Publication, lacking: &[String], now: OffsetDateTime) -> wire::Publisher {
    let mut problem = one.problem.clone().unwrap_or_default();
    if time_math::until(one.heard_at, now) > UNHEARD {
        let before = if problem.is_empty() { String::new() } else { format!("; before that: {problem}") };
        problem = format!(
            "nobody has spoken of it since {}: the replica that did is gone, or configured otherwise; nobody waits for it after {}{before}",
            rfc3339(one.heard_at),
            rfc3339(time_math::after(one.heard_at, publication::SILENT)),
        );
    }
    wire::Publisher {
        name: one.publisher.clone(),
        bundle_sequence: one.sequence(),
        reached_at: one.reached.last_key_value().map(|(_, at)| time(*at)),
        wanted: one.wanted,
        in_place: one.in_place,
        problem,
        heard_at: Some(time(one.heard_at)),
        lacking: lacking.contains(&one.publisher),
    }
}

/// A limit that was met.
pub(super) fn turned_away(met: Met) -> wire::TurnedAway {
    wire::TurnedAway { limit: limit(met.limit).into(), total: met.total, lately: met.lately }
}

/// Roots, each followed by its issuing CAs.
pub(super) fn authorities(authorities: &Authorities, used: &Use<'_>, now: OffsetDateTime) -> Vec<wire::Authority> {
    let signs = authorities.active_issuer(now).map(|issuing| &issuing.id);
    let mut rows = Vec::new();
    for root in &authorities.roots {
        let needed = root.issuing.iter().filter_map(|issuing| used.needed_until(&issuing.id)).max();
        rows.push(wire::Authority {
            id: root.id.to_string(),
            kind: wire::AuthorityKind::Root.into(),
            state: state(root.state).into(),
            not_before: Some(time(root.not_before)),
            not_after: Some(time(root.not_after)),
            renews_at: None,
            generation: root.generation,
            root: String::new(),
            since: Some(time(root.since)),
            published: root.published,
            holders: root.issuing.iter().map(|issuing| used.holders(&issuing.id)).sum(),
            needed_until: needed.map(time),
            tainted_at: root.tainted_at.map(time),
            pinned: root.pinned,
            key_id: subject_key_id(&root.certificate),
            leaving_since: root.leaving_since().map(time),
            held: used.held.contains(&root.id),
        });
        for (index, issuing) in root.issuing.iter().enumerate() {
            rows.push(wire::Authority {
                id: issuing.id.to_string(),
                kind: wire::AuthorityKind::Issuing.into(),
                state: issuing_state(authorities, root, index, issuing, signs).into(),
                not_before: Some(time(issuing.not_before)),
                not_after: Some(time(issuing.not_after)),
                renews_at: renews_at(authorities, root, issuing).map(time),
                root: root.id.to_string(),
                holders: used.holders(&issuing.id),
                needed_until: used.needed_until(&issuing.id).map(time),
                tainted_at: authorities.issuing_tainted_at(issuing).map(|seconds| Timestamp { seconds, nanos: 0 }),
                key_id: subject_key_id(&issuing.certificate),
                ..wire::Authority::default()
            });
        }
    }
    rows
}

/// When an issuing CA is renewed, if it will be: the newest one of the root that signs, as long as it is our own, whoever has
/// the root, and that goes on after it.
fn renews_at(authorities: &Authorities, root: &RootAuthority, issuing: &IssuingAuthority) -> Option<OffsetDateTime> {
    let newest = root.issuing.iter().rev().find(|one| !is_revoked(authorities, one));
    let is_brought = !issuing.is_ours();
    let is_ours = if root.pinned { !is_brought } else { root.key.is_some() };
    let renewed = root.is_active() && is_ours && newest == Some(issuing) && issuing.not_after < root.not_after;
    renewed.then(|| half_life(issuing.not_before, issuing.not_after))
}

/// An issuing CA shares the state of its root, but under the root that signs only one of them does.
fn issuing_state(
    authorities: &Authorities,
    root: &RootAuthority,
    index: usize,
    issuing: &IssuingCa,
    signs: Option<&AuthorityId>,
) -> wire::AuthorityState {
    if is_revoked(authorities, issuing) {
        return wire::AuthorityState::Revoked;
    }
    if authorities.issuing_tainted_at(issuing).is_some() {
        return wire::AuthorityState::Tainted;
    }
    if root.state != AuthorityState::Active {
        return state(root.state);
    }
    let signer = root.issuing.iter().position(|one| Some(&one.id) == signs);
    match signer {
        Some(signer) if index == signer => wire::AuthorityState::Active,
        Some(signer) if index < signer => wire::AuthorityState::Old,
        _ => wire::AuthorityState::Prepared,
    }
}

/// One holder.
pub(super) fn holder(holder: &Holder) -> wire::Holder {
    wire::Holder {
        spiffe_id: holder.key.spiffe_id.clone(),
        instance: holder.key.instance.clone(),
        pod: holder.pod.clone().unwrap_or_default(),
        node: holder.node.clone().unwrap_or_default(),
        cluster: holder.cluster.clone().unwrap_or_default(),
        serial: holder.serial.clone(),
        authority: holder.authority.to_string(),
        not_after: Some(time(holder.not_after)),
        bundle_sequence: holder.sequence,
        learns_by: match (holder.key.learns_from_publication(), holder.acknowledges) {
            (true, _) => wire::LearnsBy::Published,
            (false, true) => wire::LearnsBy::Acknowledged,
            (false, false) => wire::LearnsBy::Reply,
        }
        .into(),
        seen_at: Some(time(holder.seen_at)),
        refused: holder
            .refused
            .as_ref()
            .map(|(sequence, reason)| wire::RefusedBundle { sequence: *sequence, reason: reason.clone() }),
        gone_at: holder.gone_at.map(time),
    }
}

/// The page token that continues after a holder.
pub(super) fn page_token(key: &HolderKey) -> String {
    let text = serde_json::to_vec(&(&key.spiffe_id, &key.instance)).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(text)
}

/// The holder that a page token continues after.
pub(super) fn page_after(token: &str) -> Option<HolderKey> {
    let (spiffe_id, instance) = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    Some(HolderKey { spiffe_id, instance })
}

/// A number on the wire.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_page_token_brings_back_its_holder_and_garbage_none() {
        let key = HolderKey { spiffe_id: "spiffe://td/ns/a/sa/b".into(), instance: "an \"instance\"/1".into() };
        assert_eq!(page_after(&page_token(&key)).unwrap(), key);
        for garbage in ["", "x", "!!", "W10", &URL_SAFE_NO_PAD.encode("[1,2]")] {
            assert_eq!(page_after(garbage), None, "{garbage:?}");
        }
    }
}
