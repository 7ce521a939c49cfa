//! `signet-ca backup`: a copy of the storage, with the CA up or down.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use signet_runtime::output::{Output, OutputFormat};
use signet_runtime::signal::Signals;

use super::{ConfigFile, Failure, OutputArg};
use crate::app;

/// How often it is told on a pipe how far it is.
const LINE: Duration = Duration::from_secs(10);

/// How long the end may take after Ctrl-C.
const END: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to make; nothing is ever overwritten
    file: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(args: &BackupArgs) -> Result<(), Failure> {
    let config = args.config.load()?.config;
    let signals = Signals::install(END).map_err(Failure::failed)?;
    let (progress, format) = (Progress::new(), args.output.output);
    let made = tokio::select! {
        made = app::backup(&config, &args.file, |done, all| progress.tell(done, all)) => made,
        // What was written so far goes with the draft.
        () = signals.stop() => Err(app::BackendError::Interrupted),
    };
    progress.end();
    let app::Backup { held, bytes } = made.map_err(Failure::failed)?;
    let mut out = Output::stdout(format);
    let file = args.file.display();
    let shown = match format {
        OutputFormat::Json => out.json(&json!({
            "file": file.to_string(), "bytes": bytes, "events": held.events, "journal_version": held.journal,
            "sealed_keys": held.keys,
        })),
        OutputFormat::Table => out.line(&format!(
            "{file}: {bytes} bytes, {} events, authority journal version {}, {} encrypted keys; checked and on disk\n\
             the key that those are encrypted with is not in it: keep keys.encryption_key_file too, somewhere else",
            held.events, held.journal, held.keys
        )),
    };
    shown.map_err(Failure::failed)
}

/// Tells on standard error how far a copy is: in place on a terminal, now and then on a pipe.
struct Progress {
    terminal: bool,
    last: std::cell::Cell<Option<Instant>>,
    start: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: std::cell::Cell::new(None), start: Instant::now() }
    }

    fn tell(&self, done: u64, all: u64) {
        let text = format!("copied {} MB of about {} MB", done >> 20, all >> 20);
        if self.terminal {
            say(&format!("\r{text}"));
        } else if self.last.get().unwrap_or(self.start).elapsed() >= LINE {
            say(&format!("{text}\n"));
        } else {
            return;
        }
        self.last.set(Some(Instant::now()));
    }

    fn end(&self) {
        if self.terminal && self.last.get().is_some() {
            say("\r\u{1b}[K");
        }
    }
}

/// Nothing depends on whether somebody reads it.
fn say(text: &str) {
    let mut err = std::io::stderr();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}
