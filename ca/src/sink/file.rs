//! The file: lines at its end, and beside it where the record goes on.
//!
//! Lines come first, the position after them. Whoever is killed in between finds lines after the position, and counts them. A
//! file that is shorter than it was, or gone, was rotated: lines go on in a new one. Nothing is ever taken off a file that was
//! not begun here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use signet_core::digest::{from_hex, hex};
use signet_core::transparency::Hash;
use signet_runtime::files::{self, FileError};

/// The longest file of a position that is read.
const LONGEST: u64 = 4096;

/// The most that may stand after a position: no more is written at once, by far.
const MOST: u64 = 64 << 20;

/// Mode of the file: whoever carries lines away is in its group.
const MODE: u32 = 0o640;

/// Why a file cannot be followed into.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file or its position.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file or its position.
    #[error("{path}", path = path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Something in it was not written by this.
    #[error("{path}: {why}; move it away, and this file goes on from its position", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is not as it was left.
        why: String,
    },
    /// The position is none.
    #[error(
        "{path}: no position; remove it and the file beside it to have the whole record written anew",
        path = path.display()
    )]
    Position {
        /// The file of the position.
        path: PathBuf,
    },
}

/// How far the record is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The event that comes next.
    pub next: u64,
    /// How long the file is.
    pub length: u64,
    /// The leaf hash of the event before, unless that is not known: whether the record is still the one that was written.
    pub last: Option<Hash>,
}

impl Position {
    fn read(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let last = value.get("last").and_then(Value::as_str).and_then(|digits| from_hex(digits)?.try_into().ok());
        Some(Self { next: value.get("next")?.as_u64()?, length: value.get("length")?.as_u64()?, last })
    }

    fn text(self) -> String {
        json!({ "next": self.next, "length": self.length, "last": self.last.map(|last| hex(&last)) }).to_string()
    }
}

/// The file of the position.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".position");
    name.into()
}

/// Whether something is there; a thing that is no file is not written to.
fn is_there(path: &Path) -> Result<bool, SinkError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(SinkError::Foreign { path: path.to_owned(), why: "it is no regular file".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(SinkError::Io { path: path.to_owned(), source }),
    }
}

/// Finds out how far the record is written, and takes a line off the end that was not written whole.
///
/// # Errors
/// [`SinkError`].
pub fn find(path: &Path) -> Result<Position, SinkError> {
    let failed = |source| SinkError::Io { path: path.to_owned(), source };
    let foreign = |why: String| SinkError::Foreign { path: path.to_owned(), why };
    let there = is_there(path)?;
    let position = beside(path);
    let noted = match files::read(&position, LONGEST) {
        Ok(text) => Position::read(&text).ok_or(SinkError::Position { path: position })?,
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if there && std::fs::metadata(path).map_err(failed)?.len() > 0 {
                return Err(foreign(format!("it is not empty, and there is no {}", position.display())));
            }
            // Before the first line: what is there without a position is not of this.
            let begin = Position::default();
            files::write_atomic(&position, begin.text().as_bytes(), MODE)?;
            begin
        }
        Err(error) => return Err(error.into()),
    };
    if !there {
        return Ok(Position { length: 0, ..noted });
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length <= noted.length {
        return Ok(Position { length, ..noted });
    }
    if length - noted.length > MOST {
        return Err(foreign(format!("it has {length} bytes, and the record was written up to {}", noted.length)));
    }
    let mut after = Vec::new();
    file.seek(SeekFrom::Start(noted.length)).map_err(failed)?;
    file.read_to_end(&mut after).map_err(failed)?;
    let mut found = noted;
    while let Some(line) = after.split_inclusive(|byte| *byte == b'\n').next().filter(|line| line.ends_with(b"\n")) {
        if sequence(line) != Some(found.next) {
            return Err(foreign(format!("event {} was to be at byte {}", found.next, found.length)));
        }
        found = Position { next: found.next.saturating_add(1), length: found.length + line.len() as u64, last: None };
        let rest = line.len();
        after.drain(..rest);
    }
    if !after.is_empty() {
        if !(after.starts_with(b"{\"") || after == b"{") {
            return Err(foreign(format!("what follows byte {} is not the beginning of an event", found.length)));
        }
        file.set_len(found.length).map_err(failed)?;
        file.sync_all().map_err(failed)?;
    }
    Ok(found)
}

fn sequence(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(line).ok()?.get("sequence")?.as_u64()
}

/// Appends lines of `events` events that come next after `at`, on disk when this returns; gives where it goes on. The leaf hash
/// of the last of them is `last`.
///
/// # Errors
/// [`SinkError`]; how far it came is found by [`find`].
pub fn append(path: &Path, at: Position, lines: &[u8], events: u64, last: Option<Hash>) -> Result<Position, SinkError> {
    let failed = |source| SinkError::Io { path: path.to_owned(), source };
    let is_new = !is_there(path)?;
    let mut file = OpenOptions::new().append(true).create(true).mode(MODE).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > at.length {
        let why = format!("somebody else writes to it: it has {length} bytes, and was left with {}", at.length);
        return Err(SinkError::Foreign { path: path.to_owned(), why });
    }
    file.write_all(lines).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    if is_new && let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    }
    let position = Position { next: at.next.saturating_add(events), length: length + lines.len() as u64, last };
    files::write_atomic(&beside(path), position.text().as_bytes(), MODE)?;
    Ok(position)
}
