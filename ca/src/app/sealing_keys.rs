//! The file of the sealing keys: reading it, also again while running, and putting a new key in front.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use signet_core::audit::Outcome;
use signet_core::rotation::Refused;
use signet_core::seams::store::{AuditStore, SealedKeys};
use signet_plugins::custody::{KeyEncryptionKey, Keyring, Rekeyed, SealedCustody, SealingKeySource, SealingKeys};
use signet_plugins::store::Store;
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use zeroize::Zeroizing;

use super::error::AppError;
use super::record::command_event;
use super::storage;
use crate::config::Config;

/// The largest key-encryption-key file.
const KEY_FILE: u64 = 1024;

struct KeyFile(PathBuf);

#[async_trait]
impl SealingKeySource for KeyFile {
    async fn read(&self) -> Result<SealingKeys, String> {
        keys(&self.0).await.map(|(keys, _)| keys).map_err(|error| error_chain(&error))
    }

    fn place(&self) -> String {
        self.0.display().to_string()
    }
}

/// The keys of the file, which is read again when others are needed.
pub(super) async fn keyring(path: &Path) -> Result<Keyring, AppError> {
    let (known, _) = keys(path).await?;
    Ok(Keyring::new(KeyFile(path.to_owned()), known))
}

async fn keys(path: &Path) -> Result<(SealingKeys, Zeroizing<Vec<u8>>), AppError> {
    let content = files::in_time(path, |path| files::read_private(path, KEY_FILE)).await;
    let content = content.map_err(AppError::KeyFile)?;
    match SealingKeys::from_file_bytes(&content) {
        Ok(keys) => Ok((keys, content)),
        Err(error) => Err(AppError::EncryptionKey { path: path.to_owned(), cause: error.to_string() }),
    }
}

/// How many keys in storage are sealed with one sealing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBy {
    /// How many.
    pub count: u64,
    /// The name of the sealing key; `None` when they do not say, as those of earlier versions.
    pub key: Option<String>,
    /// Whether it is in the key file, and whether it is the newest there.
    pub newest: Option<bool>,
}

impl fmt::Display for SealedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, key, newest } = self;
        let what = if *count == 1 { "private key is sealed" } else { "private keys are sealed" };
        match (key, newest) {
            (None, _) => {
                write!(f, "{count} {what} by an earlier version, which names no key: `signet-ca rekey` names it")
            }
            (Some(key), Some(true)) => write!(f, "{count} {what} with {key}, the newest of keys.encryption_key_file"),
            (Some(key), Some(false)) => {
                write!(f, "{count} {what} with {key}, a former key: `signet-ca rekey` goes on with that")
            }
            (Some(key), None) => write!(f, "{count} {what} with {key}, which is not in keys.encryption_key_file"),
        }
    }
}

/// With which sealing keys the keys in storage are sealed; nothing when that cannot be told.
pub async fn sealed_by(config: &Config) -> Vec<SealedBy> {
    let Ok((keys, _)) = keys(&config.encryption_key_file).await else { return Vec::new() };
    let Ok(location) = storage::location(&config.storage) else { return Vec::new() };
    let found = location.open_read_only(storage::DEADLINE).await;
    let Ok(store) = found else { return Vec::new() };
    let counts = signet_plugins::custody::sealed_by(&*store).await.unwrap_or_default();
    let told = counts.into_iter().map(|(id, count)| {
        let newest = id.and_then(|id| keys.find(id)).map(|key| key.id() == keys.newest().id());
        SealedBy { count, key: id.map(|id| id.to_string()), newest }
    });
    told.collect()
}

/// What is wrong with the key file, also in view of what storage holds; for `check`.
pub(super) async fn missing_keys(config: &Config) -> Vec<String> {
    if let Err(error) = keys(&config.encryption_key_file).await {
        return vec![error_chain(&error)];
    }
    let missing = sealed_by(config).await.into_iter().filter(|sealed| sealed.key.is_some() && sealed.newest.is_none());
    missing.map(|sealed| format!("{}: {sealed}", config.encryption_key_file.display())).collect()
}

/// Puts the key of `new` in front of the key file, if one is given, and seals every key in storage with the first key of
/// that file. Replicas that run on the storage notice by themselves. Cut off, it is begun again in the same way; the file is
/// left alone when there is no storage, or while somebody else does this.
///
/// # Errors
/// [`AppError`].
pub async fn rekey(config: &Config, new: Option<&Path>) -> Result<Rekeyed, AppError> {
    let file = &config.encryption_key_file;
    // Whatever refuses this comes before the key file is touched: a storage that is not there must not be made here, and
    // one that nobody has begun is not the one that was meant.
    let location = storage::location(&config.storage)?;
    let found = location.open_read_only(storage::DEADLINE).await?;
    if !storage::holds_authority(&*found).await? {
        return Err(AppError::Rekey(Refused::NoAuthority.to_string()));
    }
    drop(found);
    let store = location.open(storage::DEADLINE).await?;
    let rekeyed = rekey_in(&store, file, new).await;
    store.close().await;
    rekeyed
}

async fn rekey_in(store: &Arc<dyn Store>, file: &Path, new: Option<&Path>) -> Result<Rekeyed, AppError> {
    let _alone = match new {
        Some(new) => Some(take_new(file, new).await?),
        None => None,
    };
    let custody = SealedCustody::new(Arc::clone(store) as Arc<dyn SealedKeys>, Arc::new(keyring(file).await?));
    let rekeyed = custody.rekey().await.map_err(|error| AppError::Rekey(error.to_string()));
    let recorded = match &rekeyed {
        Ok(done) if done.resealed == 0 => Ok(()),
        Ok(done) => record(&**store, Outcome::Done, format!("{} keys sealed with {}", done.resealed, done.key)).await,
        Err(error) => record(&**store, Outcome::Failed, error.to_string()).await,
    };
    let rekeyed = rekeyed?;
    recorded.map(|()| rekeyed)
}

async fn record(store: &dyn AuditStore, outcome: Outcome, text: String) -> Result<(), AppError> {
    store.append(vec![command_event("rekey", outcome, &text)]).await?;
    Ok(())
}

/// Puts the key of `new` in front of those of `file`, unless it is there. Until the result is dropped nobody else does so:
/// of two that had read the same file, the later one would write away the key that the other one seals with.
async fn take_new(file: &Path, new: &Path) -> Result<File, AppError> {
    let named = |error| match error {
        AppError::KeyFile(error) => AppError::Rekey(error_chain(&error)),
        AppError::EncryptionKey { path, cause } => AppError::Rekey(format!("{}: {cause}", path.display())),
        other => other,
    };
    let (added, line) = keys(new).await.map_err(named)?;
    if added.all().count() > 1 {
        let text = format!("{} holds several keys, and one is wanted", new.display());
        return Err(AppError::Rekey(text));
    }
    let alone = lock(file).map_err(AppError::Rekey)?;
    let (known, content) = keys(file).await?;
    if added.newest().id() != known.newest().id() {
        put_in_front(file, &line, &content, added.newest())?;
    }
    Ok(alone)
}

/// Locks the directory of the key file: the file itself is replaced, and a lock with it.
fn lock(file: &Path) -> Result<File, String> {
    let failed = |error: std::io::Error| format!("{} cannot be locked: {error}", file.display());
    let real = std::fs::canonicalize(file).map_err(failed)?;
    let directory = File::open(real.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => {
            Err(format!("another `signet-ca rekey` is at work on {}; run this again when it has ended", file.display()))
        }
        Err(error) => Err(failed(error.into())),
    }
}

/// Every key of before stays, so that whoever needs one finds it.
fn put_in_front(file: &Path, line: &[u8], content: &[u8], new: &KeyEncryptionKey) -> Result<(), AppError> {
    let refused = |why: String| {
        AppError::Rekey(format!(
            "{why}; put the new key as first line in front of those of {} by another way (in the Secret that it comes \
             from), keep the others, and run this again",
            file.display()
        ))
    };
    // A link leads to where it is kept.
    let real = std::fs::canonicalize(file).map_err(|error| refused(format!("{}: {error}", file.display())))?;
    let metadata = std::fs::metadata(&real).map_err(|error| refused(format!("{}: {error}", real.display())))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        // Written by somebody else it would be somebody else's, and no CA could read it.
        return Err(refused(format!(
            "{} belongs to user {}, and only that one may change it",
            real.display(),
            metadata.uid()
        )));
    }
    let end = |bytes: &[u8]| !bytes.ends_with(b"\n");
    let mut all = Zeroizing::new(Vec::with_capacity(line.len() + content.len() + 2));
    all.extend_from_slice(line);
    all.extend(end(line).then_some(b'\n'));
    for known in content.split_inclusive(|byte| *byte == b'\n') {
        // When a former key is taken up again, once is enough.
        let again = KeyEncryptionKey::from_file_bytes(known).is_ok_and(|known| known.id() == new.id());
        if !again {
            all.extend_from_slice(known);
        }
    }
    if SealingKeys::from_file_bytes(&all).is_err() || all.len() as u64 > KEY_FILE {
        let text = format!("{} would hold too many keys: remove those that no backup needs any more", file.display());
        return Err(AppError::Rekey(text));
    }
    let written: Result<(), FileError> = files::write_atomic(&real, &all, metadata.permissions().mode() & 0o7777);
    written.map_err(|error| refused(error_chain(&error)))
}
