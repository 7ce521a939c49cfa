//! `signet-ca bundle show`: the trust bundle, read from storage, so that it works with the CA up or down.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use signet_core::bundle::TrustBundle;
use signet_core::pem::pem;
use signet_core::rotation::Refused;
use signet_runtime::output::{Output, OutputFormat, Table};

use super::{ConfigFile, Failure, time_text};
use crate::app;

#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Show the roots that workloads must trust; `--output pem` prints them for a file
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// `table` for people, `json` for programs, `pem` for a root file
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Form,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Table,
    Json,
    Pem,
}

pub(super) async fn run(command: &BundleCommand) -> Result<(), Failure> {
    let BundleCommand::Show(args) = command;
    let config = args.file.load()?.config;
    let store = app::open_for_reading(&config).await.map_err(Failure::failed)?;
    let entry = store.load().await.map_err(Failure::failed)?;
    let (_, authorities) = entry.ok_or(Refused::NoAuthority).map_err(Failure::failed)?;
    let bundle = authorities.bundle(&config.trust_domain).map_err(Failure::failed)?;
    let mut table = Table::new(["generation", "authority", "state", "not after"]);
    for root in &authorities.roots {
        let until = time_text(root.not_after.unix_timestamp());
        table.row([&root.generation.to_string(), root.id.as_str(), root.state.as_str(), &until]);
    }
    match args.output {
        Form::Pem => Output::stdout(OutputFormat::Table).raw(bundle.pem()),
        Form::Json => Output::stdout(OutputFormat::Json).json(&as_json(&bundle)),
        Form::Table => Output::stdout(OutputFormat::Table).raw(&format!(
            "trust domain {}, bundle sequence {}\n\n{}",
            config.trust_domain,
            bundle.sequence(),
            table.render()
        )),
    }
    .map_err(Failure::failed)
}

fn as_json(bundle: &TrustBundle) -> serde_json::Value {
    json!({
        "trust_domain": bundle.trust_domain().as_str(),
        "sequence": bundle.sequence(),
        "roots": bundle.roots().iter().map(|root| pem(root)).collect::<Vec<_>>(),
    })
}
