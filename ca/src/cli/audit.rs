//! `signet-ca audit list`: questions to the record, read from storage, so that they work with the CA up or down.

use std::cmp::Reverse;

use clap::{Args, Subcommand};
use serde_json::json;
use signet_core::audit::{AuditEvent, AuditQuery, EventKind, MAX_PAGE, Outcome, Page, StoredEvent, UnreadEvent};
use signet_core::certificate::Serial;
use signet_core::clock::{Clock, SystemClock, rfc3339};
use signet_core::identity::SpiffeId;
use signet_core::seams::store::{AuditStore, StoreError};
use signet_runtime::config::units::parse_duration;
use signet_runtime::output::{Output, OutputFormat, Table};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ConfigFile, Failure, OutputArg, time_text};
use crate::app;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List events, newest first
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Only events about this SPIFFE ID
    #[arg(long, value_name = "SPIFFE_ID")]
    identity: Option<String>,
    /// Only events since this time: RFC 3339, or a duration before now like 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events with this outcome: issued, refused, failed, done or intended
    #[arg(long)]
    outcome: Option<String>,
    /// Only the certificate with this serial number (hexadecimal)
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// How many events at most, up to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PAGE)))]
    limit: u32,
    /// Continue before this sequence number, as the previous page said
    #[arg(long, value_name = "SEQUENCE")]
    before: Option<u64>,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(command: &AuditCommand) -> Result<(), Failure> {
    let AuditCommand::List(args) = command;
    let query = args.query(SystemClock.now()).map_err(Failure::Usage)?;
    let config = args.file.load()?.config;
    let store = app::open_for_reading(&config).await.map_err(Failure::failed)?;
    let mut page = store.query(&query).await.map_err(Failure::failed)?;
    if let Some(serial) = query.serial {
        let later = revocations(&*store, serial, &page).await.map_err(Failure::failed)?;
        page.items.splice(0..0, later.items);
        page.unread.splice(0..0, later.unread);
    }
    let mut out = Output::stdout(args.output.output);
    let shown = match args.output.output {
        OutputFormat::Json => out.json(&json!({ "events": page.items, "unread": page.unread, "next": page.next })),
        OutputFormat::Table => out.raw(&as_text(&page)),
    };
    shown.map_err(Failure::failed)
}

impl ListArgs {
    /// All mistakes at once, one per line.
    fn query(&self, now: OffsetDateTime) -> Result<AuditQuery, String> {
        let mut query = AuditQuery::newest(self.limit).map_err(|error| format!("--limit: {error}"))?;
        let mut wrong = Vec::new();
        if let Some(id) = &self.identity {
            match SpiffeId::parse(id) {
                Ok(id) => query.spiffe_id = Some(id.to_string()),
                Err(error) => wrong.push(format!("--identity: {error}")),
            }
        }
        if let Some(since) = &self.since {
            match moment(since, now) {
                Some(at) => query.since = Some(at),
                None => wrong.push(format!(
                    "--since: {since:?} is neither a time like 2026-03-01T12:00:00Z nor a duration like 10m"
                )),
            }
        }
        if let Some(outcome) = &self.outcome {
            match Outcome::parse(outcome) {
                Some(outcome) => query.outcome = Some(outcome),
                None => wrong.push(format!("--outcome: {outcome:?} is not issued, refused, failed, done or intended")),
            }
        }
        if let Some(serial) = &self.serial {
            match Serial::parse(serial) {
                Some(serial) => query.serial = Some(serial),
                None => wrong.push(format!("--serial: {serial:?} is not 32 hexadecimal digits")),
            }
        }
        query.before = self.before;
        if wrong.is_empty() { Ok(query) } else { Err(wrong.join("\n")) }
    }
}

/// What operators have done to the one certificate of `page` later on, newest first. Those events are about its holder
/// and name it in their text; one that cannot be read may do so.
async fn revocations(
    store: &dyn AuditStore,
    serial: Serial,
    page: &Page<StoredEvent>,
) -> Result<Page<StoredEvent>, StoreError> {
    let mut found = Page { items: Vec::new(), unread: Vec::new(), next: None };
    let Some(issued) = page.items.first() else { return Ok(found) };
    let name = serial.to_string();
    let mut query = AuditQuery {
        spiffe_id: issued.event.who.spiffe_id.clone(),
        since: Some(issued.event.at()),
        outcome: Some(Outcome::Done),
        serial: None,
        before: None,
        limit: MAX_PAGE,
    };
    loop {
        let Page { items, unread, next } = store.query(&query).await?;
        let about = |event: &AuditEvent| event.detail.as_ref().is_some_and(|text| text.contains(&name));
        found.items.extend(items.into_iter().filter(|one| one.event.kind == EventKind::Admin && about(&one.event)));
        found.unread.extend(unread.into_iter().filter(|one| one.kind == EventKind::Admin));
        query.before = next;
        if next.is_none() {
            return Ok(found);
        }
    }
}

fn moment(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(|| parse_duration(text).ok().and_then(|back| now.checked_sub(back.try_into().ok()?)))
}

fn as_text(page: &Page<StoredEvent>) -> String {
    let read = page.items.iter().map(|stored| (stored.sequence, row(stored)));
    let unread = page.unread.iter().map(|event| (event.sequence, unread_row(event)));
    let mut rows: Vec<(u64, [String; 7])> = read.chain(unread).collect();
    rows.sort_by_key(|(sequence, _)| Reverse(*sequence));
    let mut table = Table::new(["sequence", "time", "kind", "outcome", "identity", "serial or reason", "peer"]);
    for (_, cells) in rows {
        table.row(cells);
    }
    let more = page.next.map(|next| format!("more: --before {next}\n")).unwrap_or_default();
    if table.is_empty() { "no events match\n".to_owned() } else { table.render() + &more }
}

fn row(StoredEvent { sequence, event, unknown_fields }: &StoredEvent) -> [String; 7] {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut gist = gist(event);
    if !unknown_fields.is_empty() {
        gist += &format!(" (fields of a newer version: {})", unknown_fields.len());
    }
    [
        sequence.to_string(),
        time_text(event.at().unix_timestamp()),
        event.kind.to_string(),
        event.outcome.to_string(),
        or_none(&event.who.spiffe_id),
        gist,
        or_none(&event.who.peer),
    ]
}

/// What the columns of storage say of an event, and why it does not speak for itself.
fn unread_row(event: &UnreadEvent) -> [String; 7] {
    [
        event.sequence.to_string(),
        time_text(event.at().unix_timestamp()),
        event.kind.to_string(),
        event.outcome.to_string(),
        "?".to_owned(),
        event.problem.to_string(),
        "?".to_owned(),
    ]
}

/// Characters of an event's text that fit a table.
const GIST: usize = 120;

fn gist(event: &AuditEvent) -> String {
    let serial = event.what.as_ref().map(|what| what.serial.clone());
    // What an operator did says more than the name of the command.
    let said = event.detail.clone().filter(|_| event.kind == EventKind::Admin);
    let text = serial.or(said).or_else(|| event.reason.clone()).or_else(|| event.detail.clone());
    // The whole text is in the JSON form; a table must stay readable.
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
    use signet_core::audit::{Attributed, Repeated, UnknownFields, Unreadable};

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

    #[test]
    fn what_newer_versions_have_written_is_shown_in_its_place_with_what_is_known_of_it() {
        let stored = |sequence, event| StoredEvent { sequence, event, unknown_fields: UnknownFields::new() };
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
        let text = as_text(&page);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected = [
            "8 2026-03-01T12:01:00Z unknown (17) unknown (9) - token_expired (fields of a newer version: 1) -",
            "7 2026-03-01T12:00:00Z admin done ? written by a newer version ?",
            "6 2026-03-01T12:01:00Z certificate refused - token_expired -",
            "5 2026-03-01T12:00:00Z admin done ? damaged ?",
            "more: --before 5",
        ];
        let expected: Vec<Vec<&str>> = expected.iter().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.get(1..).unwrap(), expected, "{text}");
        let json = json!({ "events": page.items, "unread": page.unread });
        assert_eq!(json.pointer("/events/0/kind"), Some(&json!("unknown (17)")));
        assert_eq!(json.pointer("/events/0/outcome"), Some(&json!("unknown (9)")));
        assert_eq!(json.pointer("/events/0/unknown_fields"), Some(&json!({"who.13": "h'00ff'"})));
        assert_eq!(json.pointer("/events/1/unknown_fields"), None);
        let expected = json!({"sequence": 7, "at_micros": 1_772_366_400_000_000_i64, "kind": "admin", "outcome": "done",
            "problem": "written by a newer version"});
        assert_eq!(json.pointer("/unread/0"), Some(&expected));
    }

    #[test]
    fn what_one_record_tells_of_many_times_says_how_often_and_since_when() {
        let mut event = event();
        assert_eq!(gist(&event), "token_expired");
        event.repeated = Some(Repeated { count: 1234, since_micros: 1_772_366_400_000_000 });
        assert_eq!(gist(&event), "token_expired ×1234 since 2026-03-01T12:00:00Z");
        event.kind = EventKind::Admin;
        event.detail = Some("d".repeat(GIST + 1));
        assert!(gist(&event).ends_with("d… ×1234 since 2026-03-01T12:00:00Z"));
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json.get("repeated"), Some(&json!({"count": 1234, "since_micros": 1_772_366_400_000_000_i64})));
    }

    #[test]
    fn since_takes_a_time_or_a_duration_back() {
        let now = time::macros::datetime!(2026-03-01 12:00 UTC);
        assert_eq!(moment("10m", now), Some(time::macros::datetime!(2026-03-01 11:50 UTC)));
        assert_eq!(moment("2026-01-01T00:00:00Z", now), Some(time::macros::datetime!(2026-01-01 00:00 UTC)));
        for bad in ["yesterday", "", "10"] {
            assert_eq!(moment(bad, now), None, "{bad:?}");
        }
    }
}
