//! `signet-ca check`: the configuration and the files that it names, every mistake at once.

use clap::Args;
use serde_json::json;
use signet_core::rotation::Refused;
use signet_runtime::command;
use signet_runtime::output::Output;

use super::{ConfigFile, Failure, OutputArg, PROGRAM};
use crate::{app, config};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the reference of all fields as Markdown instead
    #[arg(long, conflicts_with = "output")]
    reference: bool,
    /// Print the shape of the file as JSON Schema instead, for editors
    #[arg(long, conflicts_with_all = ["reference", "output"])]
    schema: bool,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn run(args: &CheckArgs) -> Result<(), Failure> {
    let mut out = Output::stdout(args.output.output);
    if args.reference {
        let reference = config::reference().map_err(Failure::failed)?;
        return out.raw(&reference.to_markdown()).map_err(Failure::failed);
    }
    if args.schema {
        let reference = config::reference().map_err(Failure::failed)?;
        return out.json(&reference.to_json_schema("The configuration of signet-ca")).map_err(Failure::failed);
    }
    let file = args.file.config.display().to_string();
    let loaded = match args.file.read() {
        Ok(loaded) => loaded,
        Err(mistakes) => return refused(out, &file, mistakes, &[]),
    };
    let app::Checked { problems, unseen } = app::check(&loaded.config).await;
    if !problems.is_empty() {
        let mistakes = problems.iter().map(|problem| format!("{file}: {problem}")).collect();
        return refused(out, &file, mistakes, &unseen);
    }
    let mut notes: Vec<String> = Vec::new();
    notes.extend(app::storage_warning(&loaded.config.storage));
    if matches!(app::has_authority(&loaded.config).await, Ok(false)) {
        notes.push(Refused::NoAuthority.to_string());
    }
    notes.extend(app::left_out_keys(&loaded.config).await);
    let mut text = format!("{file}: the configuration is in order\n");
    text.extend(notes.iter().map(|note| format!("{file}: {note}\n")));
    for sealed in app::sealed_by(&loaded.config).await {
        notes.push(sealed.to_string());
        text += &format!("{sealed}\n");
    }
    text.extend(unseen.iter().map(|what| format!("not looked at: {what}\n")));
    let document = || json!({ "file": file, "problems": [], "notes": notes, "not_looked_at": unseen });
    out.show(document, || text).map_err(Failure::failed)
}

/// Tells every mistake: to people as errors are told, to programs as a document besides.
fn refused(mut out: Output, file: &str, mistakes: Vec<String>, unseen: &[String]) -> Result<(), Failure> {
    if out.format().is_json() {
        let document = || json!({ "file": file, "problems": mistakes, "notes": [], "not_looked_at": unseen });
        out.show(document, String::new).map_err(Failure::failed)?;
    }
    Err(Failure::Usage(command::each_named(PROGRAM, mistakes.iter().map(String::as_str))))
}
