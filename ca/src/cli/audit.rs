//! `signet-ca audit list`: questions to the record, read from storage, so that they work with the CA up or down.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use signet_core::audit::{AuditEvent, AuditQuery, EventKind, MAX_PAGE, Outcome, Page, StoredEvent};
use signet_core::certificate::Serial;
use signet_core::clock::{Clock, SystemClock};
use signet_core::identity::SpiffeId;
use signet_core::seams::store::AuditStore;
use signet_core::time_math;
use signet_runtime::command;
use signet_runtime::config::units::parse_duration;
use signet_runtime::output::{self, Output};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::event_view::{as_text, entries, event_json, unread_json};
use super::record::{KeyArgs, ProveArgs, VerifyArgs};
use super::view::View;
use super::{ConfigFile, Failure, OutputArg, PROGRAM};
use crate::app;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List events, newest first
    List(ListArgs),
    /// Prove that an event is on record, for whoever has the key of the record
    Prove(ProveArgs),
    /// Verify that nothing on record was changed; or, with no storage at hand, a proof
    Verify(VerifyArgs),
    /// Show what verifies the signatures of the record
    Key(KeyArgs),
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
    /// Only what was asked for with this client certificate in the place of a token: its serial number (hexadecimal). What was
    /// got with that may have got more in turn
    #[arg(long, value_name = "HEX", conflicts_with = "serial")]
    shown_certificate: Option<String>,
    /// How many at most, up to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PAGE)))]
    limit: u32,
    /// Continue after the previous page, with the token that it said; pages have no numbers
    #[arg(long, value_name = "TOKEN")]
    page: Option<u64>,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(asked: &AuditCommand) -> Result<(), Failure> {
    let args = match asked {
        AuditCommand::List(args) => args,
        AuditCommand::Prove(args) => return super::record::prove(args).await,
        AuditCommand::Verify(args) => return super::record::verify(args).await,
        AuditCommand::Key(args) => return super::record::key(args).await,
    };
    let wrong =
        |mistakes: Vec<String>| Failure::Usage(command::each_named(PROGRAM, mistakes.iter().map(String::as_str)));
    let mut query = args.query(SystemClock.now()).map_err(wrong)?;
    let config = args.file.load()?.config;
    let store = app::open_for_reading(&config).await.map_err(Failure::failed)?;
    if let Some(token) = args.page {
        check_page(&*store, token).await?;
    }
    narrow(&*store, &mut query).await?;
    let mut page = store.query(&query).await.map_err(Failure::failed)?;
    if let Some(serial) = query.serial {
        let later = revocations(&*store, serial, &page).await?;
        page.items.splice(0..0, later.items);
        page.unread.splice(0..0, later.unread);
    }
    let view = View::of(args.output.output);
    let lines = output::Page {
        entries: entries(&page).map_err(Failure::failed)?,
        next: page.next.map(|next| next.to_string()),
    };
    let events: Vec<_> = page.items.iter().map(event_json).collect::<Result<_, _>>().map_err(Failure::failed)?;
    let unread: Vec<_> = page.unread.iter().map(unread_json).collect::<Result<_, _>>().map_err(Failure::failed)?;
    let whole = |lines: output::Page| json!({ "events": events, "unread": unread, "next_page": lines.next });
    let shown = Output::stdout(args.output.output).show_list(lines, whole, || as_text(&page, &view));
    shown.map_err(Failure::failed)
}

impl ListArgs {
    /// All mistakes at once.
    fn query(&self, now: OffsetDateTime) -> Result<AuditQuery, Vec<String>> {
        let mut query = AuditQuery::newest(self.limit).map_err(|error| vec![format!("--limit: {error}")])?;
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
                None => wrong.push(format!(
                    "--serial: {serial:?} is not 32 to 40 hexadecimal digits; `-o wide` shows whole ones"
                )),
            }
        }
        if let Some(shown) = &self.shown_certificate {
            let digits: String = shown.chars().filter(|digit| *digit != ':').collect::<String>().to_ascii_lowercase();
            // Who signs with a stolen key gives any serial number that a certificate may have (RFC 5280 section 4.1.2.2).
            if (2..=40).contains(&digits.len()) && digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
                query.shown = Some(digits);
            } else {
                wrong.push(format!(
                    "--shown-certificate: {shown:?} is no serial number, which is 32 to 40 hexadecimal digits of those of this \
                     CA; `-o wide` shows whole ones"
                ));
            }
        }
        query.before = self.page;
        if wrong.is_empty() { Ok(query) } else { Err(wrong) }
    }
}

/// Looks for what was asked for with a certificate when that can only have been: in its life, if it is on record.
async fn narrow(store: &dyn AuditStore, query: &mut AuditQuery) -> Result<(), Failure> {
    /// By how much clocks of replicas may differ.
    const SKEW: Duration = Duration::from_secs(3600);
    let Some(shown) = &query.shown else { return Ok(()) };
    let issued = match Serial::parse(shown) {
        Some(serial) => {
            let by_serial = AuditQuery { serial: Some(serial), ..AuditQuery::newest(1).map_err(Failure::failed)? };
            store.query(&by_serial).await.map_err(Failure::failed)?.items.pop()
        }
        None => None,
    };
    if let Some((at, Some(what))) = issued.map(|stored| (stored.event.at(), stored.event.what)) {
        let begin = time_math::before(at, SKEW);
        query.since = Some(query.since.map_or(begin, |since| since.max(begin)));
        let end = OffsetDateTime::from_unix_timestamp(what.not_after).ok();
        query.until = end.map(|end| time_math::after(end, SKEW));
    }
    Ok(())
}

/// Refuses what no page has ended with: it would be taken for the first page, or for the end of the list.
async fn check_page(store: &dyn AuditStore, token: u64) -> Result<(), Failure> {
    let query = AuditQuery::newest(1).map_err(Failure::failed)?;
    let newest = store.query(&query).await.map_err(Failure::failed)?;
    let read = newest.items.first().map(|event| event.sequence);
    let last = read.into_iter().chain(newest.unread.first().map(|event| event.sequence)).max();
    if last.is_some_and(|last| (1..=last).contains(&token)) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--page: there is no page {token}; give what the page before says at its end (`more: the same with --page …`), or \
         leave it out for the first page"
    )))
}

/// What operators have done to the one certificate of `page` later on, newest first. Those events are about its holder
/// and name it in their text; one that cannot be read may do so.
async fn revocations(
    store: &dyn AuditStore,
    serial: Serial,
    page: &Page<StoredEvent>,
) -> Result<Page<StoredEvent>, Failure> {
    let mut found = Page { items: Vec::new(), unread: Vec::new(), next: None };
    let Some(issued) = page.items.first() else { return Ok(found) };
    let name = serial.to_string();
    let mut query = AuditQuery {
        spiffe_id: issued.event.who.spiffe_id.clone(),
        since: Some(issued.event.at()),
        outcome: Some(Outcome::Done),
        kind: Some(EventKind::Admin),
        ..AuditQuery::newest(MAX_PAGE).map_err(Failure::failed)?
    };
    loop {
        let Page { items, unread, next } = store.query(&query).await.map_err(Failure::failed)?;
        let about = |event: &AuditEvent| event.detail.as_ref().is_some_and(|text| text.contains(&name));
        found.items.extend(items.into_iter().filter(|one| about(&one.event)));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

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
