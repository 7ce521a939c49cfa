//! `signet-ca audit export`: events as lines of a file, each exactly once, however often the export is cut off and resumed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;
use signet_core::clock::{Clock, SystemClock};

use super::Failure;
use super::record_batches::{Batches, WhichArgs, told_json};
use super::record_csv;
use super::record_source::SourceArgs;
use crate::grpc::record::event::Told;

/// How much of a file's end is looked at for its last line: an event has fewer than 64 KiB, which JSON may write six times as
/// long.
const END: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Only events since this time: RFC 3339, or a duration before now like 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Begin after the event at this position
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    after: Option<u64>,
    /// The file; without this, standard output. One that is there already is refused without --resume
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Go on after the last whole line of the file, if there is one
    #[arg(long, requires = "out")]
    resume: bool,
    /// How events are written
    #[arg(long, short, value_name = "FORMAT", default_value = "jsonl")]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A JSON object on a line of its own for each event
    Jsonl,
    /// Comma-separated values (RFC 4180) with a line of headings
    Csv,
}

pub(super) async fn export(args: &ExportArgs) -> Result<(), Failure> {
    let mut query = args.which.query((args.since.as_deref(), args.until.as_deref()), SystemClock.now())?;
    // A file that cannot be gone on with is told of before anybody is asked.
    let (mut to, last) = match &args.out {
        Some(path) => {
            let (file, last) = open(path, args.resume, args.output)?;
            (Sink::File(BufWriter::new(file), path.clone()), last)
        }
        None => (Sink::Stdout(io::stdout()), None),
    };
    let source = args.source.open().await?;
    args.which.complete(&mut query, (&args.source, &source)).await?;
    let from = last.or(args.after).map_or(0, |last| last.saturating_add(1));
    let on_record = source.tree.events().await.map_err(Failure::failed)?;
    if from > on_record {
        return Err(Failure::Failed(format!(
            "nothing comes after event {}: {on_record} events are on record; was the storage set back, or is it another one?",
            from.saturating_sub(1)
        )));
    }
    let mut batches = Batches::open(&source, query, from, false).await?;
    if last.is_none() && args.output == Form::Csv && to.is_at_start()? {
        to.write(&record_csv::headings())?;
    }
    let mut written = 0_u64;
    let ended = loop {
        match batches.next().await {
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
            Ok(Some(batch)) => {
                for told in &batch {
                    to.write(&line(told, args.output)?)?;
                    written += 1;
                }
                to.flush()?;
            }
        }
    };
    to.end()?;
    if let Some(path) = &args.out {
        let text = format!("{written} events written to {}\n", path.display());
        io::stderr().write_all(text.as_bytes()).map_err(Failure::failed)?;
    }
    ended
}

fn line(told: &Told, form: Form) -> Result<String, Failure> {
    let value = told_json(told).map_err(Failure::failed)?;
    Ok(match form {
        Form::Jsonl => format!("{value}\n"),
        Form::Csv => record_csv::line(&value),
    })
}

/// Where lines go.
enum Sink {
    File(BufWriter<File>, PathBuf),
    Stdout(io::Stdout),
}

impl Sink {
    fn is_at_start(&mut self) -> Result<bool, Failure> {
        match self {
            Self::File(file, path) => file.stream_position().map(|at| at == 0).map_err(|error| failed(path, &error)),
            Self::Stdout(_) => Ok(true),
        }
    }

    fn write(&mut self, line: &str) -> Result<(), Failure> {
        match self {
            Self::File(file, path) => file.write_all(line.as_bytes()).map_err(|error| failed(path, &error)),
            Self::Stdout(out) => out.write_all(line.as_bytes()).map_err(Failure::failed),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::File(file, path) => file.flush().map_err(|error| failed(path, &error)),
            Self::Stdout(out) => out.flush().map_err(Failure::failed),
        }
    }

    /// Durable, where that is possible.
    fn end(&mut self) -> Result<(), Failure> {
        self.flush()?;
        match self {
            Self::File(file, path) => file.get_ref().sync_all().map_err(|error| failed(path, &error)),
            Self::Stdout(_) => Ok(()),
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

/// The file, at its end, without half a line that an export left that was cut off; and the position of its last event.
fn open(path: &Path, resume: bool, form: Form) -> Result<(File, Option<u64>), Failure> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let options = if resume { options.create(true) } else { options.create_new(true) };
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Usage(format!(
            "--out: {} is there already; --resume goes on behind its last event",
            path.display()
        )),
        _ => failed(path, &error),
    })?;
    let end = End::of(&mut file).map_err(|error| failed(path, &error))?;
    // Nothing is taken off a file that is not of this form.
    let last = end.last(form).ok_or_else(|| {
        Failure::Usage(format!(
            "--resume: {} does not end with an event in the form of --output; is it another file, or an export of another form?",
            path.display()
        ))
    })?;
    if form == Form::Csv && end.line.is_some() && !has_our_headings(&mut file).map_err(|error| failed(path, &error))? {
        return Err(Failure::Usage(format!(
            "--resume: {} has other columns than this version writes; begin a new file",
            path.display()
        )));
    }
    file.set_len(end.keep).and_then(|()| file.seek(SeekFrom::Start(end.keep))).map_err(|error| failed(path, &error))?;
    Ok((file, last))
}

/// Whether a file begins with the headings that are written now: those of another version are of other columns.
fn has_our_headings(file: &mut File) -> io::Result<bool> {
    let headings = record_csv::headings();
    file.seek(SeekFrom::Start(0))?;
    let mut first = Vec::new();
    file.take(headings.len() as u64).read_to_end(&mut first)?;
    Ok(first == headings.as_bytes())
}

/// The end of a file.
struct End {
    /// How long it is up to the last end of a line.
    keep: u64,
    /// The line before that, if there is one.
    line: Option<Vec<u8>>,
    /// What comes after it.
    rest: Vec<u8>,
}

impl End {
    fn of(file: &mut File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let begin = length.saturating_sub(END);
        file.seek(SeekFrom::Start(begin))?;
        let mut end = Vec::new();
        file.take(END).read_to_end(&mut end)?;
        let Some(newline) = end.iter().rposition(|byte| *byte == b'\n') else {
            if begin > 0 {
                return Err(io::Error::other("it does not end with lines of an export"));
            }
            return Ok(Self { keep: 0, line: None, rest: end });
        };
        let keep = begin.saturating_add(newline as u64).saturating_add(1);
        let whole = end.get(..newline).unwrap_or_default();
        let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec());
        Ok(Self { keep, line, rest: end.get(newline.saturating_add(1)..).unwrap_or_default().to_vec() })
    }

    /// The position of the last event; `None` inside when there is none yet, and outside when this is no export of that form.
    fn last(&self, form: Form) -> Option<Option<u64>> {
        let Some(line) = &self.line else {
            let begins = |begin: &[u8]| begin.starts_with(&self.rest) || self.rest.starts_with(begin);
            let is_ours = match form {
                Form::Jsonl => begins(b"{\""),
                Form::Csv => begins(record_csv::headings().trim_end().as_bytes()),
            };
            return is_ours.then_some(None);
        };
        match form {
            Form::Csv if line == record_csv::headings().trim_end().as_bytes() => Some(None),
            Form::Csv => record_csv::sequence(line).map(Some),
            Form::Jsonl => {
                let value: Option<Value> = serde_json::from_slice(line).ok();
                value.and_then(|value| value.get("sequence")?.as_u64()).map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_export_goes_on_after_its_last_whole_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.jsonl");
        let headings = record_csv::headings();
        let events = format!("{headings}12,\"a,b\"\r\n13,");
        for (content, form, kept, last) in [
            ("", Form::Jsonl, "", Ok(None)),
            ("{\"seq", Form::Jsonl, "", Ok(None)),
            ("{\"sequence\":7}\n", Form::Jsonl, "{\"sequence\":7}\n", Ok(Some(7))),
            ("{\"sequence\":7}\n{\"sequence\":8", Form::Jsonl, "{\"sequence\":7}\n", Ok(Some(7))),
            ("7,a\n", Form::Jsonl, "7,a\n", Err(())),
            // Whatever it is, it is not ours.
            ("notes", Form::Jsonl, "notes", Err(())),
            ("notes", Form::Csv, "notes", Err(())),
            ("a\nnotes", Form::Jsonl, "a\nnotes", Err(())),
            ("sequ", Form::Csv, "", Ok(None)),
            (&events, Form::Csv, events.trim_end_matches("13,"), Ok(Some(12))),
            // Of another version.
            ("sequence,x\r\n12,a\r\n", Form::Csv, "sequence,x\r\n12,a\r\n", Err(())),
            (&headings, Form::Csv, &headings, Ok(None)),
        ] {
            std::fs::write(&path, content).unwrap();
            let opened = open(&path, true, form);
            assert_eq!(opened.map(|(_, last)| last).map_err(drop), last, "{content:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept, "{content:?}");
        }
        assert!(open(&path, false, Form::Csv).is_err(), "it is there");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(open(&path, true, Form::Jsonl).unwrap().1, None);
    }
}
