//! `signet-ca check`: the configuration and the files that it names, every mistake at once.

use clap::Args;
use signet_core::rotation::Refused;
use signet_runtime::output::{Output, OutputFormat};

use super::{ConfigFile, Failure};
use crate::{app, config};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Ask the API servers and issuers of clusters, too: whether they answer, and let this CA do what it needs
    #[arg(long, conflicts_with_all = ["reference", "schema"])]
    connect: bool,
    /// Print the reference of all fields as Markdown instead
    #[arg(long)]
    reference: bool,
    /// Print the shape of the file as JSON Schema instead, for editors
    #[arg(long, conflicts_with = "reference")]
    schema: bool,
}

pub(super) async fn run(args: &CheckArgs) -> Result<(), Failure> {
    let mut out = Output::stdout(OutputFormat::Table);
    if args.reference {
        let reference = config::reference().map_err(Failure::failed)?;
        return out.raw(&reference.to_markdown()).map_err(Failure::failed);
    }
    if args.schema {
        let reference = config::reference().map_err(Failure::failed)?;
        return out.json(&reference.to_json_schema("The configuration of signet-ca")).map_err(Failure::failed);
    }
    let loaded = args.file.load()?;
    let file = args.file.config.display();
    let app::Checked { problems, unmet, unseen } = app::check(&loaded.config, args.connect).await;
    if problems.is_empty() && unmet.is_empty() {
        out.line(&format!("{file}: the configuration is in order")).map_err(Failure::failed)?;
        if let Some(warning) = app::storage_warning(&loaded.config.storage) {
            out.line(&format!("{file}: {warning}")).map_err(Failure::failed)?;
        }
        if matches!(app::has_authority(&loaded.config).await, Ok(false)) {
            out.line(&format!("{file}: {}", Refused::NoAuthority)).map_err(Failure::failed)?;
        }
        for key in app::left_out_keys(&loaded.config).await {
            out.line(&format!("{file}: {key}")).map_err(Failure::failed)?;
        }
        for sealed in app::sealed_by(&loaded.config).await {
            out.line(&sealed.to_string()).map_err(Failure::failed)?;
        }
        if args.connect {
            out.line(&format!("{file}: the clusters answer, and let this CA do what it needs"))
                .map_err(Failure::failed)?;
        }
        for what in unseen {
            out.line(&format!("not looked at: {what}")).map_err(Failure::failed)?;
        }
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().chain(&unmet).map(|problem| format!("{file}: {problem}")).collect();
    let text = format!("the configuration is well-formed, but\n{}", lines.join("\n"));
    // What others say may be otherwise in a moment; the configuration is not.
    Err(if problems.is_empty() { Failure::Failed(text) } else { Failure::Usage(text) })
}
