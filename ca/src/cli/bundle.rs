//! `signet-ca bundle show`: the trust bundle, as a running CA serves it, or from storage with the CA up or down.

use clap::{Args, Subcommand, ValueEnum};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use signet_core::bundle::TrustBundle;
use signet_core::identity::TrustDomain;
use signet_core::pem::pem;
use signet_core::rotation::{Refused, RootAuthority};
use signet_proto::admin::v1alpha1::{BundleRoot, GetBundleResponse};
use signet_runtime::output::{Output, OutputFormat, Page, Table};

use super::record_source::SourceArgs;
use super::view::View;
use super::{Failure, describe, printable, time_text};
use crate::app::{self, fingerprint};

#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Show the roots that workloads must trust; `-o pem` prints them for a file
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    source: SourceArgs,
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
    let bundle = match args.source.bundle().await? {
        Some(told) => served(told)?,
        None => stored(&args.source).await?,
    };
    let Some(format) = args.output.format() else {
        return Output::stdout(OutputFormat::Table).raw(&bundle.pem).map_err(Failure::failed);
    };
    let page = Page { entries: bundle.roots.iter().map(Root::json).collect(), next: None };
    let whole = |page: Page| {
        json!({
            "trust_domain": bundle.trust_domain,
            "bundle_sequence": bundle.sequence,
            "roots": page.entries,
        })
    };
    let text = || {
        let (domain, sequence) = (&bundle.trust_domain, bundle.sequence);
        let table = roots_table(&bundle.roots, &View::of(format));
        format!("trust domain {domain}, bundle sequence {sequence}\n\n{table}")
    };
    Output::stdout(format).show_list(page, whole, text).map_err(Failure::failed)
}

/// A trust bundle, wherever it was read.
struct Bundle {
    trust_domain: String,
    sequence: u64,
    roots: Vec<Root>,
    pem: String,
}

struct Root {
    id: String,
    generation: u64,
    state: String,
    not_after: i64,
    certificate: CertificateDer<'static>,
}

impl Root {
    fn of(root: &RootAuthority) -> Self {
        Self {
            id: root.id.to_string(),
            generation: root.generation,
            state: root.state.as_str().to_owned(),
            not_after: root.not_after.unix_timestamp(),
            certificate: root.certificate.clone(),
        }
    }

    /// For programs.
    fn json(&self) -> Value {
        json!({
            "id": self.id, "generation": self.generation, "state": self.state,
            "fingerprint": fingerprint(&self.certificate), "not_after": time_text(self.not_after),
            "certificate": pem(&self.certificate),
        })
    }
}

async fn stored(source: &SourceArgs) -> Result<Bundle, Failure> {
    let config = source.admin.file.load()?.config;
    let store = app::open_for_reading(&config).await.map_err(Failure::failed)?;
    let entry = store.load().await.map_err(Failure::failed)?;
    let (_, authorities) = entry.ok_or(Refused::NoAuthority).map_err(Failure::failed)?;
    let bundle = authorities.bundle(&config.trust_domain).map_err(Failure::failed)?;
    Ok(Bundle {
        trust_domain: config.trust_domain.to_string(),
        sequence: bundle.sequence(),
        roots: authorities.roots.iter().map(Root::of).collect(),
        pem: bundle.pem().to_owned(),
    })
}

fn served(told: GetBundleResponse) -> Result<Bundle, Failure> {
    let root = |root: BundleRoot| Root {
        state: describe::state(root.state),
        not_after: root.not_after.map(|at| at.seconds).unwrap_or_default(),
        id: printable(&root.id),
        generation: root.generation,
        certificate: root.certificate.into(),
    };
    let (trust_domain, sequence) = (printable(&told.trust_domain), told.sequence);
    let roots: Vec<Root> = told.roots.into_iter().map(root).collect();
    // A root file that lacks one, or holds what is none, is worse than none: what makes a bundle says so.
    let domain = TrustDomain::parse(&trust_domain).map_err(Failure::failed)?;
    let certificates = roots.iter().map(|root| root.certificate.clone()).collect();
    let bundle = TrustBundle::new(domain, sequence, certificates).map_err(Failure::failed)?;
    Ok(Bundle { trust_domain, sequence, pem: bundle.pem().to_owned(), roots })
}

fn roots_table(roots: &[Root], view: &View) -> String {
    let ids = view.ids(roots.iter().map(|root| root.id.as_str()));
    let mut headings = vec!["authority", "state", "generation", "not after"];
    headings.extend(view.wide.then_some("SHA-256 fingerprint"));
    let mut table = Table::with(headings);
    for root in roots {
        let until = view.seconds(root.not_after);
        let (id, state) = (ids.show(root.id.as_str()).to_owned(), root.state.clone());
        let fingerprint = view.wide.then(|| fingerprint(&root.certificate));
        table.row([id, state, root.generation.to_string(), until].into_iter().chain(fingerprint));
    }
    table.render(view.width)
}

/// A root for programs.
pub(super) fn root_json(root: &RootAuthority) -> Value {
    Root::of(root).json()
}
