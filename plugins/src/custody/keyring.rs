//! The key-encryption keys of a process: the newest, which seals, and former ones, which still open. Where they are kept is
//! looked at again when something was sealed with one that is not known, so that keys change without a restart.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use super::sealing::{KeyEncryptionKey, KeyEncryptionKeyError, SealingKeyId};

/// The most keys of a file. More than two are there only while old backups are kept.
const MAX_KEYS: usize = 16;

/// The content of a key file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealingKeysError {
    /// A line is no key.
    #[error("line {line}: {error}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        error: KeyEncryptionKeyError,
    },
    /// More lines than make sense.
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
}

/// Key-encryption keys, the newest first; at least one.
#[derive(Debug, Clone)]
pub struct SealingKeys {
    newest: Arc<KeyEncryptionKey>,
    former: Vec<Arc<KeyEncryptionKey>>,
}

impl SealingKeys {
    /// Takes the content of a key file: one key per line as [`KeyEncryptionKey::from_file_bytes`] takes it, the newest
    /// first.
    ///
    /// # Errors
    /// [`SealingKeysError`].
    pub fn from_file_bytes(content: &[u8]) -> Result<Self, SealingKeysError> {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let mut former = Vec::new();
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            if index >= MAX_KEYS {
                return Err(SealingKeysError::TooMany);
            }
            let key = KeyEncryptionKey::from_file_bytes(line.strip_suffix(b"\r").unwrap_or(line));
            former.push(Arc::new(key.map_err(|error| SealingKeysError::Line { line: index + 1, error })?));
        }
        let newest = former.remove(0);
        Ok(Self { newest, former })
    }

    /// The key that seals.
    #[must_use]
    pub fn newest(&self) -> &Arc<KeyEncryptionKey> {
        &self.newest
    }

    /// Every key, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<KeyEncryptionKey>> {
        std::iter::once(&self.newest).chain(&self.former)
    }

    /// The key of this name.
    #[must_use]
    pub fn find(&self, id: SealingKeyId) -> Option<&Arc<KeyEncryptionKey>> {
        self.all().find(|key| key.id() == id)
    }
}

/// Where key-encryption keys are kept.
#[async_trait]
pub trait SealingKeySource: Send + Sync + 'static {
    /// The keys as they are kept now; answers or fails within seconds.
    ///
    /// # Errors
    /// A text without any key material.
    async fn read(&self) -> Result<SealingKeys, String>;

    /// The place, for people.
    fn place(&self) -> String;
}

/// The keys as they are known, and where to look for others.
pub struct Keyring {
    source: Box<dyn SealingKeySource>,
    known: RwLock<Arc<SealingKeys>>,
}

impl Keyring {
    /// Keys that were read from `source` just now.
    #[must_use]
    pub fn new(source: impl SealingKeySource, known: SealingKeys) -> Self {
        Self { source: Box::new(source), known: RwLock::new(Arc::new(known)) }
    }

    /// The keys as they are known.
    #[must_use]
    pub fn known(&self) -> Arc<SealingKeys> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys as they are kept now; what is known goes on when that cannot be found out.
    pub async fn current(&self) -> Arc<SealingKeys> {
        match self.source.read().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keys);
                keys
            }
            Err(error) => {
                tracing::warn!(error, "the key-encryption keys cannot be read anew; those that are known are used");
                self.known()
            }
        }
    }

    /// The key of this name, looked for anew if it is not known.
    pub async fn find(&self, id: SealingKeyId) -> Option<Arc<KeyEncryptionKey>> {
        if let Some(key) = self.known().find(id) {
            return Some(Arc::clone(key));
        }
        self.current().await.find(id).cloned()
    }

    /// Where keys are looked for, and which are there, for people.
    #[must_use]
    pub fn place(&self) -> String {
        let known = self.known();
        let ids: Vec<String> = known.all().map(|key| key.id().to_string()).collect();
        format!("{} (which holds {})", self.source.place(), ids.join(", "))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.known()).finish()
    }
}

/// A source for tests, whose content is changed at will.
#[cfg(test)]
#[derive(Clone, Default)]
pub(super) struct TestSource(pub(super) Arc<std::sync::Mutex<String>>);

#[cfg(test)]
#[async_trait]
impl SealingKeySource for TestSource {
    async fn read(&self) -> Result<SealingKeys, String> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SealingKeys::from_file_bytes(text.as_bytes()).map_err(|error| error.to_string())
    }
    fn place(&self) -> String {
        "/the/key/file".to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn line(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    #[test]
    fn a_file_of_several_keys_has_the_newest_first_and_says_which_line_is_wrong() {
        for (content, keys) in [
            (line(1), 1),
            (format!("{}\n", line(1)), 1),
            (format!("{}\n{}", line(2), line(1)), 2),
            (format!("{}\r\n{}\r\n{}\n", line(3), line(2), line(1)), 3),
            (vec![line(1); MAX_KEYS].join("\n"), MAX_KEYS),
        ] {
            let read = SealingKeys::from_file_bytes(content.as_bytes()).unwrap();
            assert_eq!(read.all().count(), keys);
            let first = KeyEncryptionKey::from_file_bytes(content.lines().next().unwrap().as_bytes()).unwrap();
            assert_eq!(read.newest().id(), first.id());
        }
        for (content, expected) in [
            (String::new(), "line 1: "),
            (format!("{}\n\n", line(1)), "line 2: "),
            (format!("{}\n\n{}", line(1), line(2)), "line 2: "),
            (format!("{}\n{}x", line(1), line(2)), "line 2: "),
            (format!("\n{}", line(1)), "line 1: "),
            (vec![line(1); MAX_KEYS + 1].join("\n"), "more than 16 keys"),
        ] {
            let error = SealingKeys::from_file_bytes(content.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains(&line(1)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_known_is_looked_for_anew_and_a_broken_file_takes_nothing_away() {
        let source = TestSource::default();
        let set = |text: String| *source.0.lock().unwrap() = text;
        set(line(1));
        let ring = Keyring::new(source.clone(), source.read().await.unwrap());
        let id = |byte| KeyEncryptionKey::from_file_bytes(line(byte).as_bytes()).unwrap().id();
        assert!(ring.find(id(2)).await.is_none());
        set("broken".to_owned());
        assert!(ring.find(id(2)).await.is_none() && ring.find(id(1)).await.is_some());
        set(format!("{}\n{}", line(2), line(1)));
        assert_eq!(ring.known().newest().id(), id(1), "nobody has looked");
        assert!(ring.find(id(2)).await.is_some());
        assert_eq!(ring.known().newest().id(), id(2));
        assert_eq!(ring.place(), format!("/the/key/file (which holds {}, {})", id(2), id(1)));
    }
}
