//! `signet-ca audit list` and `show`: questions to the record, asked of a running CA, or of the storage with the CA up or down.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use signet_core::audit::{AuditEvent, AuditQuery, EventKind, MAX_PAGE, Outcome, Page, StoredEvent};
use signet_core::certificate::Serial;
use signet_core::clock::{Clock, SystemClock};
use signet_core::seams::record_tree::RecordTree;
use signet_core::seams::store::AuditStore;
use signet_core::time_math;
use signet_runtime::command;
use signet_runtime::output::{self, Output};
use time::OffsetDateTime;

use super::event_view::{as_text, entries, event_json, unread_json};
use super::questions::{Ends, Filters, Paged};
use super::record::{KeyArgs, ProveArgs, VerifyArgs};
use super::record_checkpoint::CheckpointArgs;
use super::record_export::ExportArgs;
use super::record_source::{Source, SourceArgs};
use super::record_stats::StatsArgs;
use super::record_tail::TailArgs;
use super::view::View;
use super::whole_event::whole_event;
use super::{Failure, OutputArg, PROGRAM};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List events, newest first
    List(ListArgs),
    /// Show all that one event says, or the events of one request
    Show(ShowArgs),
    /// Prove that an event is on record, for whoever has the key of the record
    Prove(ProveArgs),
    /// Verify that nothing on record was changed; or, with no storage at hand, a proof
    Verify(VerifyArgs),
    /// Show what verifies the signatures of the record
    Key(KeyArgs),
    /// Print the newest signed checkpoint, to be kept
    Checkpoint(CheckpointArgs),
    /// Print events as they are recorded, until Ctrl-C
    Tail(TailArgs),
    /// Write events to a file, oldest first, and go on where that ends
    Export(ExportArgs),
    /// Count what was issued and refused, by identity, reason and hour
    Stats(StatsArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    paged: Paged,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The position of the event, as `audit list` shows it, or the id of a request, as errors and logs say it
    #[arg(value_name = "SEQUENCE|REQUEST_ID")]
    which: String,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(asked: &AuditCommand) -> Result<(), Failure> {
    match asked {
        AuditCommand::List(args) => list(args).await,
        AuditCommand::Show(args) => show(args).await,
        AuditCommand::Prove(args) => super::record::prove(args).await,
        AuditCommand::Verify(args) => super::record::verify(args).await,
        AuditCommand::Key(args) => super::record::key(args).await,
        AuditCommand::Checkpoint(args) => super::record_checkpoint::checkpoint(args).await,
        AuditCommand::Tail(args) => super::record_tail::tail(args).await,
        AuditCommand::Export(args) => super::record_export::export(args).await,
        AuditCommand::Stats(args) => super::record_stats::stats(args).await,
    }
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let (mut query, opened) = opened(&args.source, (&args.filters, &args.ends, &args.paged)).await?;
    let store = opened.events;
    narrow(&*store, &mut query).await?;
    let mut page = store.query(&query).await.map_err(Failure::failed)?;
    // On the first page: they are newer than the certificate.
    if let Some(serial) = query.serial.filter(|_| query.before.is_none()) {
        let later = revocations(&*store, serial, &query).await?;
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

/// The question and whom it is put to, with all mistakes in the question told at once.
pub(super) async fn opened(
    source: &SourceArgs,
    (filters, ends, paged): (&Filters, &Ends, &Paged),
) -> Result<(AuditQuery, Source), Failure> {
    let wrong =
        |mistakes: Vec<String>| Failure::Usage(command::each_named(PROGRAM, mistakes.iter().map(String::as_str)));
    let mut query = filters.query(ends, paged, SystemClock.now()).map_err(wrong)?;
    let opened = source.open().await?;
    if let Some(token) = paged.page {
        check_page(&*opened.tree, token).await?;
    }
    filters.name_authorities(&mut query, (source, &opened)).await?;
    Ok((query, opened))
}

/// Shows one event whole, or those of one request.
async fn show(args: &ShowArgs) -> Result<(), Failure> {
    let all = AuditQuery::newest(MAX_PAGE).map_err(Failure::failed)?;
    let sequence = args.which.parse::<u64>().ok().and_then(|sequence| Some((sequence, sequence.checked_add(1)?)));
    let query = match sequence {
        Some((_, before)) => AuditQuery { before: Some(before), limit: 1, ..all },
        None => AuditQuery { request_id: Some(args.which.clone()), ..all },
    };
    let query =
        query.checked().map_err(|_| Failure::Usage(format!("{:?} is neither a position nor an id", args.which)))?;
    let store = args.source.open().await?.events;
    let mut page = pages(&*store, query, if sequence.is_some() { 1 } else { usize::MAX }).await?;
    if let Some((sequence, _)) = sequence {
        page.items.retain(|one| one.sequence == sequence);
        page.unread.retain(|one| one.sequence == sequence);
    } else {
        // What cannot be read may be of any request.
        page.unread.clear();
    }
    if page.items.is_empty() && page.unread.is_empty() {
        return Err(Failure::Failed(format!(
            "no event {:?} is on record, or its content is not kept any more",
            args.which
        )));
    }
    let shown = entries(&page).map_err(Failure::failed)?;
    let text =
        || shown.iter().map(|event| whole_event(event, &View::of(args.output.output))).collect::<Vec<_>>().join("\n");
    let shown = Output::stdout(args.output.output).show(|| json!({ "events": shown }), text);
    shown.map_err(Failure::failed)
}

/// Pages together, until there are so many events, or no more.
pub(super) async fn pages(
    store: &dyn AuditStore,
    mut query: AuditQuery,
    enough: usize,
) -> Result<Page<StoredEvent>, Failure> {
    let mut found = Page { items: Vec::new(), unread: Vec::new(), next: None };
    loop {
        let page = store.query(&query).await.map_err(Failure::failed)?;
        found.items.extend(page.items);
        found.unread.extend(page.unread);
        (query.before, found.next) = (page.next, page.next);
        if page.next.is_none() || found.items.len().saturating_add(found.unread.len()) >= enough {
            return Ok(found);
        }
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
        let end = end.map(|end| time_math::after(end, SKEW));
        query.until = [query.until, end].into_iter().flatten().min();
        // What was asked for at another time than that is nothing, and no mistake.
        query.since = query.since.min(query.until);
    }
    Ok(())
}

/// The part of a question that is about a certificate: when it was issued, and to whom, is none of it.
fn of_certificate(asked: &AuditQuery) -> Result<AuditQuery, Failure> {
    let AuditQuery { serial, serial_prefix, key_hash, fingerprint, authorities, expires_before, expires_after, .. } =
        asked.clone();
    let all = AuditQuery::newest(1).map_err(Failure::failed)?;
    Ok(AuditQuery { serial, serial_prefix, key_hash, fingerprint, authorities, expires_before, expires_after, ..all })
}

/// The other part of it.
fn without_certificate(asked: AuditQuery) -> AuditQuery {
    AuditQuery {
        serial: None,
        serial_prefix: None,
        key_hash: None,
        fingerprint: None,
        authorities: Vec::new(),
        expires_before: None,
        expires_after: None,
        ..asked
    }
}

/// Refuses what no page has ended with: it would be taken for the first page, or for the end of the list. Whatever is kept of
/// the newest events, they have positions.
async fn check_page(record: &dyn RecordTree, token: u64) -> Result<(), Failure> {
    let events = record.events().await.map_err(Failure::failed)?;
    if (1..events).contains(&token) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--page: there is no page {token}; give what the page before says at its end (`more: the same with --page …`), or \
         leave it out for the first page"
    )))
}

/// What operators have done to the one certificate later on, newest first, as far as all else of `asked` holds for it. Those
/// events are about its holder and name it in their text; one that cannot be read may do so.
async fn revocations(store: &dyn AuditStore, serial: Serial, asked: &AuditQuery) -> Result<Page<StoredEvent>, Failure> {
    let mut found = Page { items: Vec::new(), unread: Vec::new(), next: None };
    let issued = store.query(&of_certificate(asked)?).await.map_err(Failure::failed)?.items.pop();
    let Some(issued) = issued else { return Ok(found) };
    let others = without_certificate(asked.clone());
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
        found.items.extend(items.into_iter().filter(|one| about(&one.event) && others.matches(&one.event)));
        found.unread.extend(unread.into_iter().filter(|one| one.kind == EventKind::Admin));
        query.before = next;
        if next.is_none() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
