//! `signet-ca audit prove`, `verify` and `key`: the record as a signed tree, read from a running CA, from storage, or
//! from files alone.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use signet_core::audit::{AuditEvent, AuditQuery, StoredEvent, leaf_hash};
use signet_core::certificate::Serial;
use signet_core::seams::store::AuditStore;
use signet_core::transparency::{Checkpoint, Finding, Note, Proof, VerifierKey};
use signet_runtime::files;
use signet_runtime::output::{Output, OutputFormat};

use super::copy_progress::CopyProgress;
use super::event_view::event_json;
use super::record_source::{SourceArgs, SourceBesideKeyArgs};
use super::{Failure, OutputArg};
use crate::app;
use crate::record_tree::{self, Against, Verified};

/// The largest file that is read: a proof holds an event, which has fewer than 64 KiB.
const LARGEST: u64 = 1 << 20;

/// Findings that are printed for people.
const MOST: usize = 50;

#[derive(Debug, Args)]
#[command(override_usage = "signet-ca audit prove <--serial <HEX>|--sequence <N>>")]
#[command(group = ArgGroup::new("event").required(true))]
pub(super) struct ProveArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The certificate with this serial number (hexadecimal)
    #[arg(long, value_name = "HEX", group = "event")]
    serial: Option<String>,
    /// The event at this position, as `audit list` shows it
    #[arg(long, value_name = "N", group = "event")]
    sequence: Option<u64>,
    /// Where the proof is written; without this it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    source: SourceBesideKeyArgs,
    /// Verify this proof, with nothing but the key: no storage, no CA
    #[arg(long, value_name = "FILE", requires = "key")]
    proof: Option<PathBuf>,
    /// The key of the record, as `audit key` shows it, or a file with such keys; several may count. Without this, the one that
    /// the storage names
    #[arg(long, value_name = "KEY|FILE")]
    key: Vec<String>,
    /// A signed checkpoint that was kept: what is verified has to continue it, or, of a proof, to be of it
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The key of a witness, or a file with such keys: a checkpoint counts when enough of them have cosigned it
    #[arg(long, value_name = "KEY|FILE")]
    witness: Vec<String>,
    /// How many of the witnesses are enough; without this, all of them
    #[arg(long, value_name = "N", requires = "witness")]
    quorum: Option<usize>,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Make another key, in the storage, with CAs up or down; they sign with it from their next checkpoint on, beside the one
    /// before
    #[arg(long, conflicts_with_all = ["socket", "address"])]
    new: bool,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) async fn key(args: &KeyArgs) -> Result<(), Failure> {
    let (origin, keys) = if args.new {
        let config = args.source.admin.file.load()?.config;
        let keys = app::new_record_key(&config).await.map_err(Failure::failed)?;
        (config.audit.origin, keys)
    } else {
        let source = args.source.open().await?;
        let kept = source.tree.checkpoint().await.map_err(Failure::failed)?;
        let kept =
            kept.ok_or_else(|| Failure::Failed("nothing is signed yet: start the CA, which makes the key".to_owned()))?;
        (source.origin, kept.keys.lines().map(str::to_owned).collect())
    };
    let value = || json!({ "origin": origin, "keys": keys });
    let text = || keys.iter().map(|key| format!("{key}\n")).collect();
    Output::stdout(args.output.output).show(value, text).map_err(Failure::failed)
}

pub(super) async fn prove(args: &ProveArgs) -> Result<(), Failure> {
    let wrong = |text: String| Failure::Usage(signet_runtime::command::each_named(super::PROGRAM, [text.as_str()]));
    let serial = args.serial.as_ref().map(|text| {
        Serial::parse(text).ok_or_else(|| {
            wrong(format!(
                "--serial: {text:?} is not 32 to 40 hexadecimal digits; `audit list -o wide` shows whole ones"
            ))
        })
    });
    let serial = serial.transpose()?;
    let source = args.source.open().await?;
    let sequence = match (serial, args.sequence) {
        (Some(serial), _) => position(&*source.events, serial).await?,
        (None, sequence) => sequence.unwrap_or_default(),
    };
    let proof = match &source.remote {
        Some(remote) => remote.proof(sequence).await?,
        None => record_tree::prove(&*source.tree, sequence).await.map_err(Failure::failed)?,
    };
    let proof = proof.to_string();
    let Some(path) = &args.out else {
        return Output::stdout(OutputFormat::Table).raw(&proof).map_err(Failure::failed);
    };
    let write = files::in_time(path, move |path| files::write_atomic(path, proof.as_bytes(), 0o644));
    write.await.map_err(Failure::failed)?;
    let text = format!("{}: that event {sequence} is on record", path.display());
    Output::stdout(OutputFormat::Table).line(&text).map_err(Failure::failed)
}

/// Where the certificate is on record.
async fn position(store: &dyn AuditStore, serial: Serial) -> Result<u64, Failure> {
    let query = AuditQuery { serial: Some(serial), ..AuditQuery::newest(1).map_err(Failure::failed)? };
    let page = store.query(&query).await.map_err(Failure::failed)?;
    let found = page.items.first().map(|found| found.sequence).or(page.unread.first().map(|found| found.sequence));
    found.ok_or_else(|| Failure::Failed(format!("no certificate {serial} is on record")))
}

pub(super) async fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let (keys, witnesses) = (keys("--key", &args.key).await?, keys("--witness", &args.witness).await?);
    let quorum = args.quorum.unwrap_or(witnesses.len());
    if !witnesses.is_empty() && !(1..=witnesses.len()).contains(&quorum) {
        let text = format!("--quorum: {quorum} is not from 1 to {}, the witnesses that are given", witnesses.len());
        return Err(Failure::Usage(signet_runtime::command::each_named(super::PROGRAM, [text.as_str()])));
    }
    if let Some(key) = witnesses.iter().find(|key| !key.is_of_witness()) {
        let text = format!("--witness: {key} is the key of a log and not of a witness");
        return Err(Failure::Usage(signet_runtime::command::each_named(super::PROGRAM, [text.as_str()])));
    }
    let count = (witnesses.as_slice(), quorum);
    let against = match &args.against {
        Some(path) => Some(read(path).await?),
        None => None,
    };
    match &args.proof {
        Some(path) => verify_proof(&read(path).await?, &keys, against.as_deref(), count, args.output.output),
        None => verify_all(args, &keys, against.as_deref(), count).await,
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    files::read_in_time(path, LARGEST).await.map_err(Failure::failed)
}

/// Keys as they are given: each one itself, or in a file.
async fn keys(option: &str, given: &[String]) -> Result<Vec<VerifierKey>, Failure> {
    let mut keys = Vec::new();
    for text in given {
        // Read first: a key may look like the name of a file, and hardly the other way round.
        let lines = match VerifierKey::parse(text) {
            Ok(key) => {
                keys.push(key);
                continue;
            }
            Err(error) => match files::read_in_time(Path::new(text), LARGEST).await {
                Ok(content) => String::from_utf8_lossy(&content).into_owned(),
                Err(_) => {
                    let text = format!("{option}: {text:?} is neither a key ({error}) nor a file that can be read");
                    return Err(Failure::Usage(signet_runtime::command::each_named(super::PROGRAM, [text.as_str()])));
                }
            },
        };
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            keys.push(VerifierKey::parse(line).map_err(Failure::failed)?);
        }
    }
    Ok(keys)
}

/// The event in a proof, the proof held against the keys, and against a checkpoint that was kept.
fn verify_proof(
    bytes: &[u8],
    keys: &[VerifierKey],
    against: Option<&[u8]>,
    (witnesses, quorum): (&[VerifierKey], usize),
    format: OutputFormat,
) -> Result<(), Failure> {
    let proof = Proof::parse(bytes).map_err(Failure::failed)?;
    let body =
        proof.extra.as_deref().ok_or_else(|| Failure::Failed("this proof does not hold the event".to_owned()))?;
    let origins: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let named = Checkpoint::parse(&proof.checkpoint.text).map_err(Failure::failed)?.origin;
    let origin = origins.iter().find(|origin| **origin == named).copied().unwrap_or_default();
    let checkpoint = proof.verify(&leaf_hash(body), origin, keys).map_err(Failure::failed)?;
    let by: Vec<String> =
        proof.checkpoint.signers(witnesses).map_err(Failure::failed)?.iter().map(|key| key.name.clone()).collect();
    if by.len() < quorum {
        return Err(Failure::Failed(format!(
            "the checkpoint of this proof is cosigned by {} of the witnesses that were given, and {quorum} have to",
            by.len()
        )));
    }
    if let Some(note) = against {
        let kept = Note::parse(note).map_err(Failure::failed)?;
        kept.verify(keys).map_err(Failure::failed)?;
        let kept = Checkpoint::parse(&kept.text).map_err(Failure::failed)?;
        if (kept.size, kept.root) != (checkpoint.size, checkpoint.root) {
            let (size, other) = (checkpoint.size, kept.size);
            return Err(Failure::Failed(format!(
                "the proof is of the checkpoint of {size} events, and not of the one that was given, which is of {other}"
            )));
        }
    }
    let event = AuditEvent::decode(body).ok();
    let event = event.map(|(event, unknown_fields)| StoredEvent { sequence: proof.index, event, unknown_fields });
    let event = event.map(|event| event_json(&event)).transpose().map_err(Failure::failed)?;
    let value =
        || json!({ "verified": true, "checkpoint": checkpoint_json(&checkpoint), "witnesses": by, "event": event });
    let text = || {
        let shown = event.as_ref().and_then(|event| serde_json::to_string_pretty(event).ok());
        format!(
            "event {} is on record: it is one of the {} of {}\n{}\n",
            proof.index,
            checkpoint.size,
            checkpoint.origin,
            shown.unwrap_or_else(|| "it was written by a newer version, which this one cannot show".to_owned())
        )
    };
    Output::stdout(format).show(value, text).map_err(Failure::failed)
}

async fn verify_all(
    args: &VerifyArgs,
    keys: &[VerifierKey],
    against: Option<&[u8]>,
    witnesses: (&[VerifierKey], usize),
) -> Result<(), Failure> {
    let source = args.source.source().open().await?;
    let progress = CopyProgress::new();
    let against = Against { keys, checkpoint: against, witnesses };
    let verified =
        record_tree::verify(&*source.tree, against, |done, all| progress.show(&format!("read {done} of {all} events")));
    let verified = verified.await;
    progress.end();
    let verified = verified.map_err(Failure::failed)?;
    let trusted = !keys.is_empty();
    let shown =
        Output::stdout(args.output.output).show(|| verified_json(&verified), || verified_text(&verified, trusted));
    shown.map_err(Failure::failed)?;
    if verified.holds() {
        return Ok(());
    }
    let lacks_witnesses = !witnesses.0.is_empty() && verified.cosigned.is_none();
    if lacks_witnesses && verified.compared.findings.is_empty() && verified.problems.len() == 1 {
        return Err(Failure::Failed("too few of these witnesses have cosigned it".to_owned()));
    }
    Err(Failure::Failed("the record is not what was signed".to_owned()))
}

pub(super) fn checkpoint_json(checkpoint: &Checkpoint) -> Value {
    use base64::Engine as _;
    let root = base64::engine::general_purpose::STANDARD.encode(checkpoint.root);
    json!({ "origin": checkpoint.origin, "size": checkpoint.size, "root_hash": root })
}

fn finding_json(finding: &Finding) -> Value {
    let (change, sequence, now) = match *finding {
        Finding::Changed(at) => ("changed", at, Some(at)),
        Finding::Removed(at) => ("removed", at, None),
        Finding::Inserted(at) => ("inserted", at, Some(at)),
        Finding::Moved { from, to } => ("moved", from, Some(to)),
        Finding::Shifted { from, to } => ("shifted", from, Some(to)),
        Finding::Disagrees(at) => ("disagrees", at, Some(at)),
    };
    json!({ "change": change, "sequence": sequence, "sequence_now": now, "problem": finding.to_string() })
}

fn verified_json(verified: &Verified) -> Value {
    let compared = &verified.compared;
    json!({
        "verified": verified.holds(),
        "checkpoint": verified.checkpoint.as_ref().map(checkpoint_json),
        "cosigned": verified.cosigned.as_ref().map(|(checkpoint, by)| {
            json!({ "size": checkpoint.size, "witnesses": by })
        }),
        "keys": verified.keys,
        "events": compared.agree,
        "not_covered": compared.after,
        "forgotten": verified.forgotten,
        "findings": compared.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "more_findings": compared.cut,
        "problems": verified.problems,
    })
}

fn verified_text(verified: &Verified, trusted: bool) -> String {
    let compared = &verified.compared;
    let mut text = String::new();
    for finding in compared.findings.iter().take(MOST) {
        text.push_str(&format!("{finding}\n"));
    }
    if compared.cut || compared.findings.len() > MOST {
        text.push_str("… and more; `-o json` names them\n");
    }
    verified.problems.iter().for_each(|problem| text.push_str(&format!("{problem}\n")));
    let signed = match &verified.checkpoint {
        Some(checkpoint) => format!("the {} events that {} has signed", checkpoint.size, checkpoint.origin),
        None => "nothing: no checkpoint that counts is in storage".to_owned(),
    };
    text.push_str(&format!("{} events on record are those of {signed}\n", compared.agree));
    if let Some((checkpoint, by)) = &verified.cosigned {
        text.push_str(&format!("the first {} of them are cosigned by {}\n", checkpoint.size, by.join(", ")));
    }
    if verified.forgotten > 0 {
        text.push_str(&format!(
            "{} of them have no words any more, by retention: their hashes count\n",
            verified.forgotten
        ));
    }
    if compared.after > 0 {
        text.push_str(&format!("{} later ones are in no checkpoint yet\n", compared.after));
    }
    if !trusted {
        text.push_str(
            "the key was taken from the storage itself; give --key, and --against a checkpoint that you have kept\n",
        );
    }
    text
}
