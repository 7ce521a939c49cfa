//! `signet-ca certificate list` and `show`: certificates by what is on record of them, asked of a running CA, or of the storage.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use signet_core::audit::{AuditEvent, AuditQuery, Certified, MAX_PAGE, Outcome, StoredEvent};
use signet_core::clock::{Clock, SystemClock};
use signet_core::seams::store::AuditStore;
use signet_core::time_math;
use signet_runtime::output::{self, Output, Table, more};
use time::OffsetDateTime;

use super::audit::{opened, pages};
use super::event_view::{event_json, unread_json};
use super::questions::{Ends, Filters, Paged};
use super::record_source::{Revoked, Source, SourceArgs};
use super::view::View;
use super::whole_event::whole_event;
use super::{Failure, OutputArg, time_text};

/// For how long the renewal of a certificate is looked for at first.
const FIRST_STRETCH: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    paged: Paged,
    /// Those that have ended, too
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The serial number, or its beginning: 6 hexadecimal digits or more
    serial: String,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn list(args: &ListArgs) -> Result<(), Failure> {
    let (mut query, source) = opened(&args.source, (&args.filters, &Ends::default(), &args.paged)).await?;
    query.outcome = Some(Outcome::Issued);
    let now = SystemClock.now();
    if !args.ended {
        query.expires_after = query.expires_after.or(Some(now));
    }
    let page = source.events.query(&query).await.map_err(Failure::failed)?;
    let revocations = revocations(&source).await?;
    let certificates: Vec<_> = page.items.iter().filter_map(|one| Certificate::new(one, &revocations)).collect();
    let entries: Result<Vec<Value>, _> = certificates.iter().map(Certificate::json).collect();
    let unread: Result<Vec<Value>, _> = page.unread.iter().map(unread_json).collect();
    let unread = unread.map_err(Failure::failed)?;
    let next = page.next.map(|next| next.to_string());
    let lines = output::Page { entries: entries.map_err(Failure::failed)?, next: next.clone() };
    let whole =
        |lines: output::Page| json!({ "certificates": lines.entries, "unread": unread, "next_page": lines.next });
    let view = View::of(args.output.output);
    let text = || as_text(&certificates, unread.len(), next.as_deref(), now, &view);
    Output::stdout(args.output.output).show_list(lines, whole, text).map_err(Failure::failed)
}

pub(super) async fn show(args: &ShowArgs) -> Result<(), Failure> {
    let filters = Filters::of_serial(&args.serial);
    let paged = Paged::between(None, None);
    let (query, source) = opened(&args.source, (&filters, &Ends::default(), &paged)).await?;
    let found = pages(&*source.events, query, 2).await?;
    // A backend's intention has none yet, and what it made without anybody getting it counts as well.
    let mut found: Vec<StoredEvent> = found.items.into_iter().filter(|one| one.event.what.is_some()).collect();
    let certificate = match (found.pop(), found.len()) {
        (Some(certificate), 0) => certificate,
        (None, _) => {
            return Err(Failure::Failed(format!("no certificate with the serial number {} is on record", args.serial)));
        }
        (Some(_), _) => {
            return Err(Failure::Usage(format!(
                "several certificates have serial numbers that begin with {0}; `certificate list --ended --serial {0}` shows \
                 them",
                args.serial
            )));
        }
    };
    let renewal = renewal(&*source.events, &certificate).await?;
    let revocations = revocations(&source).await?;
    let event = event_json(&certificate).map_err(Failure::failed)?;
    let shown = Certificate::new(&certificate, &revocations);
    let revoked = shown.as_ref().map(Certificate::revoked_json).unwrap_or_default();
    let renewed = renewal.as_ref().map(event_json).transpose().map_err(Failure::failed)?;
    let value = || json!({ "certificate": event, "renewal": renewed, "revoked": revoked });
    let text = || {
        let view = View::of(args.output.output);
        let what = certificate.event.what.as_ref();
        let revoked = shown.as_ref().and_then(|one| one.revoked);
        let mut text = whole_event(&event, &view);
        text += &match renewal.as_ref().and_then(|one| Some((one, one.event.what.as_ref()?))) {
            Some((one, what)) => {
                format!("renewed {} by {}\n", view.seconds(one.event.at().unix_timestamp()), what.serial)
            }
            None => "not renewed\n".to_owned(),
        };
        text += &match (revoked, what.is_some_and(|what| what.not_after <= SystemClock.now().unix_timestamp())) {
            (Some(entry), _) if entry.awaited => {
                format!(
                    "to be revoked by its backend since {} ({}); accepted until then\n",
                    view.seconds(entry.at),
                    entry.reason
                )
            }
            (Some(entry), _) => format!("revoked {} ({})\n", view.seconds(entry.at), entry.reason),
            (None, true) => "ended; a certificate that has ended is on no revocation list\n".to_owned(),
            (None, false) => "not revoked\n".to_owned(),
        };
        text
    };
    Output::stdout(args.output.output).show(value, text).map_err(Failure::failed)
}

/// The certificate that its holder got next, if that was before it ended.
async fn renewal(store: &dyn AuditStore, certificate: &StoredEvent) -> Result<Option<StoredEvent>, Failure> {
    let event = &certificate.event;
    let (Some(key), Some(what)) = (event.holder(), &event.what) else { return Ok(None) };
    let Ok(end) = OffsetDateTime::from_unix_timestamp(what.not_after) else { return Ok(None) };
    let is_next = |one: &AuditEvent| {
        // Without a pod or another name a holder is called after its certificate: the renewal names that one.
        one.holder().as_ref() == Some(&key) || one.who.certificate.as_ref() == Some(&what.serial)
    };
    // The next one is the first of many: it is looked for from the beginning, in stretches each of which is twice as long.
    let mut since = event.at();
    let mut stretch = FIRST_STRETCH.max(time_math::until(since, end) / 32);
    loop {
        let until = time_math::after(since, stretch).min(end);
        let query = AuditQuery {
            spiffe_id: event.who.spiffe_id.clone(),
            pod: event.who.pod.clone(),
            outcome: Some(Outcome::Issued),
            since: Some(since),
            until: Some(until.max(since)),
            ..AuditQuery::newest(MAX_PAGE).map_err(Failure::failed)?
        };
        let mut later = pages(store, query, usize::MAX).await?.items.into_iter();
        let next = later.rfind(|one| one.sequence > certificate.sequence && is_next(&one.event));
        if next.is_some() || until >= end {
            return Ok(next);
        }
        (since, stretch) = (until, stretch.saturating_mul(2));
    }
}

/// What is revoked now, by serial number and issuing CA.
type Revocations = BTreeMap<(String, String), Revoked>;

async fn revocations(source: &Source) -> Result<Revocations, Failure> {
    let all = source.revoked().await?.into_iter();
    Ok(all.map(|one| ((one.serial.clone(), one.issuer.clone()), one)).collect())
}

/// A certificate that was issued.
struct Certificate<'a> {
    stored: &'a StoredEvent,
    what: &'a Certified,
    revoked: Option<&'a Revoked>,
}

impl<'a> Certificate<'a> {
    fn new(stored: &'a StoredEvent, revocations: &'a Revocations) -> Option<Self> {
        let what = stored.event.what.as_ref()?;
        Some(Self { stored, what, revoked: revocations.get(&(what.serial.clone(), what.authority.clone())) })
    }

    fn revoked_json(&self) -> Value {
        self.revoked.map_or(
            Value::Null,
            |entry| json!({ "at": time_text(entry.at), "reason": entry.reason, "awaited": entry.awaited }),
        )
    }

    fn json(&self) -> Result<Value, serde_json::Error> {
        let mut value = event_json(self.stored)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("revoked".to_owned(), self.revoked_json());
        }
        Ok(value)
    }

    fn state(&self, now: OffsetDateTime) -> &'static str {
        match self.revoked {
            Some(entry) if entry.awaited => "revoking",
            Some(_) => "revoked",
            None if self.what.not_after <= now.unix_timestamp() => "ended",
            None => "valid",
        }
    }
}

fn as_text(all: &[Certificate<'_>], unread: usize, next: Option<&str>, now: OffsetDateTime, view: &View) -> String {
    let serials = view.ids(all.iter().map(|one| one.what.serial.as_str()));
    let authorities = view.ids(all.iter().map(|one| one.what.authority.as_str()));
    let mut table = if view.wide {
        Table::new(["event", "issued", "ends", "state", "identity", "serial", "pod", "node", "cluster", "authority"])
    } else {
        Table::new(["issued", "ends", "state", "identity", "serial", "pod", "node"])
    };
    let or_none = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
    for one in all {
        let who = &one.stored.event.who;
        let (issued, ends) = (view.seconds(one.stored.event.at().unix_timestamp()), view.seconds(one.what.not_after));
        // The CA's own have names in the place of an identity.
        let names = one.what.other_names.join(", ");
        let identity = who.spiffe_id.clone().unwrap_or(names);
        let mut cells =
            vec![issued, ends, one.state(now).to_owned(), identity, serials.show(&one.what.serial).to_owned()];
        cells.extend([or_none(who.pod.as_ref()), or_none(who.node.as_ref())]);
        if view.wide {
            cells.insert(0, one.stored.sequence.to_string());
            cells.extend([or_none(who.cluster.as_ref()), authorities.show(&one.what.authority).to_owned()]);
        }
        table.row(cells);
    }
    let mut text = match next {
        _ if !table.is_empty() => table.render(view.width),
        Some(next) => format!("no certificates match down to event {next}\n"),
        None => "no certificates match\n".to_owned(),
    };
    if unread > 0 {
        text += &format!("events that may be of certificates and cannot be read: {unread}; `audit list` shows which\n");
    }
    text + &next.map(more).unwrap_or_default()
}
