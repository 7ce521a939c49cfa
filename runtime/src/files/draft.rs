//! A large new file that appears under its name only when it is whole, and never in the place of another one.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use tempfile::{TempDir, TempPath};

use super::{FileError, directory};

/// How often it is tried to remove what is left of a draft: somebody may add a file at that very moment.
const REMOVALS: usize = 10;

/// A file that is being written elsewhere (mode 0600). Dropped, it is gone, with all that was made beside it.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    /// In `room`; before it in order, so that it goes first.
    temporary: TempPath,
    room: Room,
}

/// A directory for the draft alone: a program that writes it may make files beside it, and may do so for a while after
/// it was told to stop.
#[derive(Debug)]
struct Room(TempDir);

impl Drop for Room {
    fn drop(&mut self) {
        for _ in 0..REMOVALS {
            match fs::remove_dir_all(self.0.path()) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                // Gone; or it never goes, and nothing depends on it.
                _ => return,
            }
        }
    }
}

impl Draft {
    /// An empty file that becomes `path` when it is [published](Self::publish).
    ///
    /// # Errors
    /// [`FileError::Exists`] when something has that name already; [`FileError::Write`].
    pub fn begin(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Write { path: path.to_owned(), source };
        if path.symlink_metadata().is_ok() {
            return Err(FileError::Exists { path: path.to_owned() });
        }
        if path.file_name().is_none() {
            return Err(failed(io::Error::new(ErrorKind::InvalidInput, "this names no file")));
        }
        // On the same file system, so that it can be renamed; open to the owner only (mode 0700).
        let room = tempfile::Builder::new().prefix(".signet-").suffix(".tmp").tempdir_in(directory(path));
        let room = Room(room.map_err(failed)?);
        let temporary = tempfile::NamedTempFile::new_in(room.0.path()).map_err(failed)?.into_temp_path();
        Ok(Self { path: path.to_owned(), temporary, room })
    }

    /// Where it is written meanwhile.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Makes the content durable and gives the file its name, unless something else has got that name meanwhile.
    ///
    /// # Errors
    /// [`FileError::Exists`] and [`FileError::Write`]; nothing is left of the file then.
    pub fn publish(self) -> Result<(), FileError> {
        let Self { path, temporary, room } = self;
        let failed = |source| FileError::Write { path: path.clone(), source };
        File::open(&temporary).and_then(|file| file.sync_all()).map_err(failed)?;
        if let Err(error) = temporary.persist_noclobber(&path) {
            let exists = error.error.kind() == ErrorKind::AlreadyExists;
            return Err(if exists { FileError::Exists { path } } else { failed(error.error) });
        }
        drop(room);
        // The name must be as durable as the content.
        File::open(directory(&path)).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_draft_becomes_a_private_file_of_its_name_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let draft = Draft::begin(&path).unwrap();
        fs::write(draft.temporary(), "content").unwrap();
        assert!(!path.exists());
        draft.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_ever_replaced_also_not_what_came_after_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let (one, other) = (Draft::begin(&path).unwrap(), Draft::begin(&path).unwrap());
        fs::write(one.temporary(), "one").unwrap();
        one.publish().unwrap();
        assert!(matches!(other.publish(), Err(FileError::Exists { .. })));
        assert!(matches!(Draft::begin(&path), Err(FileError::Exists { .. })));
        // A link to nowhere has the name too.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(matches!(Draft::begin(&link), Err(FileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing_and_a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let draft = Draft::begin(&dir.path().join("f")).unwrap();
        // What the program that writes it has made beside it.
        fs::write(draft.temporary().with_extension("journal"), "half").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = Draft::begin(&dir.path().join("none/f")).unwrap_err();
        assert!(error.to_string().contains("none/f"), "{error}");
        assert!(matches!(Draft::begin(Path::new("/")), Err(FileError::Exists { .. })));
    }
}
