//! How rotation looks in tables and JSON; `status`, `authority` and `holders` share it.

use prost_types::Timestamp;
use serde_json::{Value, json};
use signet_proto::admin::v1alpha1::{Authority, AuthorityKind, AuthorityState, Coverage, Holder, Publisher, Rotation};
use signet_runtime::output::Table;

use super::describe;
use super::printable;
use super::view::{ShownIds, View};

/// Laggards that are named before the rest is counted.
pub(super) const NAMED: usize = 5;

/// Everything, times in RFC 3339 or null.
pub(super) fn rotation_json(rotation: &Rotation) -> Value {
    json!({
        "phase": describe::phase(rotation.phase),
        "bundle_sequence": rotation.bundle_sequence,
        "authorities": rotation.authorities.iter().map(authority_json).collect::<Vec<_>>(),
        "coverage": rotation.coverage.as_ref().map(|coverage| json!({
            "bundle_sequence": coverage.sequence,
            "holders": coverage.holders,
            "covered": coverage.covered,
            "threshold_percent": coverage.threshold_percent,
            "laggards": coverage.laggards.iter().map(holder_json).collect::<Vec<_>>(),
            "gone": coverage.gone,
        })),
        "unsettled": rotation.unsettled.as_ref().map(|unsettled| json!({
            "cut_off": unsettled.cut_off,
            "refusing": unsettled.refusing,
            "tainted_roots": unsettled.tainted_roots,
            "tainted_issuing": unsettled.tainted_issuing,
            "unrevoked": unsettled.unrevoked,
            "superseded": unsettled.superseded,
            "unpublished": unsettled.unpublished,
        })),
        "publishers": rotation.publishers.iter().map(publisher_json).collect::<Vec<_>>(),
        "paused": rotation.paused,
        "next": rotation.next.as_ref().map(|next| describe::next(next, describe::whole)),
        "expected_at": moment(rotation.expected_at.as_ref()),
        "revoked_certificates": rotation.revoked_certificates,
        "done": rotation.done.as_ref().map(|done| describe::done(done, describe::whole)),
    })
}

/// One publisher.
fn publisher_json(publisher: &Publisher) -> Value {
    json!({
        "name": publisher.name, "bundle_sequence": publisher.bundle_sequence,
        "reached_at": moment(publisher.reached_at.as_ref()), "heard_at": moment(publisher.heard_at.as_ref()),
        "wanted": publisher.wanted, "in_place": publisher.in_place,
        "problem": some(&publisher.problem), "lacking": publisher.lacking,
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
        "gone_at": moment(holder.gone_at.as_ref()),
    })
}

/// Phase and what comes next, the authorities, and who lags.
pub(super) fn rotation_text(rotation: &Rotation, view: &View) -> String {
    let mut head = Table::new(["rotation", ""]);
    for (what, value) in rotation_rows(rotation, view) {
        head.row([what, &value]);
    }
    let mut text =
        format!("{}\n{}", head.render(view.width), authorities_table(&rotation.authorities, view).render(view.width));
    let coverage = rotation.coverage.clone().unwrap_or_default();
    if !coverage.laggards.is_empty() {
        let rest = behind(&coverage).saturating_sub(count(coverage.laggards.len()));
        // Without the sequence, the list would be about the newest bundle, which may be a later one.
        let list = format!("signet-ca holders list --behind --sequence {}", coverage.sequence);
        let rest = if rest > 0 { format!("and {rest} more: `{list}`\n") } else { String::new() };
        text = format!("{text}\n{}{rest}", holders_table(&coverage.laggards, view).render(view.width));
    }
    text
}

/// Phase, coverage and what comes next, as rows of two.
pub(super) fn rotation_rows(rotation: &Rotation, view: &View) -> Vec<(&'static str, String)> {
    let mut rows = vec![("phase", describe::phase_with_meaning(rotation.phase))];
    if let Some(coverage) = &rotation.coverage {
        rows.push(("coverage", describe::coverage(coverage)));
    }
    rows.extend(rotation.unsettled.iter().flat_map(describe::unsettled));
    if rotation.paused {
        rows.push(("paused", "roots are not replaced by themselves until an operator rotates or prepares".to_owned()));
    }
    if let Some(next) = &rotation.next {
        rows.push(("next", view.text(&describe::next(next, view.id()))));
    }
    if let Some(at) = &rotation.expected_at {
        let at = format!("{}, at the latest", view.time(Some(at)));
        let why = compromised_until_then(rotation, |at| view.time(Some(at)), view.id());
        rows.push(("expected by", why.map_or_else(|| at.clone(), |why| format!("{at}: {why}"))));
    }
    if rotation.revoked_certificates > 0 {
        rows.push(("revoked certificates", rotation.revoked_certificates.to_string()));
    }
    rows
}

/// That the end of everything is only that of a compromised issuing CA, which has ended with its last certificate but for
/// whoever has its key.
pub(super) fn compromised_until_then(
    rotation: &Rotation,
    time: impl Fn(&Timestamp) -> String,
    id: fn(&str) -> &str,
) -> Option<String> {
    let end = rotation.expected_at?;
    let last = |one: &&Authority| one.kind() == AuthorityKind::Issuing && one.tainted_at.is_some();
    let last = |one: &&Authority| last(one) && one.state() != AuthorityState::Revoked && one.not_after == Some(end);
    let issuing = rotation.authorities.iter().find(last)?;
    let name = id(&issuing.id);
    let held = match &issuing.needed_until {
        Some(at) if issuing.holders > 0 => format!("its last certificate ends {}", time(at)),
        _ => "nobody holds a certificate of it any more".to_owned(),
    };
    Some(format!(
        "that is the end of the compromised issuing CA {name}, and whoever has its key can sign until then; {held}, and \
         `authority revoke {name}` puts it on a revocation list, with which it is over"
    ))
}

/// Holders that lag.
pub(super) fn behind(coverage: &Coverage) -> u64 {
    coverage.holders.saturating_sub(coverage.covered)
}

/// A length as the wire counts.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Where the trust bundle is published; nothing when it is nowhere.
pub(super) fn publishers_table(publishers: &[Publisher], view: &View) -> Table {
    let mut table = Table::new(["publisher", "bundle", "in place", "heard", "problem"]);
    for one in publishers {
        let bundle = match (one.bundle_sequence, one.lacking) {
            (0, _) => "NONE".to_owned(),
            (sequence, true) => format!("{sequence}, LACKS the one waited for"),
            (sequence, false) => sequence.to_string(),
        };
        let heard = one.heard_at.as_ref().map_or_else(|| "never".to_owned(), |at| view.time(Some(at)));
        let problem = if one.problem.is_empty() { "-".to_owned() } else { view.text(&printable(&one.problem)) };
        table.row([&printable(&one.name), &bundle, &format!("{} of {}", one.in_place, one.wanted), &heard, &problem]);
    }
    table
}

/// Roots and issuing CAs.
pub(super) fn authorities_table(authorities: &[Authority], view: &View) -> Table {
    let mut headings = vec!["authority", "kind", "root", "state", "holders", "needed until", "not after", "renews at"];
    headings.extend(view.wide.then_some(["generation", "since"]).into_iter().flatten());
    let mut table = Table::with(headings);
    let ids = view.ids(authorities.iter().map(|one| one.id.as_str()));
    // Those have a row of their own.
    let roots = view.ids(authorities.iter().flat_map(|one| [one.id.as_str(), one.root.as_str()]));
    for authority in authorities {
        let root = authority.kind() == AuthorityKind::Root;
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
        let cells = [
            ids.show(&authority.id).to_owned(),
            describe::kind(authority.kind),
            // An issuing CA that two roots have certified is listed below each of them.
            roots.show(&authority.root).to_owned(),
            state,
            authority.holders.to_string(),
            view.time(authority.needed_until.as_ref()),
            view.time(authority.not_after.as_ref()),
            view.time(authority.renews_at.as_ref()),
        ];
        let more = view.wide.then(|| {
            let generation = if root { authority.generation.to_string() } else { "-".to_owned() };
            [generation, view.time(authority.since.as_ref())]
        });
        table.row(cells.into_iter().chain(more.into_iter().flatten()));
    }
    table
}

/// Holders.
pub(super) fn holders_table(holders: &[Holder], view: &View) -> Table {
    let refused = holders.iter().any(|holder| holder.refused.is_some());
    let gone = holders.iter().any(|holder| holder.gone_at.is_some());
    let mut headings = vec!["holder", "pod or instance", "authority", "bundle", "not after"];
    let more = ["node", "serial", "learns by", "seen"];
    headings.extend(view.wide.then_some(more).into_iter().flatten());
    headings.extend(refused.then_some("refused"));
    headings.extend(gone.then_some("pod gone"));
    let mut table = Table::with(headings);
    let text = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
    let instances = view.ids(holders.iter().map(|holder| holder.instance.as_str()));
    let authorities = view.ids(holders.iter().map(|holder| holder.authority.as_str()));
    for holder in holders {
        let cells = [
            holder.spiffe_id.clone(),
            pod_or_instance(holder, holders, instances),
            authorities.show(&holder.authority).to_owned(),
            holder.bundle_sequence.to_string(),
            view.time(holder.not_after.as_ref()),
        ];
        let more = view.wide.then(|| {
            let (node, serial) = (text(&holder.node), text(&holder.serial));
            let (learns_by, seen) = (describe::learns_by(holder.learns_by), view.time(holder.seen_at.as_ref()));
            [node, serial, learns_by, seen]
        });
        let refused = refused.then(|| text(&holder.refused.as_ref().map(describe::refused).unwrap_or_default()));
        let gone = gone.then(|| view.time(holder.gone_at.as_ref()));
        table.row(cells.into_iter().chain(more.into_iter().flatten()).chain(refused).chain(gone));
    }
    table
}

/// The name of its pod, with the instance where another holder of this identity has a pod of that name.
fn pod_or_instance(holder: &Holder, holders: &[Holder], instances: ShownIds) -> String {
    let instance = instances.show(&holder.instance);
    let namesake = |one: &Holder| one.spiffe_id == holder.spiffe_id && one.pod == holder.pod;
    match holder.pod.as_str() {
        "" => instance.to_owned(),
        pod if holders.iter().filter(|one| namesake(one)).count() > 1 => format!("{pod} ({instance})"),
        pod => pod.to_owned(),
    }
}

pub(super) fn moment(at: Option<&Timestamp>) -> Option<String> {
    at.map(describe::time)
}

pub(super) fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use signet_runtime::output::Width;

    #[test]
    fn two_holders_are_told_apart_in_a_table_whatever_they_have_in_common() {
        let id = "spiffe://td/ns/a/sa/b";
        let holder = |instance: &str, pod: &str| Holder {
            spiffe_id: id.to_owned(),
            instance: instance.to_owned(),
            pod: pod.to_owned(),
            ..Holder::default()
        };
        let uids = ["0b0c5a1e-0000-4000-8000-000000000001", "0b0c5a1e-0000-4000-8000-000000000002"];
        let holders = [holder(uids[0], "web-0"), holder(uids[1], "web-0"), holder(uids[1], "web-1"), holder("vm", "")];
        let text = holders_table(&holders, &View::at(time::OffsetDateTime::UNIX_EPOCH)).render(Width::Unlimited);
        for row in [
            format!("{id}  web-0 ({})", uids[0]),
            format!("{id}  web-0 ({})", uids[1]),
            format!("{id}  web-1  "),
            format!("{id}  vm  "),
        ] {
            assert_eq!(text.lines().filter(|line| line.starts_with(&row)).count(), 1, "{row}\n{text}");
        }
        let authority = |id: &str, root: &str| Authority {
            kind: AuthorityKind::Issuing.into(),
            id: id.to_owned(),
            root: root.to_owned(),
            ..Authority::default()
        };
        let certified = [authority("99aaaaaaaaaa", "11aaaaaaaaaa"), authority("99aaaaaaaaaa", "11aaaaaaaabb")];
        let text = authorities_table(&certified, &View::at(time::OffsetDateTime::UNIX_EPOCH)).render(Width::Unlimited);
        assert!(text.contains("  11aaaaaaaaa  ") && text.contains("  11aaaaaaaab  "), "{text}");
    }

    #[test]
    fn where_there_is_room_for_everything_no_id_is_cut() {
        let (id, root) = ("9".repeat(40), "1".repeat(40));
        let authority = Authority { id: id.clone(), root: root.clone(), ..Authority::default() };
        let holder = Holder { authority: id.clone(), ..Holder::default() };
        for text in [authorities_table(&[authority], &View::wide()), holders_table(&[holder], &View::wide())]
            .map(|table| table.render(Width::Unlimited))
        {
            assert!(text.contains(&id) && (text.contains(&root) || text.starts_with("HOLDER")), "{text}");
        }
    }

    #[test]
    fn an_end_that_is_only_that_of_a_compromised_issuing_ca_is_said_to_be_so() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let issuing = Authority {
            kind: AuthorityKind::Issuing.into(),
            id: "11aaaaaaaaaa".to_owned(),
            state: AuthorityState::Old.into(),
            tainted_at: at(1),
            not_after: at(2_500_000),
            needed_until: at(1800),
            holders: 2,
            ..Authority::default()
        };
        let rotation = |expected_at, issuing: Authority| Rotation {
            expected_at,
            authorities: vec![Authority { tainted_at: None, ..issuing.clone() }, issuing],
            ..Rotation::default()
        };
        let view = View::at(time::OffsetDateTime::UNIX_EPOCH);
        let told = |rotation: &Rotation| {
            let rows = rotation_rows(rotation, &view);
            rows.into_iter().find(|(what, _)| *what == "expected by").map(|(_, text)| text).unwrap_or_default()
        };
        let text = told(&rotation(at(2_500_000), issuing.clone()));
        for words in
            ["the end of the compromised issuing CA 11aaaaaa", "last certificate ends in 30m", "authority revoke 11aa"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        let alone = told(&rotation(at(2_500_000), Authority { holders: 0, ..issuing.clone() }));
        assert!(alone.contains("nobody holds a certificate of it"), "{alone}");
        let revoked = Authority { state: AuthorityState::Revoked.into(), ..issuing.clone() };
        let sound = Authority { tainted_at: None, ..issuing.clone() };
        for other in
            [rotation(at(2_600_000), issuing), rotation(at(2_500_000), revoked), rotation(at(2_500_000), sound)]
        {
            assert!(told(&other).ends_with("at the latest"), "{}", told(&other));
        }
    }

    #[test]
    fn the_rest_of_those_that_lag_is_listed_by_the_awaited_bundle() {
        let coverage =
            Coverage { sequence: 3, holders: 9, covered: 2, laggards: vec![Holder::default()], ..Coverage::default() };
        let rotation = Rotation { bundle_sequence: 4, coverage: Some(coverage), ..Rotation::default() };
        let text = rotation_text(&rotation, &View::wide());
        assert!(text.ends_with("and 6 more: `signet-ca holders list --behind --sequence 3`\n"), "{text}");
    }
}
