//! `signet-ca audit stats`: how many decisions there were, by identity, reason and hour.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use signet_core::audit::Outcome;
use signet_core::clock::{Clock, SystemClock, rfc3339};
use signet_core::time_math;
use signet_runtime::output::{Output, Page, Table};

use super::record_batches::WhichArgs;
use super::record_source::SourceArgs;
use super::view::View;
use super::{Failure, OutputArg, time_text};
use crate::grpc::record::counts::{By, Group, piece};

/// The longest time that is counted at once.
const LONGEST_DAYS: u64 = 366;

/// Rows that are kept at most.
const ROWS: usize = 200_000;

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// What is told apart beside outcomes; may be given several times, or as a list
    #[arg(long, value_delimiter = ',', default_value = "reason")]
    by: Vec<ByWhat>,
    /// From this time on: RFC 3339, or a duration before now like 10m
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: String,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ByWhat {
    /// Whom events are about
    Identity,
    /// Why it did not go well, or an operator's command
    Reason,
    /// The hour of the event
    Hour,
}

pub(super) async fn stats(args: &StatsArgs) -> Result<(), Failure> {
    let now = SystemClock.now();
    let mut query = args.which.query((Some(&args.since), args.until.as_deref()), now)?;
    let (since, until) = (query.since.unwrap_or(now), query.until.unwrap_or(now));
    if time_math::until(since, until).as_secs() / 86_400 > LONGEST_DAYS {
        return Err(Failure::Usage(format!(
            "--since: more than {LONGEST_DAYS} days are counted in parts; give --until, too"
        )));
    }
    query.until = Some(until);
    let has = |what| args.by.contains(&what);
    let by = By { identity: has(ByWhat::Identity), reason: has(ByWhat::Reason), hour: has(ByWhat::Hour) };
    let source = args.source.open().await?;
    args.which.complete(&mut query, (&args.source, &source)).await?;
    let (mut counts, mut unread) = (BTreeMap::<Group, u64>::new(), 0_u64);
    loop {
        let found = match &source.remote {
            Some(remote) => remote.counts(&query, by).await?,
            None => piece(&*source.events, &query, by).await.map_err(Failure::failed)?,
        };
        for (group, count) in found.counts {
            let counted = counts.entry(group).or_default();
            *counted = counted.saturating_add(count);
        }
        unread = unread.saturating_add(found.unread);
        if counts.len() > ROWS {
            return Err(Failure::Usage(format!("more than {ROWS} rows: give less with --by, or a shorter time")));
        }
        if found.next.is_none() || found.next == query.before {
            break;
        }
        query.before = found.next;
    }
    let (since, until) = (rfc3339(since), rfc3339(until));
    let page = Page { entries: counts.iter().map(count_json).collect(), next: None };
    let whole = |page: Page| json!({ "since": since, "until": until, "counts": page.entries, "unread": unread });
    let view = View::of(args.output.output);
    let shown = Output::stdout(args.output.output).show_list(page, whole, || as_text(&counts, unread, by, &view));
    shown.map_err(Failure::failed)
}

fn count_json((group, count): (&Group, &u64)) -> Value {
    json!({
        "hour": group.hour.map(time_text), "identity": group.identity, "reason": group.reason,
        "outcome": Outcome::numbered(group.outcome).to_string(), "count": count,
    })
}

fn as_text(counts: &BTreeMap<Group, u64>, unread: u64, by: By, view: &View) -> String {
    let mut headings = Vec::new();
    headings.extend(by.hour.then_some("hour"));
    headings.extend(by.identity.then_some("identity"));
    headings.push("outcome");
    headings.extend(by.reason.then_some("reason"));
    headings.push("count");
    let mut table = Table::with(headings);
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for (group, count) in counts {
        let mut cells = Vec::new();
        // The beginning of an hour says more than how long ago that was.
        cells.extend(by.hour.then(|| group.hour.map_or_else(|| "-".to_owned(), time_text)));
        cells.extend(by.identity.then(|| or_none(&group.identity)));
        cells.push(Outcome::numbered(group.outcome).to_string());
        cells.extend(by.reason.then(|| or_none(&group.reason)));
        cells.push(count.to_string());
        table.row(cells);
    }
    let mut text = if table.is_empty() { "no events match\n".to_owned() } else { table.render(view.width) };
    if unread > 0 {
        text.push_str(&format!("{unread} events that may count cannot be read\n"));
    }
    text
}
