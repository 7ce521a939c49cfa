//! `signet-ca audit tail`: events as they are recorded, also across restarts of the CA.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use signet_core::audit::AuditQuery;
use signet_core::clock::{Clock, SystemClock};
use signet_runtime::config::units::parse_duration;
use signet_runtime::output::Output;
use tokio::time::Instant;

use super::event_view::{row, unread_row};
use super::record_batches::{Batches, WhichArgs, told_json};
use super::record_source::SourceArgs;
use super::view::{ShownIds, View};
use super::{Failure, OutputArg, printable};
use crate::grpc::record::event::Told;

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Begin after the event at this position instead of now
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// For how long a CA that is away is tried again
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    away: Duration,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn tail(args: &TailArgs) -> Result<(), Failure> {
    if args.source.storage {
        return Err(Failure::Usage("--storage: only a running CA is followed".to_owned()));
    }
    let mut query = args.which.query((None, None), SystemClock.now())?;
    let source = args.source.ca().await?;
    args.which.complete(&mut query, (&args.source, &source)).await?;
    let from = match args.after {
        Some(after) => after.saturating_add(1),
        None => source.tree.events().await.map_err(Failure::failed)?,
    };
    let mut batches = Batches::open(&source, query.clone(), from, true).await?;
    let format = args.output.output;
    loop {
        let batch = match batches.next().await {
            Ok(Some(batch)) => batch,
            ended => {
                let why =
                    ended.err().map_or_else(|| "the CA has ended the stream".to_owned(), |why| why.text().to_owned());
                batches = again(args, &query, &why, batches.cursor()).await?;
                continue;
            }
        };
        let view = View::of(format);
        for told in &batch {
            if format.is_json() {
                let line = told_json(told).map_err(Failure::failed)?.to_string();
                Output::stdout(format).line(&line).map_err(Failure::failed)?;
            } else {
                Output::stdout(format).line(&line(told, &view)).map_err(Failure::failed)?;
            }
        }
    }
}

/// How long it is waited before a CA that is away is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Goes on at the cursor, once the CA is back, or another one answers at its address. Certificate and key are read again, since
/// those of the stream may have ended.
async fn again(args: &TailArgs, query: &AuditQuery, why: &str, cursor: u64) -> Result<Batches, Failure> {
    let end = Instant::now().checked_add(args.away);
    let is_over = || end.is_none_or(|end| end <= Instant::now());
    if is_over() {
        return Err(Failure::Failed(go_on(why, cursor)));
    }
    say(&format!("{}\nit is tried again, from event {cursor} on\n", printable(why)))?;
    loop {
        tokio::time::sleep(PAUSE).await;
        let open = async {
            let source = args.source.ca().await?;
            let on_record = source.tree.events().await.map_err(Failure::failed)?;
            Ok((Batches::open(&source, query.clone(), cursor, true).await?, on_record))
        };
        match open.await {
            // Other events would come in the place of those that were printed.
            Ok((_, on_record)) if on_record < cursor => {
                return Err(Failure::Failed(format!(
                    "{cursor} events were on record, and {on_record} are: the record was set back, or is another one"
                )));
            }
            Ok((batches, _)) => {
                say("the CA tells its record again\n")?;
                return Ok(batches);
            }
            Err(failure @ Failure::Usage(_)) => return Err(failure),
            Err(failure) if is_over() => return Err(Failure::Failed(go_on(failure.text(), cursor))),
            Err(_) => {}
        }
    }
}

/// Beside the events.
fn say(text: &str) -> Result<(), Failure> {
    io::stderr().write_all(text.as_bytes()).map_err(Failure::failed)
}

fn go_on(why: &str, cursor: u64) -> String {
    match cursor.checked_sub(1) {
        Some(last) => format!("{why}\ngo on with --after {last}"),
        None => why.to_owned(),
    }
}

/// A line for people: there are no columns where nobody knows what comes.
fn line(told: &Told, view: &View) -> String {
    let cells = match told {
        Told::Event(event) => {
            let serial = event.event.what.as_ref().map(|what| what.serial.as_str());
            row(event, view, ShownIds::enough(serial.into_iter()))
        }
        Told::Unread(event) => unread_row(event, view),
        Told::Bare { sequence, problem } => vec![sequence.to_string(), (*problem).to_owned()],
    };
    cells.iter().map(|cell| printable(cell)).collect::<Vec<_>>().join("  ")
}
