//! `--wait`: follows what a command has set going until it is over, by itself or by somebody's hand. The CA needs no
//! watching: whoever leaves, by choice or by a broken connection, changes nothing.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use signet_core::clock::{Clock, SystemClock};
use signet_proto::admin::v1alpha1::Rotation;
use signet_runtime::config::units::{UnitError, parse_duration};
use signet_runtime::output::{OutputFormat, Size};
use tokio::signal::unix::{SignalKind, signal};

use super::admin_client::{AdminArgs, Client, Setback};
use super::goal::{Goal, Verdict};
use super::progress::{Change, Moment, Screen, line, picture};
use super::rotation_view::rotation_json;
use super::{Failure, printable};

/// How often the CA is asked.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct WaitArgs {
    /// Show progress until it is over; may be left with Ctrl-C at any time
    #[arg(long)]
    pub(super) wait: bool,
    /// With --wait: stop watching after this long, like 10m
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, UnitError> {
    parse_duration(text)
}

/// Follows `goal` from `rotation`, the answer to the command, on.
pub(super) async fn follow(
    admin: &AdminArgs,
    client: &mut Client,
    goal: &Goal,
    mut rotation: Rotation,
    args: &WaitArgs,
    output: OutputFormat,
) -> Result<(), Failure> {
    let mut writer = ProgressWriter::new(output, io::stdout());
    let end = args.timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    // From before the first line is shown: whoever sees it may press Ctrl-C.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut trouble = None;
    loop {
        let title = goal.title(&rotation);
        let now = SystemClock.now();
        let renewed = goal.renewed(&rotation);
        writer.show(&Moment { title: &title, rotation: &rotation, renewed, trouble: trouble.as_deref(), now })?;
        match goal.verdict(&rotation) {
            Verdict::Going => {}
            Verdict::Done(text) => return writer.end(&text),
            Verdict::Stopped(text) => return Err(Failure::Failed(printable(&text))),
        }
        let late = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            tokio::time::sleep(POLL).await;
            admin.rotation(client).await
        };
        tokio::select! {
            _ = interrupt.recv() => {
                writer.clear_echo()?;
                return Err(Failure::Interrupted(format!("left; the CA goes on by itself: {}", goal.again())));
            }
            () = late => {
                return Err(Failure::TimedOut(format!("not over within --timeout; the CA goes on by itself: {}", goal.again())));
            }
            answer = next => match answer {
                Ok(newer) => {
                    rotation = newer;
                    trouble = None;
                }
                Err(Setback::Passing(text)) => trouble = Some(text),
                Err(Setback::Lasting(failure)) => return Err(failure),
            },
        }
    }
}

/// Tells one moment after the other in the way that fits the reader.
struct ProgressWriter<W> {
    writer: W,
    presentation: Presentation,
}

enum Presentation {
    Picture(Screen),
    Lines(Option<Change>),
    Objects(Option<Change>),
}

impl ProgressWriter<io::Stdout> {
    fn new(output: OutputFormat, writer: io::Stdout) -> Self {
        let presentation = match output {
            OutputFormat::Json | OutputFormat::Jsonl => Presentation::Objects(None),
            _ if writer.is_terminal() => Presentation::Picture(Screen::default()),
            _ => Presentation::Lines(None),
        };
        Self { writer, presentation }
    }
}

impl<W: Write> ProgressWriter<W> {
    fn show(&mut self, moment: &Moment<'_>) -> Result<(), Failure> {
        let change = Change::of(moment);
        let text = match &mut self.presentation {
            Presentation::Picture(screen) => {
                let size = Size::of_stdout();
                screen.redraw(&picture(moment, size), size.columns)
            }
            Presentation::Lines(told) | Presentation::Objects(told) if told.as_ref() == Some(&change) => return Ok(()),
            Presentation::Lines(told) => {
                *told = Some(change);
                line(moment) + "\n"
            }
            Presentation::Objects(told) => {
                *told = Some(change);
                format!("{}\n", rotation_json(moment.rotation))
            }
        };
        self.write(&text)
    }

    fn end(&mut self, text: &str) -> Result<(), Failure> {
        match self.presentation {
            // The last object says it.
            Presentation::Objects(_) => Ok(()),
            _ => self.write(&format!("done: {}\n", printable(text))),
        }
    }

    /// The terminal has written `^C` below the picture.
    fn clear_echo(&mut self) -> Result<(), Failure> {
        match self.presentation {
            Presentation::Picture(_) => self.write("\r\u{1b}[K"),
            _ => Ok(()),
        }
    }

    /// Unlike other output, this one may go on for days, so a reader that went away ends it.
    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.flush());
        written
            .map_err(|error| Failure::Failed(format!("nobody reads the progress ({error}); the CA goes on by itself")))
    }
}

#[cfg(test)]
#[path = "wait_tests.rs"]
mod tests;
