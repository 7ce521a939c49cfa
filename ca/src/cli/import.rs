//! `signet-ca import istiod`: takes over the CA of an istiod, so that this one goes on with the same roots.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use signet_core::authority::Root;
use signet_core::certificate::subject;
use signet_core::pem::pem;
use signet_runtime::command;
use signet_runtime::config::Loaded;
use signet_runtime::output::Output;

use super::{ConfigFile, DEFAULT_CONFIG, Failure, OutputArg, PROGRAM, time_text};
use crate::app::{self, Import, Imported, fingerprint};
use crate::config::{Backend, Config};

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Take over the CA files of an istiod for `authority.backend: files`, or say everything that keeps them from being used
    Istiod(IstiodArgs),
}

#[derive(Debug, Args)]
pub(super) struct IstiodArgs {
    /// A directory with ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem; a file with the Secret (`kubectl get
    /// secret -o yaml`); or, if nothing of that name is there, NAMESPACE/NAME of a Secret that a cluster is asked for
    #[arg(long, value_name = "DIR|SECRET")]
    from: String,
    /// The directory for the files, which is made if it is missing; without, authority.files of the configuration
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// The id of the cluster whose Secret is meant; without, the first with an api_server
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    /// Look at everything, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The configuration file; with --to it may be missing
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(command: &ImportCommand) -> Result<(), Failure> {
    let ImportCommand::Istiod(args) = command;
    let loaded = match &args.to {
        // Whoever only wants a set of files, for a Secret, has no CA here.
        Some(_) if args.config == Path::new(DEFAULT_CONFIG) && !args.config.exists() => None,
        _ => Some(ConfigFile { config: args.config.clone() }.load()?),
    };
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let source = app::Source::parse(&args.from, args.cluster.as_deref());
    let import = Import {
        source: source.map_err(|problem| Failure::Usage(format!("--from: {problem}")))?,
        directory: directory(args, config)?,
        trust_domain: config.map(|config| config.trust_domain.clone()),
        dry_run: args.dry_run,
    };
    let mut out = Output::stdout(args.output.output);
    match app::import(&import, config).await {
        Ok(done) => {
            let next = next(args, &import, loaded.as_ref()).await;
            out.show(|| document(&done, &import), || as_text(&done, &import, &next)).map_err(Failure::failed)
        }
        Err(unfit) => {
            if out.format().is_json() {
                let value = || json!({ "from": args.from, "directory": import.directory, "problems": unfit.0 });
                out.show(value, String::new).map_err(Failure::failed)?;
            }
            Err(Failure::Failed(command::each_named(PROGRAM, unfit.0.iter().map(String::as_str))))
        }
    }
}

fn directory(args: &IstiodArgs, config: Option<&Config>) -> Result<PathBuf, Failure> {
    match (&args.to, config.map(|config| &config.authority.backend)) {
        // As it may stand in a configuration, whatever the working directory of the CA is.
        (Some(to), _) => Ok(std::path::absolute(to).unwrap_or_else(|_| to.clone())),
        (None, Some(Backend::Files(directory))) => Ok(directory.clone()),
        _ => Err(Failure::Usage(format!(
            "{} names no directory for files (authority.files with authority.backend: files); name one with --to",
            args.config.display()
        ))),
    }
}

fn document(done: &Imported, import: &Import) -> Value {
    let (offer, issuing) = (&done.found.offer, &done.found.issuing);
    let root = |root: &Root| {
        json!({
            "id": root.id.as_str(), "subject": subject(&root.certificate), "fingerprint": fingerprint(&root.certificate),
            "not_after": time_text(root.not_after.unix_timestamp()), "certificate": pem(&root.certificate),
        })
    };
    json!({
        "from": done.from, "directory": import.directory, "dry_run": import.dry_run,
        "issuing": {
            "id": issuing.id.as_str(), "subject": subject(&issuing.certificate), "key": done.found.key,
            "not_after": time_text(issuing.not_after.unix_timestamp()), "root": offer.signer.as_str(),
            "self_signed": done.found.self_signed,
        },
        "roots": offer.roots.iter().map(root).collect::<Vec<_>>(),
        "completed": done.completed, "written": done.written, "kept": done.kept, "notes": done.notes, "problems": [],
    })
}

fn as_text(done: &Imported, import: &Import, next: &str) -> String {
    let (found, offer) = (&done.found, &done.found.offer);
    let until = |at: time::OffsetDateTime| time_text(at.unix_timestamp());
    let mut text = format!("the CA in {} can be taken over\n", done.from);
    let (name, key) = (subject(&found.issuing.certificate), &found.key);
    text += &format!("signs     {name}, {key}, until {}\n", until(found.issuing.not_after));
    for root in &offer.roots {
        let role = if root.id == offer.signer { "chains to" } else { "and trusts" };
        let (name, until) = (subject(&root.certificate), until(root.not_after));
        text += &format!(
            "{role:<9} {name}, until {until}\n          SHA-256 fingerprint {}\n",
            fingerprint(&root.certificate)
        );
    }
    for name in &done.completed {
        let with = if *name == "root-cert.pem" { "holds ca-cert.pem" } else { "is empty" };
        text += &format!("{name} {with}: istiod has made this CA itself, which is its own root\n");
    }
    let directory = import.directory.display();
    if !done.written.is_empty() {
        let verb = if import.dry_run { "would be written to" } else { "were written to" };
        text += &format!("{} {verb} {directory}\n", done.written.join(", "));
    }
    if !done.kept.is_empty() {
        text += &format!("{} are in {directory} already, with the same content\n", done.kept.join(", "));
    }
    text.extend(done.notes.iter().map(|note| format!("note: {note}\n")));
    text + next
}

/// What to do now.
async fn next(args: &IstiodArgs, import: &Import, loaded: Option<&Loaded<Config>>) -> String {
    let directory = import.directory.display();
    let Some(Loaded { config, .. }) = loaded else {
        return format!(
            "\nno configuration was looked at, so not whether this CA is of your trust domain. For the chart:\n  kubectl -n \
             signet-system create secret generic cacerts --from-file={directory}\nand caFiles.secret: cacerts in its values\n"
        );
    };
    let file = args.config.display();
    let is_set = matches!(&config.authority.backend, Backend::Files(set) if *set == import.directory);
    let set = match is_set {
        true => format!("\n{file} names this directory already\n"),
        false => format!("\nnow set in {file}\n  authority:\n    backend: files\n    files: {directory}\n"),
    };
    let wait = if import.dry_run { "when the files are there, " } else { "" };
    let then = match app::has_authority(config).await {
        Ok(true) => format!(
            "and {wait}restart the CA. It has an authority already, which this one follows by a rotation: \
             `signet-ca status` tells how far it is\n"
        ),
        _ => format!("and {wait}run `signet-ca init`, which makes this CA the first authority, and start the CA\n"),
    };
    set + &then
}
