//! `signet-ca migrate`: the storage moves from its file into a PostgreSQL database, with every CA stopped.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};
use signet_runtime::command;
use signet_runtime::config::{self, ConfigError};
use signet_runtime::output::{Output, error_chain};
use signet_runtime::signal::Signals;

use super::copy_progress::CopyProgress;
use super::{ConfigFile, Failure, OutputArg, PROGRAM};
use crate::app::{self, Ended};
use crate::config::{Storage, read_storage};

/// How long the end may take after Ctrl-C.
const END: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// The database, which must be empty: postgres://user@host:5432/database. The configuration names the file that is moved
    #[arg(long, value_name = "URL")]
    to: String,
    /// As postgres.password_file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// As postgres.ca_file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// As postgres.client_certificate_file
    #[arg(long, value_name = "FILE")]
    client_certificate_file: Option<PathBuf>,
    /// As postgres.client_key_file
    #[arg(long, value_name = "FILE")]
    client_key_file: Option<PathBuf>,
    /// As postgres.tls: verify or off
    #[arg(long)]
    tls: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: OutputArg,
}

impl MigrateArgs {
    /// What the configuration says of the new storage once it is moved.
    fn fields(&self) -> Value {
        let files = [
            ("password_file", &self.password_file),
            ("ca_file", &self.ca_file),
            ("client_certificate_file", &self.client_certificate_file),
            ("client_key_file", &self.client_key_file),
        ];
        let files = files.into_iter().filter_map(|(name, file)| Some((name, json!(file.as_ref()?))));
        let tls = self.tls.as_ref().map(|tls| ("tls", json!(tls)));
        let reach: Map<String, Value> = files.chain(tls).map(|(name, value)| (name.to_owned(), value)).collect();
        if reach.is_empty() { json!({ "storage": self.to }) } else { json!({ "storage": self.to, "postgres": reach }) }
    }

    fn target(&self) -> Result<Storage, Failure> {
        // By the rules of the file in which it will stand.
        let read = config::parse("--to", &self.fields().to_string(), read_storage);
        let target = read.map_err(|error| Failure::Usage(mistakes(&error)))?.config;
        match target {
            Storage::Postgres(_) => Ok(target),
            Storage::Sqlite(_) => Err(Failure::Usage(
                "--to: names a file; a storage is moved to postgres://user@host:5432/database".to_owned(),
            )),
        }
    }
}

/// What is wrong, by the options that it was said with.
fn mistakes(error: &ConfigError) -> String {
    let ConfigError::Problems(problems) = error else { return error_chain(error) };
    let told = problems.found().iter().map(|problem| match problem.path.as_str() {
        "storage" => format!("--to: {}", problem.text),
        path => format!("--{}: {}", path.trim_start_matches("postgres.").replace('_', "-"), problem.text),
    });
    let told: Vec<String> = told.collect();
    command::each_named(PROGRAM, told.iter().map(String::as_str))
}

pub(super) async fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let config = args.config.load()?.config;
    let target = args.target()?;
    if let Storage::Postgres(_) = &config.storage {
        let file = args.config.config.display();
        let text = format!("{file} names {} as its storage: only a file is moved", config.storage);
        return Err(Failure::Usage(text));
    }
    let signals = Signals::install(END).map_err(Failure::failed)?;
    let copy_progress = CopyProgress::new();
    let told = |done: u64, all: u64| copy_progress.show(&format!("copied and compared {done} of {all} rows"));
    let moved = tokio::select! {
        moved = app::migrate(&config, &target, told) => moved.map_err(Failure::failed),
        () = signals.stop() => {
            let text = "migrate: interrupted; the same command begins again, or completes what is left";
            Err(Failure::Interrupted(text.to_owned()))
        }
    };
    copy_progress.end();
    let moved = moved?;
    let value = || as_json(&moved, &config.storage, &target);
    let shown = Output::stdout(args.output.output).show(value, || as_text(&moved, args, &config.storage));
    shown.map_err(Failure::failed)
}

fn as_json(ended: &Ended, from: &Storage, to: &Storage) -> Value {
    let moved = match ended {
        Ended::Moved(moved) => json!({
            "events": moved.events, "journal_version": moved.journal, "holders": moved.holders,
            "sealed_keys": moved.keys, "damaged_events": moved.damaged,
        }),
        Ended::Released | Ended::Before => Value::Null,
    };
    let before = *ended == Ended::Before;
    json!({ "from": from.to_string(), "to": to.to_string(), "moved": moved, "moved_before": before })
}

fn as_text(ended: &Ended, args: &MigrateArgs, from: &Storage) -> String {
    let mut text = match ended {
        Ended::Moved(moved) => format!(
            "{} events, authority journal version {}, {} holders and {} encrypted keys are moved, and compared one by one\n",
            moved.events, moved.journal, moved.holders, moved.keys
        ),
        Ended::Released => "an earlier attempt had moved everything, and is complete now\n".to_owned(),
        Ended::Before => "everything was moved there before, nothing was done now\n".to_owned(),
    };
    if let Ended::Moved(moved) = ended
        && moved.damaged > 0
    {
        text += &format!("{} of the events do not fit their hash: they were damaged before\n", moved.damaged);
    }
    text += &format!("nothing is issued from {from} any more; keep it for its record, or remove it\n");
    text += &format!("put this into {} in the place of `storage`, and start the CAs:\n", args.config.config.display());
    let fields = args.fields();
    for (name, value) in fields.as_object().into_iter().flatten().rev() {
        text += &format!("  {name}: {value}\n");
    }
    text
}
