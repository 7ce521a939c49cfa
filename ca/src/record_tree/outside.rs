//! The checkpoint that is kept outside of the database, in a file: what a database that was set back, or another one in its
//! place, is found out by.

use std::io;
use std::path::{Path, PathBuf};

use signet_core::transparency::{Checkpoint, Note, VerifierKey};
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;

/// The longest checkpoint that is read.
const LONGEST: u64 = 64 * 1024;

/// Why the file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit.checkpoint_file: {0}")]
pub struct OutsideError(String);

/// The file.
#[derive(Debug, Clone)]
pub struct OutsideFile {
    path: PathBuf,
}

impl OutsideFile {
    /// The file at this path, which need not be there yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint in it, if there is one, signed with one of these keys.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn read(&self, keys: &[VerifierKey]) -> Result<Option<Checkpoint>, OutsideError> {
        match files::read_in_time(&self.path, LONGEST).await {
            Ok(content) => {
                let wrong = |why: String| OutsideError(format!("{}: {why}", self.path.display()));
                checkpoint(&content, keys).map(Some).map_err(wrong)
            }
            Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OutsideError(error_chain(&error))),
        }
    }

    /// Whether there is anything.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn is_there(&self) -> Result<bool, OutsideError> {
        match files::read_in_time(&self.path, LONGEST).await {
            Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(OutsideError(error_chain(&error))),
            Ok(_) => Ok(true),
        }
    }

    /// That one of these keys has signed this.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn check(note: &str, keys: &[VerifierKey]) -> Result<Checkpoint, String> {
        checkpoint(note.as_bytes(), keys)
    }

    /// Puts a signed checkpoint in its place, as a whole.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn write(&self, note: &str) -> Result<(), OutsideError> {
        let note = note.to_owned();
        let write = files::in_time(&self.path, move |path| files::write_atomic(path, note.as_bytes(), 0o644));
        write.await.map_err(|error| OutsideError(error_chain(&error)))
    }
}

/// The checkpoint in a signed note, if one of these keys has signed it.
pub(super) fn checkpoint(note: &[u8], keys: &[VerifierKey]) -> Result<Checkpoint, String> {
    let note = Note::parse(note).map_err(|error| error.to_string())?;
    note.verify(keys).map_err(|error| error.to_string())?;
    Checkpoint::parse(&note.text).map_err(|error| error.to_string())
}
