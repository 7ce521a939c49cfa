//! `signet-ca audit checkpoint`: the signed checkpoint that an auditor keeps, and what witnesses have cosigned.

use clap::Args;
use serde_json::{Value, json};
use signet_core::transparency::{Checkpoint, Note};
use signet_runtime::output::Output;

use super::record::checkpoint_json;
use super::record_source::SourceArgs;
use super::{Failure, OutputArg};
use crate::app;
use crate::record_tree::{Cosigned, moment};

#[derive(Debug, Args)]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The newest one that enough witnesses have cosigned
    #[arg(long)]
    cosigned: bool,
    /// Write it to audit.checkpoint_file, where none is any more, so that the CA signs again; with CAs up or down
    #[arg(long, conflicts_with_all = ["socket", "address", "cosigned"])]
    write_file: bool,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn checkpoint(args: &CheckpointArgs) -> Result<(), Failure> {
    if args.write_file {
        let config = args.source.admin.file.load()?.config;
        let written = app::write_outside(&config).await.map_err(Failure::failed)?;
        let value = || json!({ "file": written.path, "size": written.size });
        let text = || format!("{}: a checkpoint of {} events\n", written.path.display(), written.size);
        return Output::stdout(args.output.output).show(value, text).map_err(Failure::failed);
    }
    let source = args.source.open().await?;
    let kept = source.tree.checkpoint().await.map_err(Failure::failed)?;
    let kept = kept.ok_or_else(|| Failure::Failed("nothing is signed yet: a running CA does that".to_owned()))?;
    let newest = kept.note;
    let origin = read(&newest)?.origin;
    let cosigned = Cosigned::read(&*source.tree, &origin).await.map_err(Failure::failed)?;
    let note = if args.cosigned {
        let none = || Failure::Failed("no checkpoint is cosigned by enough witnesses yet".to_owned());
        cosigned.quorum_note().ok_or_else(none)?.0.to_string()
    } else {
        cosigned.joined(&newest)
    };
    let checkpoint = read(&note)?;
    let value = || {
        let mut shown = checkpoint_json(&checkpoint);
        if let Value::Object(fields) = &mut shown {
            let witness = |(key, size, seconds): &(_, u64, i64)| {
                let key: &signet_core::transparency::VerifierKey = key;
                json!({ "witness": key.name, "key": key.to_string(), "size": size, "at": moment(*seconds) })
            };
            fields.insert("note".to_owned(), json!(note));
            fields.insert("cosigned_size".to_owned(), json!(cosigned.quorum().map(|cosigned| cosigned.size)));
            fields.insert("witnesses".to_owned(), cosigned.witnesses().iter().map(witness).collect());
        }
        shown
    };
    Output::stdout(args.output.output).show(value, || note.clone()).map_err(Failure::failed)
}

fn read(note: &str) -> Result<Checkpoint, Failure> {
    let note = Note::parse(note.as_bytes()).map_err(Failure::failed)?;
    Checkpoint::parse(&note.text).map_err(Failure::failed)
}
