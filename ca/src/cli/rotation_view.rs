//! How rotation looks in tables and JSON; `status`, `authority` and `holders` share it.

use serde_json::{Value, json};
use signet_proto::admin::v1alpha1::{Authority, Coverage, Holder, Rotation};
use signet_runtime::output::Table;

use super::{printable, time_text};

/// Laggards that are named before the rest is counted.
pub(super) const NAMED: usize = 5;

/// The first 8 digits of an id, as tables and lines show it.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Everything, times in RFC 3339 or null.
pub(super) fn rotation_json(rotation: &Rotation) -> Value {
    json!({
        "phase": rotation.phase,
        "bundle_sequence": rotation.bundle_sequence,
        "authorities": rotation.authorities.iter().map(authority_json).collect::<Vec<_>>(),
        "coverage": rotation.coverage.as_ref().map(|coverage| json!({
            "sequence": coverage.sequence,
            "holders": coverage.holders,
            "covered": coverage.covered,
            "threshold_percent": coverage.threshold_percent,
            "laggards": coverage.laggards.iter().map(holder_json).collect::<Vec<_>>(),
        })),
        "paused": rotation.paused,
        "next": some(&rotation.next),
        "expected_at": moment(rotation.expected_at),
        "revoked_certificates": rotation.revoked_certificates,
        "done": some(&rotation.done),
    })
}

/// One authority.
pub(super) fn authority_json(authority: &Authority) -> Value {
    let root = authority.kind == "root";
    json!({
        "id": authority.id, "key_id": some(&authority.key_id), "kind": authority.kind, "state": authority.state,
        "not_before": moment(authority.not_before), "not_after": moment(authority.not_after),
        "renews_at": moment(authority.renews_at),
        "generation": root.then_some(authority.generation),
        "root": some(&authority.root),
        "since": moment(authority.since),
        "published": root.then_some(authority.published),
        "holders": authority.holders,
        "needed_until": moment(authority.needed_until),
        "tainted_at": moment(authority.tainted_at),
        "pinned": root.then_some(authority.pinned),
        "leaving_since": moment(authority.leaving_since),
        "held": root.then_some(authority.held),
    })
}

/// One holder.
pub(super) fn holder_json(holder: &Holder) -> Value {
    json!({
        "spiffe_id": holder.spiffe_id, "instance": holder.instance,
        "pod": some(&holder.pod), "node": some(&holder.node), "cluster": some(&holder.cluster),
        "serial": holder.serial, "authority": holder.authority, "not_after": moment(holder.not_after),
        "bundle_sequence": holder.bundle_sequence, "learns_by": holder.learns_by, "seen_at": moment(holder.seen_at),
        "refused": some(&holder.refused),
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
    let mut rows = vec![("phase", format!("{}: {}", rotation.phase, phase_text(&rotation.phase)))];
    if let Some(coverage) = &rotation.coverage {
        rows.push(("coverage", coverage_text(coverage)));
    }
    if rotation.paused {
        rows.push(("paused", "roots are not replaced by themselves until an operator rotates or prepares".to_owned()));
    }
    if !rotation.next.is_empty() {
        rows.push(("next", shortened(&rotation.next, &rotation.authorities)));
    }
    if rotation.expected_at > 0 {
        rows.push(("expected by", time_text(rotation.expected_at)));
    }
    if rotation.revoked_certificates > 0 {
        rows.push(("revoked certificates", rotation.revoked_certificates.to_string()));
    }
    rows
}

/// What a phase means.
pub(super) fn phase_text(phase: &str) -> &'static str {
    match phase {
        "settled" => "one root signs, nothing is under way",
        "propagate" => "the next root is on its way to all holders and signs nothing yet",
        "drain" => "the new root signs; the former one stays until nothing chains to it",
        "emergency" => "a compromised root is being replaced",
        _ => "there is no authority in this storage",
    }
}

/// The numbers of coverage in words.
pub(super) fn coverage_text(coverage: &Coverage) -> String {
    let Coverage { sequence, holders, covered, threshold_percent, .. } = coverage;
    match holders {
        0 => format!("no holders; bundle {sequence} is the one that counts"),
        _ => format!("{covered} of {holders} holders have bundle {sequence} ({threshold_percent} % needed)"),
    }
}

/// Holders that lag.
pub(super) fn behind(coverage: &Coverage) -> u64 {
    coverage.holders.saturating_sub(coverage.covered)
}

/// A length as the wire counts.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A holder in one line of text; what it lacks comes first, where a narrow terminal does not cut it off.
pub(super) fn holder_line(holder: &Holder) -> String {
    let place = match (holder.pod.as_str(), holder.node.as_str()) {
        ("", "") => format!("instance {}", holder.instance),
        (pod, "") => format!("pod {pod}"),
        ("", node) => format!("on {node}"),
        (pod, node) => format!("pod {pod} on {node}"),
    };
    let id = &holder.spiffe_id;
    printable(&match (holder.refused.as_str(), holder.bundle_sequence) {
        ("", 0) => format!("no bundle  {id}  {place}"),
        ("", sequence) => format!("bundle {sequence}  {id}  {place}"),
        (refused, _) => format!("REFUSED  {id}  {place}  {refused}"),
    })
}

/// The server's words with its long ids cut to what tables show.
pub(super) fn shortened(text: &str, authorities: &[Authority]) -> String {
    authorities.iter().fold(text.to_owned(), |text, one| match one.id.as_str() {
        "" => text,
        id => text.replace(id, short(id)),
    })
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
        let root = authority.kind == "root";
        let number = |value: u64| if root { value.to_string() } else { "-".to_owned() };
        let mut state = authority.state.clone();
        if authority.tainted_at > 0 && state != "tainted" {
            state += ", tainted";
        }
        if authority.pinned {
            state += ", pinned";
        }
        if authority.leaving_since > 0 {
            state += ", leaving";
        }
        if authority.held {
            state += ", held";
        }
        table.row([
            short(&authority.id),
            &authority.kind,
            &state,
            &number(authority.generation),
            &number(authority.published),
            &authority.holders.to_string(),
            &or_dash(authority.needed_until),
            &time_text(authority.not_after),
            &or_dash(authority.renews_at),
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
        table.row([
            &holder.spiffe_id,
            &holder.instance,
            &text(&holder.pod),
            &text(&holder.node),
            short(&holder.authority),
            &holder.bundle_sequence.to_string(),
            &holder.learns_by,
            &time_text(holder.not_after),
            &text(&holder.refused.chars().take(REFUSAL).collect::<String>()),
        ]);
    }
    table
}

fn or_dash(seconds: i64) -> String {
    if seconds > 0 { time_text(seconds) } else { "-".to_owned() }
}

fn moment(seconds: i64) -> Option<String> {
    (seconds > 0).then(|| time_text(seconds))
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
