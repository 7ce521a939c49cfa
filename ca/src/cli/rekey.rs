//! `signet-ca rekey`: another sealing key, with CAs up or down.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use signet_runtime::output::Output;

use super::{ConfigFile, Failure, OutputArg};
use crate::app;

#[derive(Debug, Args)]
pub(super) struct RekeyArgs {
    /// The file with the new key (make one with `openssl rand -base64 32`, mode 0600), which is put in front of those in
    /// keys.encryption_key_file. Without this, the first key there is taken
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(args: &RekeyArgs) -> Result<(), Failure> {
    let config = args.file.load()?.config;
    let done = app::rekey(&config, args.new_key_file.as_deref()).await.map_err(Failure::failed)?;
    let value = || json!({ "key": done.key.to_string(), "resealed": done.resealed, "sealed_keys": done.all });
    let text = || {
        if done.resealed == 0 {
            return format!("nothing to do: all {} private keys are sealed with {} already\n", done.all, done.key);
        }
        format!(
            "{} of {} private keys are now sealed with {}, as the others were before\n\
             the former keys in {} open older backups; remove their lines when you keep none of those\n",
            done.resealed,
            done.all,
            done.key,
            config.encryption_key_file.display()
        )
    };
    let shown = Output::stdout(args.output.output).show(value, text);
    shown.map_err(Failure::failed)
}
