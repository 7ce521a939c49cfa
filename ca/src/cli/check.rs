//! `signet-ca check`: the configuration and the files that it names, every mistake at once.

use clap::Args;
use serde_json::{Value, json};
use signet_core::rotation::Refused;
use signet_runtime::command;
use signet_runtime::output::Output;

use super::{ConfigFile, Failure, OutputArg, PROGRAM};
use crate::{app, config};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Ask the API servers and issuers of clusters, too: whether they answer, and let this CA do what it needs
    #[arg(long, conflicts_with_all = ["reference", "schema"])]
    connect: bool,
    /// Try a signature even where no storage keeps a record
    #[arg(long, requires = "connect")]
    off_record: bool,
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
    let mut found = Found { file: file.clone(), ..Found::default() };
    let loaded = match args.file.read() {
        Ok(loaded) => loaded,
        Err(mistakes) => return Found { problems: mistakes, ..found }.refuse(out),
    };
    let asks = match (args.connect, args.off_record) {
        (false, _) => app::Asks::Nobody,
        (true, false) => app::Asks::OnRecord,
        (true, true) => app::Asks::OffRecord,
    };
    let app::Checked { problems, unmet, unseen, notes } = app::check(&loaded.config, asks).await;
    found.notes = notes;
    let places = &loaded.places;
    let about_file = |all: Vec<String>| all.iter().map(|one| places.named(one)).collect::<Vec<_>>();
    (found.problems, found.unmet, found.unseen) = (about_file(problems), about_file(unmet), unseen);
    if !(found.problems.is_empty() && found.unmet.is_empty()) {
        return found.refuse(out);
    }
    found.notes.extend(app::storage_warning(&loaded.config.storage));
    if matches!(app::has_authority(&loaded.config).await, Ok(false)) {
        found.notes.push(Refused::NoAuthority.to_string());
    }
    found.notes.extend(app::left_out_keys(&loaded.config).await);
    for (index, cluster) in loaded.config.clusters.iter().enumerate() {
        let told = cluster.pods_without_roots();
        found.notes.extend(told.map(|problem| format!("clusters[{index}].pod_certificates: {problem}")));
    }
    let mut text = format!("{file}: the configuration is in order\n");
    text.extend(found.notes.iter().map(|note| format!("{file}: {note}\n")));
    for sealed in app::sealed_by(&loaded.config).await {
        found.notes.push(sealed.to_string());
        text += &format!("{sealed}\n");
    }
    if args.connect {
        text += &format!("{file}: the clusters answer, and let this CA do what it needs, as far as they show\n");
    }
    text.extend(found.unseen.iter().map(|what| format!("not looked at: {what}\n")));
    out.show(|| found.document(), || text).map_err(Failure::failed)
}

/// What a check has found of a file.
#[derive(Debug, Default)]
struct Found {
    file: String,
    problems: Vec<String>,
    unmet: Vec<String>,
    notes: Vec<String>,
    unseen: Vec<String>,
}

impl Found {
    fn document(&self) -> Value {
        let Self { file, problems, unmet, notes, unseen } = self;
        json!({ "file": file, "problems": problems, "unmet": unmet, "notes": notes, "not_looked_at": unseen })
    }

    /// Tells everything that is wrong: to people as errors are told, to programs as a document besides. What others say may
    /// be otherwise in a moment, and is a failure; the file is not, and is a mistake.
    fn refuse(&self, mut out: Output) -> Result<(), Failure> {
        if out.format().is_json() {
            out.show(|| self.document(), String::new).map_err(Failure::failed)?;
        }
        let all = self.problems.iter().chain(&self.unmet).map(String::as_str);
        let text = command::each_named(PROGRAM, all);
        Err(if self.problems.is_empty() { Failure::Failed(text) } else { Failure::Usage(text) })
    }
}
