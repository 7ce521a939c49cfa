//! `signet-ca bundle show`: the trust bundle, read from storage, so that it works with the CA up or down.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use signet_core::pem::pem;
use signet_core::rotation::{Refused, RootAuthority};
use signet_runtime::output::{Output, OutputFormat, Page, Table};

use super::view::View;
use super::{ConfigFile, Failure, time_text};
use crate::app::{self, fingerprint};

#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Show the roots that workloads must trust; `-o pem` prints them for a file
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// How the answer is printed
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Form,
}

/// As [`OutputFormat`], and one that only roots have.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// For people
    Table,
    /// For people who want all of it: whole ids, fingerprints, times as they are
    Wide,
    /// For programs: one JSON document
    Json,
    /// For programs: a JSON object on a line of its own for each root
    Jsonl,
    /// For a root file: the certificates
    Pem,
}

impl Form {
    fn format(self) -> Option<OutputFormat> {
        match self {
            Self::Table => Some(OutputFormat::Table),
            Self::Wide => Some(OutputFormat::Wide),
            Self::Json => Some(OutputFormat::Json),
            Self::Jsonl => Some(OutputFormat::Jsonl),
            Self::Pem => None,
        }
    }
}

pub(super) async fn run(command: &BundleCommand) -> Result<(), Failure> {
    let BundleCommand::Show(args) = command;
    let config = args.file.load()?.config;
    let store = app::open_for_reading(&config).await.map_err(Failure::failed)?;
    let entry = store.load().await.map_err(Failure::failed)?;
    let (_, authorities) = entry.ok_or(Refused::NoAuthority).map_err(Failure::failed)?;
    let bundle = authorities.bundle(&config.trust_domain).map_err(Failure::failed)?;
    let Some(format) = args.output.format() else {
        return Output::stdout(OutputFormat::Table).raw(bundle.pem()).map_err(Failure::failed);
    };
    let page = Page { entries: authorities.roots.iter().map(root_json).collect(), next: None };
    let whole = |page: Page| {
        json!({
            "trust_domain": config.trust_domain.as_str(),
            "bundle_sequence": bundle.sequence(),
            "roots": page.entries,
        })
    };
    let text = || {
        let (domain, sequence) = (&config.trust_domain, bundle.sequence());
        let table = roots_table(&authorities.roots, &View::of(format));
        format!("trust domain {domain}, bundle sequence {sequence}\n\n{table}")
    };
    Output::stdout(format).show_list(page, whole, text).map_err(Failure::failed)
}

fn roots_table(roots: &[RootAuthority], view: &View) -> String {
    let ids = view.ids(roots.iter().map(|root| root.id.as_str()));
    let mut headings = vec!["authority", "state", "generation", "not after"];
    headings.extend(view.wide.then_some("SHA-256 fingerprint"));
    let mut table = Table::with(headings);
    for root in roots {
        let until = view.seconds(root.not_after.unix_timestamp());
        let (id, state) = (ids.show(root.id.as_str()).to_owned(), root.state.as_str().to_owned());
        let fingerprint = view.wide.then(|| fingerprint(&root.certificate));
        table.row([id, state, root.generation.to_string(), until].into_iter().chain(fingerprint));
    }
    table.render(view.width)
}

/// A root for programs.
pub(super) fn root_json(root: &RootAuthority) -> Value {
    json!({
        "id": root.id.as_str(), "generation": root.generation, "state": root.state.as_str(),
        "fingerprint": fingerprint(&root.certificate), "not_after": time_text(root.not_after.unix_timestamp()),
        "certificate": pem(&root.certificate),
    })
}
