//! How events of the record look in tables and JSON.

use std::cmp::Reverse;

use serde_json::Value;
use signet_core::audit::{AuditEvent, EventKind, Outcome, Page, StoredEvent, UnreadEvent};
use signet_core::clock::rfc3339;
use signet_runtime::output::{Table, more};

use super::view::{ShownIds, View};

pub(super) use crate::describe::event_json::{event as event_json, unread as unread_json};

/// All entries of a page, newest first, those that cannot be read in their places.
pub(super) fn entries(page: &Page<StoredEvent>) -> Result<Vec<Value>, serde_json::Error> {
    let read = page.items.iter().map(|event| Ok((event.sequence, event_json(event)?)));
    let unread = page.unread.iter().map(|event| Ok((event.sequence, unread_json(event)?)));
    let mut all: Vec<(u64, Value)> = read.chain(unread).collect::<Result<_, serde_json::Error>>()?;
    all.sort_by_key(|(sequence, _)| Reverse(*sequence));
    Ok(all.into_iter().map(|(_, entry)| entry).collect())
}

/// A page for people.
pub(super) fn as_text(page: &Page<StoredEvent>, view: &View) -> String {
    let serials = page.items.iter().filter_map(|stored| stored.event.what.as_ref());
    let serials = view.ids(serials.map(|what| what.serial.as_str()).filter(|serial| !serial.is_empty()));
    let read = page.items.iter().map(|stored| (stored.sequence, row(stored, view, serials)));
    let unread = page.unread.iter().map(|event| (event.sequence, unread_row(event, view)));
    let mut rows: Vec<(u64, Vec<String>)> = read.chain(unread).collect();
    rows.sort_by_key(|(sequence, _)| Reverse(*sequence));
    let mut table = if view.wide {
        Table::new(["event", "time", "kind", "outcome", "identity", "serial or reason", "peer", "request"])
    } else {
        Table::new(["event", "time", "what", "identity or peer", "serial or reason"])
    };
    for (_, cells) in rows {
        table.row(cells);
    }
    let more = page.next.map(|next| more(&next.to_string())).unwrap_or_default();
    match page.next {
        _ if !table.is_empty() => table.render(view.width) + &more,
        // What is not found in a part of the log may be further down.
        Some(next) => format!("no events match down to event {next}; {}", more.trim_start()),
        None => "no events match\n".to_owned(),
    }
}

pub(super) fn row(
    StoredEvent { sequence, event, unknown_fields }: &StoredEvent,
    view: &View,
    serials: ShownIds,
) -> Vec<String> {
    let or_none = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
    let mut gist = gist(event, serials);
    if !unknown_fields.is_empty() {
        gist += &format!(" (fields of a newer version: {})", unknown_fields.len());
    }
    let (identity, peer) = (event.who.spiffe_id.as_ref(), event.who.peer.as_ref());
    let at = event.at().unix_timestamp();
    let mut cells = vec![sequence.to_string(), view.seconds(at)];
    if view.wide {
        let request = Some(&event.request_id).filter(|id| !id.is_empty());
        cells.extend([event.kind.to_string(), event.outcome.to_string()]);
        cells.extend([or_none(identity), gist, or_none(peer), or_none(request)]);
    } else {
        cells.extend([what(event.kind, event.outcome), or_none(identity.or(peer)), gist]);
    }
    cells
}

/// What the columns of storage say of an event, and why it does not speak for itself.
pub(super) fn unread_row(event: &UnreadEvent, view: &View) -> Vec<String> {
    let at = view.seconds(event.at().unix_timestamp());
    let (sequence, problem) = (event.sequence.to_string(), event.problem.to_string());
    let unknown = || "?".to_owned();
    if view.wide {
        let (kind, outcome) = (event.kind.to_string(), event.outcome.to_string());
        vec![sequence, at, kind, outcome, unknown(), problem, unknown(), unknown()]
    } else {
        vec![sequence, at, what(event.kind, event.outcome), unknown(), problem]
    }
}

/// Kind and outcome in words.
fn what(kind: EventKind, outcome: Outcome) -> String {
    format!("{kind} {outcome}").replace('_', " ")
}

/// Characters of an event's text that fit a table; the JSON form has all of it.
const GIST: usize = 120;

/// What stands for the configuration of a start, which is a page of JSON.
const STARTED: &str = "the CA started; `-o json` shows its configuration";

/// The same of one that was changed since.
const CHANGED: &str = "other clusters are served; `-o json` shows the configuration";

/// The reason of that.
const CLUSTERS_CHANGED: &str = "clusters_changed";

fn gist(event: &AuditEvent, serials: ShownIds) -> String {
    if event.kind == EventKind::Configuration && event.reason.as_deref().is_none_or(|reason| reason == CLUSTERS_CHANGED)
    {
        return if event.reason.is_none() { STARTED } else { CHANGED }.to_owned();
    }
    let serial = event.what.as_ref().filter(|what| !what.serial.is_empty());
    let serial = serial.map(|what| serials.show(&what.serial).to_owned());
    // Of one that a backend has signed and nobody gets, both count.
    let serial = match (serial, &event.reason) {
        (Some(serial), Some(reason)) => Some(format!("{reason} {serial}")),
        (serial, _) => serial,
    };
    // What an operator did says more than the name of the command, and so does what befell a file.
    let in_words = matches!(event.kind, EventKind::Admin | EventKind::Configuration | EventKind::Backend);
    let said = event.detail.clone().filter(|_| in_words);
    let text = serial.or(said).or_else(|| event.reason.clone()).or_else(|| event.detail.clone());
    let mut gist = text.unwrap_or_else(|| "-".to_owned());
    if let Some((end, _)) = gist.char_indices().nth(GIST) {
        gist.truncate(end);
        gist.push('…');
    }
    match event.repeated {
        None => gist,
        Some(repeated) => format!("{gist} ×{} since {}", repeated.count, rfc3339(event.since())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;
    use signet_core::audit::{Attributed, Certified, Repeated, UnknownFields, Unreadable};
    use time::{OffsetDateTime, macros::datetime};

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:02 UTC);

    fn event() -> AuditEvent {
        AuditEvent {
            at_micros: 1_772_366_460_000_000,
            request_id: "r1".into(),
            kind: EventKind::Certificate,
            outcome: Outcome::Refused,
            reason: Some("token_expired".into()),
            detail: Some("exp was then".into()),
            who: Attributed::default(),
            what: None,
            repeated: None,
        }
    }

    fn issued(serial: &str) -> AuditEvent {
        let what = Certified {
            serial: serial.into(),
            key_hash: String::new(),
            other_names: Vec::new(),
            not_before: 1_772_366_400,
            not_after: 1_772_370_000,
            authority: "1a".into(),
            bundle_sequence: 1,
            acknowledges: false,
            fingerprint: None,
        };
        AuditEvent { outcome: Outcome::Issued, reason: None, detail: None, what: Some(what), ..event() }
    }

    fn stored(sequence: u64, event: AuditEvent) -> StoredEvent {
        StoredEvent { sequence, event, unknown_fields: UnknownFields::new() }
    }

    fn words(text: &str) -> Vec<Vec<&str>> {
        text.lines().map(|line| line.split_whitespace().collect()).collect()
    }

    #[test]
    fn what_a_backend_is_asked_for_has_no_serial_yet_and_one_that_nobody_gets_has_it_beside_the_reason() {
        let intended = AuditEvent { outcome: Outcome::Intended, ..issued("") };
        let json = event_json(&stored(1, intended.clone())).unwrap();
        assert_eq!(json.pointer("/what/serial"), Some(&Value::Null));
        let serial = "5a".repeat(20);
        let late = AuditEvent { outcome: Outcome::Failed, reason: Some("late_answer".into()), ..issued(&serial) };
        let (asked, late) = (stored(1, intended), stored(2, late));
        let page = Page { items: vec![late, asked], unread: Vec::new(), next: None };
        let text = as_text(&page, &View::at(NOW));
        assert!(text.contains("late_answer 5a5a5a5a"), "{text}");
        assert!(words(&text).last().is_some_and(|cells| cells.last() == Some(&"-")), "{text}");
    }

    #[test]
    fn what_newer_versions_have_written_is_shown_in_its_place_with_what_is_known_of_it() {
        let unknown = AuditEvent { kind: EventKind::Unknown(17), outcome: Outcome::Unknown(9), ..event() };
        let unknown_fields = UnknownFields::from([("who.13".to_owned(), "h'00ff'".to_owned())]);
        let unread = |sequence, problem| {
            let (kind, outcome) = (EventKind::Admin, Outcome::Done);
            UnreadEvent { sequence, at_micros: 1_772_366_400_000_000, kind, outcome, problem }
        };
        let page = Page {
            items: vec![StoredEvent { unknown_fields, ..stored(8, unknown) }, stored(6, event())],
            unread: vec![unread(7, Unreadable::Newer), unread(5, Unreadable::Damaged)],
            next: Some(5),
        };
        let text = as_text(&page, &View::at(NOW));
        let expected = [
            "8 1m ago unknown (17) unknown (9) - token_expired (fields of a newer version: 1)",
            "7 2m ago admin done ? written by a newer version",
            "6 1m ago certificate refused - token_expired",
            "5 2m ago admin done ? damaged",
            "more: the same with --page 5",
        ];
        assert_eq!(words(&text).get(1..).unwrap(), words(&expected.join("\n")), "{text}");
        let wide = as_text(&page, &View::wide());
        assert_eq!(
            words(&wide).get(2).unwrap().join(" "),
            "7 2026-03-01T12:00:00Z admin done ? written by a newer version ? ?"
        );
        let entries = entries(&page).unwrap();
        let sequences: Vec<_> = entries.iter().map(|entry| entry.get("sequence").cloned().unwrap()).collect();
        assert_eq!(sequences, [8, 7, 6, 5]);
        let newest = entries.first().unwrap();
        assert_eq!(
            (newest.get("kind"), newest.get("outcome")),
            (Some(&json!("unknown (17)")), Some(&json!("unknown (9)")))
        );
        assert_eq!(newest.get("unknown_fields"), Some(&json!({"who.13": "h'00ff'"})));
        let expected = json!({"sequence": 7, "at": "2026-03-01T12:00:00Z", "kind": "admin", "outcome": "done",
            "problem": "written by a newer version"});
        assert_eq!(entries.get(1), Some(&expected));
        assert_eq!(entries.get(2).unwrap().get("unknown_fields"), Some(&json!({})));
    }

    #[test]
    fn an_event_has_the_same_fields_whatever_is_known_of_it() {
        fn names(path: &str, value: &Value, found: &mut Vec<String>) {
            for (name, value) in value.as_object().into_iter().flatten() {
                found.push(format!("{path}/{name}"));
                names(&format!("{path}/{name}"), value, found);
            }
        }
        let all = |event: &StoredEvent| {
            let mut found = Vec::new();
            names("", &event_json(event).unwrap(), &mut found);
            found
        };
        let text = || Some("x".to_owned());
        // Written out, so that a field that is added is seen here.
        let who = Attributed {
            spiffe_id: text(),
            namespace: text(),
            service_account: text(),
            service_account_uid: text(),
            pod: text(),
            pod_uid: text(),
            node: text(),
            cluster: text(),
            auth_method: text(),
            peer: text(),
            instance: text(),
            node_uid: text(),
            token_id: text(),
            certificate: text(),
            last_token_micros: Some(1_772_366_400_000_000),
        };
        let full = AuditEvent { who, reason: text(), detail: text(), ..issued("aa") };
        let full = AuditEvent { repeated: Some(Repeated { count: 2, since_micros: 1 }), ..full };
        let what =
            full.what.clone().map(|what| Certified { other_names: vec!["a".into()], acknowledges: true, ..what });
        let (full, bare) = (stored(1, AuditEvent { what, ..full }), stored(1, issued("aa")));
        let but_below = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("/repeated/"));
        assert_eq!(but_below(all(&full)).collect::<Vec<_>>(), all(&bare));
        let nothing = event_json(&stored(1, AuditEvent { what: None, reason: None, detail: None, ..event() })).unwrap();
        for name in ["/what", "/reason", "/detail", "/repeated", "/who/pod"] {
            assert_eq!(nothing.pointer(name), Some(&Value::Null), "{name}");
        }
    }

    #[test]
    fn the_configuration_of_a_start_is_whole_for_programs_and_a_sentence_for_people() {
        let detail = Some("{\"a\":1}".into());
        let started = AuditEvent { kind: EventKind::Configuration, detail, reason: None, ..event() };
        assert_eq!(gist(&started, ShownIds::enough(std::iter::empty())), STARTED);
        let changed = AuditEvent { reason: Some("clusters_changed".into()), ..started.clone() };
        assert_eq!(gist(&changed, ShownIds::enough(std::iter::empty())), CHANGED);
        let detail = Some("the file is not used".to_owned());
        let refused = AuditEvent { reason: Some("configuration_refused".into()), detail, ..started.clone() };
        assert_eq!(gist(&refused, ShownIds::enough(std::iter::empty())), "the file is not used");
        assert_eq!(event_json(&stored(1, started)).unwrap().get("detail"), Some(&json!("{\"a\":1}")));
    }

    #[test]
    fn programs_read_times_in_one_format() {
        let repeated = Some(Repeated { count: 1234, since_micros: 1_772_366_400_000_000 });
        let who = Attributed { last_token_micros: Some(1_772_366_400_000_000), ..Attributed::default() };
        let json = event_json(&stored(1, AuditEvent { repeated, who, ..issued("aa") })).unwrap();
        assert_eq!(json.pointer("/who/last_token"), Some(&json!("2026-03-01T12:00:00Z")));
        assert_eq!(json.get("at"), Some(&json!("2026-03-01T12:01:00Z")));
        assert_eq!(json.get("repeated"), Some(&json!({"count": 1234, "since": "2026-03-01T12:00:00Z"})));
        assert_eq!(json.pointer("/what/not_before"), Some(&json!("2026-03-01T12:00:00Z")));
        assert_eq!(json.pointer("/what/not_after"), Some(&json!("2026-03-01T13:00:00Z")));
        assert_eq!(json.pointer("/what/bundle_sequence"), Some(&json!(1)));
    }

    #[test]
    fn so_much_of_a_serial_is_shown_that_two_of_them_differ_and_all_of_it_where_there_is_room() {
        let serials = ["06501b4a7c1122334455667788990011", "06501b4a7c2222334455667788990011"];
        let items = vec![stored(2, issued(serials[1])), stored(1, issued(serials[0]))];
        let page = Page { items, unread: Vec::new(), next: None };
        let text = as_text(&page, &View::at(NOW));
        let shown: Vec<_> = text.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(shown, ["06501b4a7c2", "06501b4a7c1"], "{text}");
        let wide = as_text(&page, &View::wide());
        assert!(serials.iter().all(|serial| wide.contains(serial)) && wide.contains("r1"), "{wide}");
    }

    #[test]
    fn who_has_shown_no_identity_is_told_by_the_address() {
        let who = Attributed { peer: Some("10.0.0.1:4711".into()), ..Attributed::default() };
        let page = Page { items: vec![stored(1, AuditEvent { who, ..event() })], unread: Vec::new(), next: None };
        let text = as_text(&page, &View::at(NOW));
        assert!(text.contains("refused  10.0.0.1:4711"), "{text}");
    }

    #[test]
    fn what_one_record_tells_of_many_times_says_how_often_and_since_when() {
        let mut event = event();
        let told = |event: &AuditEvent| gist(event, ShownIds::enough(std::iter::empty()));
        assert_eq!(told(&event), "token_expired");
        event.repeated = Some(Repeated { count: 1234, since_micros: 1_772_366_400_000_000 });
        assert_eq!(told(&event), "token_expired ×1234 since 2026-03-01T12:00:00Z");
        event.kind = EventKind::Admin;
        event.detail = Some("d".repeat(GIST + 1));
        assert!(told(&event).ends_with("d… ×1234 since 2026-03-01T12:00:00Z"));
    }
}
