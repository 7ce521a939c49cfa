//! The few careful ways to touch files: bounded reads, private files, atomic writes, noticing new content, and waiting
//! for a file system that may hang ([`in_time()`], [`read_in_time`]).

mod draft;
mod in_time;
mod place;

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, Permissions},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use zeroize::Zeroizing;

pub use self::draft::Draft;
pub use self::in_time::{DEADLINE, Hanging, hanging, in_time, read_in_time};
pub use self::place::{Directories, no_place};

/// Why a file could not be read or written. The path is part of every message.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Opening or reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Writing failed; the old content, if any, is still in place.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory, a device, a pipe or a socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Something has that name already, and stays.
    #[error("{} exists already, and nothing is ever overwritten; choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// More bytes than accepted.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are accepted.
        limit: u64,
    },
    /// The file system does not answer.
    #[error("{} does not answer for {} s now; is its file system there?", path.display(), hanging.as_secs())]
    Hangs {
        /// The file.
        path: PathBuf,
        /// Since when.
        hanging: Duration,
    },
    /// The program ends, or the code that touched the file has panicked.
    #[error("what was done with {} has come to no end", path.display())]
    Abandoned {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may open it.
    #[error("{} may be opened by others than its owner (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// Whether it stays so until somebody mends the file, rather than goes by when it is written.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::NotAFile { .. } | Self::TooLarge { .. } | Self::NotPrivate { .. } => true,
            Self::Exists { .. } | Self::Hangs { .. } | Self::Abandoned { .. } => false,
        }
    }
}

/// Who may not read a file, and whose it is: the system only says that it is forbidden.
fn denied(path: &Path, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let whose = match std::fs::metadata(path) {
        Ok(found) => format!(
            "it belongs to uid {} and gid {}, mode {:04o}",
            found.uid(),
            found.gid(),
            found.permissions().mode() & 0o7777
        ),
        Err(_) => "a directory above it is closed".to_owned(),
    };
    io::Error::new(error.kind(), format!("uid {} may not; {whose}", rustix::process::geteuid().as_raw()))
}

/// Reads a regular file, or a symlink to one, of at most `limit` bytes.
///
/// # Errors
/// [`FileError`]; a pipe or device is refused rather than waited for.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, size) = open(path)?;
    read_open(file, size, path, limit)
}

/// Reads a secret: as [`read`], the file must also pass [`check_private_mode`], and the content is wiped when dropped.
///
/// # Errors
/// [`FileError`], [`FileError::NotPrivate`] before anything is read.
pub fn read_private(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let (file, size) = open(path)?;
    check_mode(&file, path)?;
    read_open(file, size, path, limit).map(Zeroizing::new)
}

/// Checks that `path` is a regular file, or a symlink to one, with no permission for group or others; one of root's that is read by
/// somebody else may be readable by a group.
///
/// Who owns it, and the directories above it, are not checked.
///
/// # Errors
/// [`FileError::NotPrivate`] says which command repairs it.
pub fn check_private_mode(path: &Path) -> Result<(), FileError> {
    let (file, _) = open(path)?;
    check_mode(&file, path)
}

/// Writes a file so that every reader sees the old content or the new one, also after a crash: a temporary file in
/// the same directory, synced, renamed over `path`, then the directory synced. `mode` is set exactly, whatever the
/// umask. A symlink at `path` is replaced, not followed.
///
/// # Errors
/// [`FileError::Write`]; `path` is then unchanged.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let directory = directory(path);
    let write = || -> io::Result<()> {
        // Made with mode 0600 by the library and removed again when anything below fails.
        let mut temporary = tempfile::Builder::new().prefix(".signet-").suffix(".tmp").tempfile_in(directory)?;
        temporary.write_all(content)?;
        temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(failed)
}

/// The directory of a file, also of one that is named without any.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Notices new content of files that are polled at the caller's pace.
///
/// Content is compared, not names or times: Kubernetes swaps a symlink above the file, and a rewrite with the same
/// content is no change. Only a keyed hash is kept, so watching a secret does not keep it in memory.
#[derive(Debug)]
pub struct ContentWatch {
    limit: u64,
    hasher: RandomState,
    seen: HashMap<PathBuf, u64>,
}

impl ContentWatch {
    /// A watch over files of at most `limit` bytes each.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, hasher: RandomState::new(), seen: HashMap::new() }
    }

    /// The content of `path`, if it is other than at the last call for this path; always at the first call.
    ///
    /// # Errors
    /// As [`read_in_time`]. What was seen before is kept, so a file that is briefly gone and comes back is no change.
    pub async fn changed(&mut self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        let content = read_in_time(path, self.limit).await?;
        let hash = self.hasher.hash_one(&content);
        if self.seen.get(path) == Some(&hash) {
            return Ok(None);
        }
        self.seen.insert(path.to_owned(), hash);
        Ok(Some(content))
    }

    /// Forgets `path`, so that its content counts as new: for a caller that could not use it.
    pub fn forget(&mut self, path: &Path) {
        self.seen.remove(path);
    }
}

fn open(path: &Path) -> Result<(File, u64), FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    // Without NONBLOCK, opening a pipe waits for its writer. It has no effect on regular files.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| failed(denied(path, error)))?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(FileError::NotAFile { path: path.to_owned() }) }
}

fn check_mode(file: &File, path: &Path) -> Result<(), FileError> {
    let metadata = file.metadata().map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    let is_ours = metadata.uid() != 0 || rustix::process::geteuid().is_root();
    if is_private(mode, is_ours) { Ok(()) } else { Err(FileError::NotPrivate { path: path.to_owned(), mode }) }
}

/// Whether a secret with this mode is for its reader alone. One that root has put there for a process that is not root (`is_ours`
/// is false) has to be readable by a group, as kubelet makes it in the volume of a Secret for the pod's `fsGroup`.
fn is_private(mode: u32, is_ours: bool) -> bool {
    let group_may = if is_ours { 0 } else { 0o040 };
    mode & 0o077 & !group_may == 0
}

fn read_open(file: File, size: u64, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    // One allocation: growing would leave copies of a secret behind.
    let capacity = usize::try_from(size.min(limit).saturating_add(1)).unwrap_or(0);
    let mut content = Vec::with_capacity(capacity);
    let mut bounded = file.take(limit.saturating_add(1));
    bounded.read_to_end(&mut content).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn reading_is_bounded_and_wants_a_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(matches!(read(&path, 4), Err(FileError::TooLarge { limit: 4, .. })));
        assert!(matches!(read(dir.path(), 5), Err(FileError::NotAFile { .. })));
        assert!(matches!(read(Path::new("/dev/zero"), 5), Err(FileError::NotAFile { .. })));
        assert!(matches!(read(&dir.path().join("none"), 5), Err(FileError::Read { .. })));
        // A size the file system does not know beforehand.
        assert!(!read(Path::new("/proc/self/status"), 1 << 16).unwrap().is_empty());
    }

    #[test]
    fn whoever_may_not_read_is_told_whose_file_it_is_and_that_waiting_is_vain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = |kind: io::ErrorKind| denied(&path, kind.into());
        let text = error(io::ErrorKind::PermissionDenied).to_string();
        assert!(text.contains("it belongs to uid") && text.contains("mode 0600"), "{text}");
        for (kind, lasting) in [(io::ErrorKind::PermissionDenied, true), (io::ErrorKind::NotFound, false)] {
            let read = FileError::Read { path: path.clone(), source: error(kind) };
            assert_eq!(read.is_lasting(), lasting, "{kind:?}");
        }
        assert!(read(dir.path(), 5).unwrap_err().is_lasting());
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(matches!(read(&path, 5), Err(FileError::NotAFile { .. })));
    }

    #[test]
    fn a_secret_must_be_closed_to_group_and_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, b"k").unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        for (mode, private) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o601, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            for name in [&path, &link] {
                assert_eq!(check_private_mode(name).is_ok(), private, "{mode:o}");
                assert_eq!(read_private(name, 10).is_ok(), private, "{mode:o}");
            }
        }
        let message = check_private_mode(&path).unwrap_err().to_string();
        assert!(message.ends_with(&format!("(mode 0601); run: chmod 600 {}", path.display())), "{message}");
    }

    #[test]
    fn a_secret_that_root_has_put_there_for_another_user_may_be_readable_by_a_group() {
        for (mode, is_ours, private) in [
            (0o440, false, true),
            (0o640, false, true),
            (0o440, true, false),
            (0o460, false, false),
            (0o444, false, false),
            (0o450, false, false),
            (0o404, false, false),
        ] {
            assert_eq!(is_private(mode, is_ours), private, "{mode:o} {is_ours}");
        }
    }

    #[test]
    fn an_atomic_write_replaces_content_and_mode_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (content, mode) in [(b"one".as_slice(), 0o600), (b"two", 0o644), (b"", 0o660)] {
            write_atomic(&path, content, mode).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let missing = dir.path().join("no/such/f");
        assert!(matches!(write_atomic(&missing, b"x", 0o600), Err(FileError::Write { .. })));
        // Failing at the rename: a directory is in the way.
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(write_atomic(&dir.path().join("d"), b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the temporary file is removed");
    }

    #[test]
    fn a_reader_of_the_old_file_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"old", 0o600).unwrap();
        let mut open = File::open(&path).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        let mut content = String::new();
        open.read_to_string(&mut content).unwrap();
        assert_eq!(content, "old");
    }

    #[tokio::test]
    async fn content_changes_are_seen_through_symlink_swaps_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (folder, content) in [("v1", "a"), ("v2", "b"), ("v3", "b")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("token"), content).unwrap();
        }
        let swap = |folder: &str| {
            symlink(folder, at("next")).unwrap();
            fs::rename(at("next"), at("data")).unwrap();
        };
        let path = at("data").join("token");
        let mut watch = ContentWatch::new(100);
        assert!(watch.changed(&path).await.is_err());
        swap("v1");
        assert_eq!(watch.changed(&path).await.unwrap(), Some(b"a".to_vec()));
        assert_eq!(watch.changed(&path).await.unwrap(), None);
        swap("v2");
        assert_eq!(watch.changed(&path).await.unwrap(), Some(b"b".to_vec()));
        swap("v3");
        assert_eq!(watch.changed(&path).await.unwrap(), None, "same content");
        fs::remove_file(at("data")).unwrap();
        assert!(watch.changed(&path).await.is_err());
        swap("v2");
        assert_eq!(watch.changed(&path).await.unwrap(), None, "back with what was seen");
        watch.forget(&path);
        assert_eq!(watch.changed(&path).await.unwrap(), Some(b"b".to_vec()));
    }
}
