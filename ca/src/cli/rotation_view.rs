//! How rotation looks in tables and JSON; `status`, `authority` and `holders` share it.

use prost_types::Timestamp;
use serde_json::{Value, json};
use signet_proto::admin::v1alpha1::{Authority, AuthorityKind, AuthorityState, Coverage, Holder, Rotation};
use signet_runtime::output::Table;

use super::describe::{self, short};

/// Laggards that are named before the rest is counted.
pub(super) const NAMED: usize = 5;

/// Everything, times in RFC 3339 or null.
pub(super) fn rotation_json(rotation: &Rotation) -> Value {
    json!({
        "phase": describe::phase(rotation.phase),
        "bundle_sequence": rotation.bundle_sequence,
        "authorities": rotation.authorities.iter().map(authority_json).collect::<Vec<_>>(),
        "coverage": rotation.coverage.as_ref().map(|coverage| json!({
            "sequence": coverage.sequence,
            "holders": coverage.holders,
            "covered": coverage.covered,
            "threshold_percent": coverage.threshold_percent,
            "laggards": coverage.laggards.iter().map(holder_json).collect::<Vec<_>>(),
        })),
        "unsettled": rotation.unsettled.as_ref().map(|unsettled| json!({
            "cut_off": unsettled.cut_off,
            "refusing": unsettled.refusing,
            "tainted_roots": unsettled.tainted_roots,
            "tainted_issuing": unsettled.tainted_issuing,
            "superseded": unsettled.superseded,
        })),
        "paused": rotation.paused,
        "next": rotation.next.as_ref().map(|next| describe::next(next, describe::whole)),
        "expected_at": moment(rotation.expected_at.as_ref()),
        "revoked_certificates": rotation.revoked_certificates,
        "done": rotation.done.as_ref().map(|done| describe::done(done, describe::whole)),
    })
}

/// One authority.
pub(super) fn authority_json(authority: &Authority) -> Value {
    let root = authority.kind() == AuthorityKind::Root;
    json!({
        "id": authority.id, "key_id": some(&authority.key_id), "kind": describe::kind(authority.kind),
        "state": describe::state(authority.state),
        "not_before": moment(authority.not_before.as_ref()), "not_after": moment(authority.not_after.as_ref()),
        "renews_at": moment(authority.renews_at.as_ref()),
        "generation": root.then_some(authority.generation),
        "root": some(&authority.root),
        "since": moment(authority.since.as_ref()),
        "published": root.then_some(authority.published),
        "holders": authority.holders,
        "needed_until": moment(authority.needed_until.as_ref()),
        "tainted_at": moment(authority.tainted_at.as_ref()),
        "pinned": root.then_some(authority.pinned),
        "leaving_since": moment(authority.leaving_since.as_ref()),
        "held": root.then_some(authority.held),
    })
}

/// One holder.
pub(super) fn holder_json(holder: &Holder) -> Value {
    json!({
        "spiffe_id": holder.spiffe_id, "instance": holder.instance,
        "pod": some(&holder.pod), "node": some(&holder.node), "cluster": some(&holder.cluster),
        "serial": holder.serial, "authority": holder.authority, "not_after": moment(holder.not_after.as_ref()),
        "bundle_sequence": holder.bundle_sequence, "learns_by": describe::learns_by(holder.learns_by), "seen_at": moment(holder.seen_at.as_ref()),
        "refused": holder.refused.as_ref().map(describe::refused),
    })
}

/// Phase and what comes next, the authorities, and who lags.
pub(super) fn rotation_text(rotation: &Rotation) -> String {
    let mut head = Table::new(["rotation", ""]);
    for (what, value) in rotation_rows(rotation) {
        head.row([what, &value]);
    }
    let mut text = format!("{}\n{}", head.render(), authorities_table(&rotation.authorities).render());
    let coverage = rotation.coverage.clone().unwrap_or_default();
    if !coverage.laggards.is_empty() {
        let rest = behind(&coverage).saturating_sub(count(coverage.laggards.len()));
        // Without the sequence, the list would be about the newest bundle, which may be a later one.
        let list = format!("signet-ca holders list --behind --sequence {}", coverage.sequence);
        let rest = if rest > 0 { format!("and {rest} more: `{list}`\n") } else { String::new() };
        text = format!("{text}\n{}{rest}", holders_table(&coverage.laggards).render());
    }
    text
}

/// Phase, coverage and what comes next, as rows of two.
pub(super) fn rotation_rows(rotation: &Rotation) -> Vec<(&'static str, String)> {
    let mut rows = vec![("phase", describe::phase_with_meaning(rotation.phase))];
    if let Some(coverage) = &rotation.coverage {
        rows.push(("coverage", describe::coverage(coverage)));
    }
    rows.extend(rotation.unsettled.iter().flat_map(describe::unsettled));
    if rotation.paused {
        rows.push(("paused", "roots are not replaced by themselves until an operator rotates or prepares".to_owned()));
    }
    if let Some(next) = &rotation.next {
        rows.push(("next", describe::next(next, short)));
    }
    if let Some(at) = &rotation.expected_at {
        rows.push(("expected by", format!("{}, at the latest", describe::time(at))));
    }
    if rotation.revoked_certificates > 0 {
        rows.push(("revoked certificates", rotation.revoked_certificates.to_string()));
    }
    rows
}

/// Holders that lag.
pub(super) fn behind(coverage: &Coverage) -> u64 {
    coverage.holders.saturating_sub(coverage.covered)
}

/// A length as the wire counts.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Roots and issuing CAs.
pub(super) fn authorities_table(authorities: &[Authority]) -> Table {
    let mut table = Table::new([
        "authority",
        "kind",
        "state",
        "generation",
        "published",
        "holders",
        "needed until",
        "not after",
        "renews at",
    ]);
    for authority in authorities {
        let root = authority.kind() == AuthorityKind::Root;
        let number = |value: u64| if root { value.to_string() } else { "-".to_owned() };
        let mut state = describe::state(authority.state);
        if authority.tainted_at.is_some() && authority.state() != AuthorityState::Tainted {
            state += ", tainted";
        }
        if authority.pinned {
            state += ", pinned";
        }
        if authority.leaving_since.is_some() {
            state += ", leaving";
        }
        if authority.held {
            state += ", held";
        }
        table.row([
            short(&authority.id),
            &describe::kind(authority.kind),
            &state,
            &number(authority.generation),
            &number(authority.published),
            &authority.holders.to_string(),
            &describe::time_or_dash(authority.needed_until.as_ref()),
            &describe::time_or_dash(authority.not_after.as_ref()),
            &describe::time_or_dash(authority.renews_at.as_ref()),
        ]);
    }
    table
}

/// Characters of a refusal that fit a table; the whole text is in the JSON form.
const REFUSAL: usize = 48;

/// Holders.
pub(super) fn holders_table(holders: &[Holder]) -> Table {
    let mut table =
        Table::new(["holder", "instance", "pod", "node", "authority", "bundle", "learns by", "not after", "refused"]);
    let text = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
    for holder in holders {
        let refused = holder.refused.as_ref().map(describe::refused).unwrap_or_default();
        table.row([
            &holder.spiffe_id,
            &holder.instance,
            &text(&holder.pod),
            &text(&holder.node),
            short(&holder.authority),
            &holder.bundle_sequence.to_string(),
            &describe::learns_by(holder.learns_by),
            &describe::time_or_dash(holder.not_after.as_ref()),
            &text(&refused.chars().take(REFUSAL).collect::<String>()),
        ]);
    }
    table
}

fn moment(at: Option<&Timestamp>) -> Option<String> {
    at.map(describe::time)
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_those_that_lag_is_listed_by_the_awaited_bundle() {
        let coverage =
            Coverage { sequence: 3, holders: 9, covered: 2, laggards: vec![Holder::default()], ..Coverage::default() };
        let rotation = Rotation { bundle_sequence: 4, coverage: Some(coverage), ..Rotation::default() };
        let text = rotation_text(&rotation);
        assert!(text.ends_with("and 6 more: `signet-ca holders list --behind --sequence 3`\n"), "{text}");
    }
}
