//! `signet-ca backup`: a copy of the storage, with the CA up or down.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use signet_runtime::output::Output;
use signet_runtime::signal::Signals;

use super::copy_progress::CopyProgress;
use super::{ConfigFile, Failure, OutputArg};
use crate::app;

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
    let progress = CopyProgress::new();
    let made = tokio::select! {
        made = app::backup(&config, &args.file, |done, all| progress.show(&format!("copied {} MB of about {} MB", done >> 20, all >> 20))) => made,
        // What was written so far goes with the draft.
        () = signals.stop() => Err(app::AppError::Interrupted),
    };
    progress.end();
    let app::Backup { held, bytes } = made.map_err(|error| match error {
        app::AppError::ServersBackup(_) => Failure::Usage(error.to_string()),
        app::AppError::Interrupted => Failure::Interrupted(error.to_string()),
        other => Failure::failed(other),
    })?;
    let file = args.file.display();
    let value = || {
        json!({
            "file": file.to_string(), "bytes": bytes, "events": held.events, "journal_version": held.journal,
            "sealed_keys": held.keys,
        })
    };
    let text = || {
        format!(
            "{file}: {bytes} bytes, {} events, authority journal version {}, {} encrypted keys; checked and on disk\n\
             the key that those are encrypted with is not in it: keep keys.encryption_key_file too, somewhere else\n",
            held.events, held.journal, held.keys
        )
    };
    let shown = Output::stdout(args.output.output).show(value, text);
    shown.map_err(Failure::failed)
}
