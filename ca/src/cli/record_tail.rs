//! `signet-ca audit tail`: events as they are recorded.

use clap::Args;
use signet_core::clock::{Clock, SystemClock};
use signet_runtime::output::Output;

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
    let mut batches = Batches::open(&source, query, from, true).await?;
    let format = args.output.output;
    loop {
        let batch = match batches.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => return Err(Failure::Failed(go_on("the CA has ended the stream", batches.cursor()))),
            Err(failure) => return Err(Failure::Failed(go_on(failure.text(), batches.cursor()))),
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
