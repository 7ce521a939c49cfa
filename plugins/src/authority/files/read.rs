//! Reads the operator's CA files as one set: never some files of one set and some of another. What they say is not
//! looked at here.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use signet_core::secret::Secret;

use super::error::FilesError;

/// Which names the files have, as Istio knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A Kubernetes secret of type `kubernetes.io/tls`, as cert-manager writes it.
    Tls,
    /// Istio's own.
    Istio,
}

impl Form {
    /// The files without which there is no set.
    pub(super) fn required(self) -> &'static [&'static str] {
        match self {
            Self::Tls => &["tls.crt", "tls.key", "ca.crt"],
            Self::Istio => &["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"],
        }
    }

    /// The certificate that signs leaves, first in the file.
    pub(super) fn signer(self) -> &'static str {
        match self {
            Self::Tls => "tls.crt",
            Self::Istio => "ca-cert.pem",
        }
    }

    /// The signer's private key.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Tls => "tls.key",
            Self::Istio => "ca-key.pem",
        }
    }

    /// What peers trust.
    pub(super) fn roots(self) -> &'static str {
        match self {
            Self::Tls => "ca.crt",
            Self::Istio => "root-cert.pem",
        }
    }

    /// What lies between signer and roots; with the first form that is the rest of the signer's file.
    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::Tls => "tls.crt",
            Self::Istio => "cert-chain.pem",
        }
    }
}

/// The optional revocation lists.
pub(super) const LISTS: &str = "ca-crl.pem";

/// All names that are looked at.
pub(super) const NAMES: [&str; 8] =
    ["tls.crt", "tls.key", "ca.crt", "ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem", LISTS];

/// The link that Kubernetes swaps when the content of a volume changes.
const SWAPPED: &str = "..data";

/// How often to start again when the files change under the reader.
const TRIES: usize = 5;

/// The largest key or certificate file; a Kubernetes secret has at most 1 MiB in all.
pub(super) const MAX_FILE: u64 = 256 * 1024;
pub(super) const MAX_LISTS_FILE: u64 = 8 * 1024 * 1024;

/// The optional file of revocation lists. Whatever is wrong with it is told, not obeyed: it must never block keys.
#[derive(Debug)]
pub(super) enum ListsFile {
    Absent,
    Content(Vec<u8>),
    Unusable(String),
}

/// The content of one set of files.
#[derive(Debug)]
pub(super) struct FileSet {
    pub(super) form: Form,
    pub(super) signer: Vec<u8>,
    pub(super) key: Secret,
    pub(super) roots: Vec<u8>,
    /// Empty when the chain is the rest of the signer's file.
    pub(super) chain: Vec<u8>,
    pub(super) lists: ListsFile,
    /// Whether others than the owner may read the key.
    pub(super) key_open: bool,
    /// SHA-256 over all of the above.
    pub(super) digest: [u8; 32],
}

/// Reads the set in `directory`.
///
/// A mounted Kubernetes volume is swapped as a whole by one link, which is followed once. In any directory, what was read
/// counts only if no file was replaced or rewritten meanwhile; otherwise reading starts again, a few times.
pub(super) fn read(directory: &Path) -> Result<FileSet, FilesError> {
    read_observed(directory, &mut |_| {})
}

/// As [`read`]; `after` is told each file that has been read, so that a test can change them in between.
pub(super) fn read_observed(directory: &Path, after: &mut dyn FnMut(&str)) -> Result<FileSet, FilesError> {
    for _ in 0..TRIES {
        let before = Stamp::take(directory)?;
        let result = read_once(directory, &before, after);
        // A failure too may come from looking in the middle of a change.
        if Stamp::take(directory)? == before {
            return result;
        }
    }
    Err(FilesError::Changing(directory.display().to_string()))
}

/// Stands for a file of lists that is none.
const UNREADABLE: FileStamp = (0, 0, 0, 0, 0);

/// Which file it is, when it was changed (seconds and nanoseconds), its size, and its mode.
type FileStamp = (u64, i64, i64, u64, u32);

/// What tells whether files were replaced or rewritten.
#[derive(PartialEq, Eq)]
struct Stamp {
    /// The directory with all links resolved.
    place: PathBuf,
    /// For each of [`NAMES`], if it exists.
    files: Vec<Option<FileStamp>>,
}

impl Stamp {
    fn take(directory: &Path) -> Result<Self, FilesError> {
        let place = match directory.join(SWAPPED).canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound => directory.canonicalize(),
            place => place,
        };
        let place = match place {
            Ok(place) => place,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(FilesError::None(directory.display().to_string()));
            }
            Err(error) => return Err(unreadable(directory, &error)),
        };
        let files = NAMES.iter().map(|name| {
            let path = place.join(name);
            match path.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Ok(file) if file.is_file() => {
                    Ok(Some((file.ino(), file.ctime(), file.ctime_nsec(), file.len(), file.mode())))
                }
                // A pipe or a device would make the reader wait for ever.
                Ok(_) | Err(_) if *name == LISTS => Ok(Some(UNREADABLE)),
                Ok(_) => Err(FilesError::Read { file: show(&path), cause: "it is not a file".to_owned() }),
                Err(error) => Err(unreadable(&path, &error)),
            }
        });
        Ok(Self { files: files.collect::<Result<_, _>>()?, place })
    }

    fn file(&self, name: &str) -> Option<FileStamp> {
        NAMES.iter().zip(&self.files).find(|(known, _)| **known == name).and_then(|(_, file)| *file)
    }

    /// Whether there is a signer with its key in this form.
    fn has_ca(&self, form: Form) -> bool {
        self.file(form.signer()).is_some() && self.file(form.key()).is_some()
    }

    /// The form that is there.
    fn form(&self, directory: &Path) -> Result<Form, FilesError> {
        let count = |form: Form| form.required().iter().filter(|name| self.file(name).is_some()).count();
        let complete = |form: Form| count(form) == form.required().len();
        // Istio looks for the signer of the first form, and only then for the second form.
        let form = if self.file(Form::Tls.signer()).is_some() {
            Form::Tls
        } else if count(Form::Istio) > 0 {
            Form::Istio
        } else if count(Form::Tls) > 0 {
            Form::Tls
        } else {
            return Err(FilesError::None(directory.display().to_string()));
        };
        if complete(form) {
            return Ok(form);
        }
        let list = |there: bool| {
            let names = form.required().iter().filter(|name| self.file(name).is_some() == there);
            let names: Vec<&str> = names.copied().collect();
            let verb = if names.len() == 1 { "is" } else { "are" };
            format!("{} {verb}", names.join(", "))
        };
        Err(FilesError::Partial {
            directory: directory.display().to_string(),
            present: list(true),
            missing: list(false),
        })
    }
}

fn read_once(directory: &Path, stamp: &Stamp, after: &mut dyn FnMut(&str)) -> Result<FileSet, FilesError> {
    let form = stamp.form(directory)?;
    let mut content = |name: &str| {
        let read = read_file(&stamp.place.join(name), MAX_FILE);
        after(name);
        read
    };
    let signer = content(form.signer())?;
    let key = Secret::new(content(form.key())?);
    let roots = content(form.roots())?;
    let chain = if form.chain() == form.signer() { Vec::new() } else { content(form.chain())? };
    if form == Form::Tls && stamp.has_ca(Form::Istio) && !is_same_set(stamp, &signer, key.expose(), &roots)? {
        let names = |form: Form| form.required().join(", ");
        let (tls, istio) = (names(Form::Tls), names(Form::Istio));
        return Err(FilesError::TwoSets { directory: directory.display().to_string(), tls, istio });
    }
    let lists = match stamp.file(LISTS) {
        None => ListsFile::Absent,
        Some(UNREADABLE) => ListsFile::Unusable("it is not a readable file".to_owned()),
        Some(_) => match read_file(&stamp.place.join(LISTS), MAX_LISTS_FILE) {
            Ok(content) => ListsFile::Content(content),
            Err(error) => ListsFile::Unusable(error.to_string()),
        },
    };
    after(LISTS);
    let key_open = stamp.file(form.key()).is_some_and(|(.., mode)| mode & 0o077 != 0);
    let digest = digest(form, &[&signer, key.expose(), &roots, &chain], &lists);
    Ok(FileSet { form, signer, key, roots, chain, lists, key_open, digest })
}

/// Whether the files with Istio's names say the same, byte for byte, as those of a TLS secret, of which these are the
/// contents: in that one, the chain follows the signer in the same file.
fn is_same_set(stamp: &Stamp, signer: &[u8], key: &[u8], roots: &[u8]) -> Result<bool, FilesError> {
    if Form::Istio.required().iter().any(|name| stamp.file(name).is_none()) {
        return Ok(false);
    }
    let content = |name: &str| read_file(&stamp.place.join(name), MAX_FILE);
    let other_key = Secret::new(content(Form::Istio.key())?);
    let (first, chain) = (content(Form::Istio.signer())?, content(Form::Istio.chain())?);
    let alone = signer == first && (chain.is_empty() || chain == first);
    let whole = signer == chain && chain.starts_with(&first) || signer == [first, chain].concat();
    Ok(key == other_key.expose() && roots == content(Form::Istio.roots())? && (alone || whole))
}

/// Stands for the contents of a set.
pub(super) fn digest(form: Form, contents: &[&[u8]], lists: &ListsFile) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let lists = match lists {
        ListsFile::Absent => (0, &[][..]),
        ListsFile::Content(content) => (1, content.as_slice()),
        ListsFile::Unusable(why) => (2, why.as_bytes()),
    };
    context.update(&[u8::from(form == Form::Tls), lists.0]);
    for content in contents.iter().chain([&lists.1]) {
        context.update(&content.len().to_be_bytes());
        context.update(content);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, FilesError> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    // Without NONBLOCK, opening a pipe that has just taken the place of the file waits for its writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FilesError::Read { file: show(path), cause: "it is not a file".to_owned() });
    }
    let expected = metadata.len().min(limit);
    // Sized beforehand: growing would leave a copy of the key behind that nobody wipes.
    let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 2);
    file.take(limit + 1).read_to_end(&mut content).map_err(failed)?;
    if u64::try_from(content.len()).is_ok_and(|length| length <= limit) {
        Ok(content)
    } else {
        Err(FilesError::TooLarge { file: show(path), limit })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> FilesError {
    FilesError::Read { file: show(path), cause: error.to_string() }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
