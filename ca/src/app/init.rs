//! Makes the first authority of an installation, unless what is on disk says that there should be one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use signet_core::audit::Outcome;
use signet_core::certificate::{Facts, subject};
use signet_core::clock::{SharedClock, SystemClock};
use signet_core::digest::{hex, sha256};
use signet_core::pem::read_certificates;
use signet_core::rotation::Authorities;
use signet_core::seams::store::StoreError;
use signet_core::seams::upstream_authority::UpstreamAuthority as _;
use signet_plugins::authority::FilesAuthority;
use signet_plugins::custody::MemoryCustody;
use signet_runtime::files::{self, FileError};
use signet_runtime::metrics::Metrics;
use signet_runtime::output::error_chain;
use tokio_util::sync::CancellationToken;

use super::error::AppError;
use super::plugins::Plugins;
use super::{cert_manager, storage, vault};
use crate::audit_log::{AuditMetrics, audit_log};
use crate::config::{Backend, Config};
use crate::operations::{OperationError, Operations, Operator};

/// The largest file of roots.
const BUNDLE_FILE: u64 = 4 << 20;

/// There is no first authority to be made, or it could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// Storage or keys cannot be opened.
    #[error(transparent)]
    App(#[from] AppError),
    /// There is an authority, or it could not be made.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// It cannot be known whose roots `bundle_file` names.
    #[error(
        "bundle_file {}: {cause}; if it is not needed any more, remove it, and otherwise put it in order: its roots would \
         be replaced", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// `bundle_file` names roots of another authority.
    #[error(
        "bundle_file {} names roots that are not in this storage:\n{}\nEither `storage` is mistyped or its volume is not \
         mounted: then correct that, and their authority goes on. Or it is gone, and whoever trusts these roots has to \
         learn another one: then name each of them after --replacing", path.display(), roots.join("\n")
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its roots that were not named: subject and fingerprint.
        roots: Vec<String>,
    },
}

/// The SHA-256 of a certificate, as 64 hexadecimal digits.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(&sha256(certificate))
}

impl InitError {
    /// What it is called on record.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreadable { .. } | Self::Foreign { .. } | Self::Operation(OperationError::Refused(_)) => {
                Outcome::Refused
            }
            Self::App(_) | Self::Operation(_) => Outcome::Failed,
        }
    }
}

/// Makes the first authority on the storage of `config`. Roots in `bundle_file` must be its own, or be named in
/// `replacing` by their fingerprints. What comes of it is on record wherever there is a storage.
///
/// # Errors
/// [`InitError`]; there is no authority more than before then.
pub async fn init(
    config: &Config,
    operator: &Operator,
    replacing: &BTreeSet<String>,
) -> Result<Authorities, InitError> {
    // A storage that is not there is not made before it is known that this may be a new installation.
    let location = storage::location(&config.storage).map_err(AppError::from)?;
    if location.is_missing(storage::DEADLINE).await {
        replaced(config, replacing).await?;
    }
    let plugins = Plugins::open(config).await?;
    let made = init_on(&plugins, config, operator, replacing).await;
    plugins.store.close().await;
    made
}

async fn init_on(
    plugins: &Plugins,
    config: &Config,
    operator: &Operator,
    replacing: &BTreeSet<String>,
) -> Result<Authorities, InitError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let metrics = AuditMetrics::new(&Metrics::new()).map_err(AppError::from)?;
    let (audit, writer) = audit_log(Arc::clone(&plugins.store) as _, metrics);
    let executor = plugins.executor(config, audit, clock);
    let operations = Operations {
        executor,
        store: Arc::clone(&plugins.store) as _,
        leaves: Arc::clone(&plugins.store) as _,
        wake_up: Arc::default(),
    };
    let work = async {
        let attempt = async {
            operations.expect_no_authority().await?;
            let replaced = replaced(config, replacing).await?;
            Ok::<_, InitError>(operations.init(operator, &replaced).await?)
        };
        let made = attempt.await;
        if let Err(error) = &made {
            // The answer is this error, also when it cannot be recorded.
            drop(operations.init_not_done(operator, error.outcome(), &error_chain(error)).await);
        }
        // The writer ends when its last sender is gone.
        drop(operations);
        made
    };
    tokio::join!(work, writer.run(CancellationToken::new())).0
}

/// Whether storage has an authority; for `check`, which changes nothing.
///
/// # Errors
/// [`StoreError`].
pub async fn has_authority(config: &Config) -> Result<bool, StoreError> {
    let location = storage::location(&config.storage)?;
    if location.is_missing(storage::DEADLINE).await {
        return Ok(false);
    }
    storage::holds_authority(&*location.open_read_only(storage::DEADLINE).await?).await
}

/// The roots of a file that others read; none when it is absent or empty.
async fn published(path: &Path) -> Result<Vec<CertificateDer<'static>>, InitError> {
    let wrong = |cause: String| InitError::Unreadable { path: path.to_owned(), cause };
    let content = match files::in_time(path, |path| files::read(path, BUNDLE_FILE)).await {
        Ok(content) => content,
        Err(FileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error_chain(&error))),
    };
    let roots = read_certificates(&content).map_err(|error| wrong(error.to_string()))?;
    let read = |(line, root): (usize, CertificateDer<'static>)| match Facts::read(&root) {
        Ok(_) => Ok(root),
        Err(error) => Err(wrong(format!("the certificate that begins in line {line}: {error}"))),
    };
    roots.into_iter().map(read).collect()
}

/// The fingerprints of the roots in `bundle_file` that the new authority does not bring, all of which must be named.
async fn replaced(config: &Config, replacing: &BTreeSet<String>) -> Result<Vec<String>, InitError> {
    let Some(path) = &config.bundle_file else { return Ok(Vec::new()) };
    let published = published(path).await?;
    let own = match &config.authority.backend {
        Backend::Native => Vec::new(),
        Backend::Files(directory) => {
            let files = FilesAuthority::new(directory.clone(), Arc::new(MemoryCustody::new()), Arc::new(SystemClock));
            let offer = files.offer().await.map_err(|error| AppError::Authority(error.into()))?;
            offer.map(|offer| offer.roots).unwrap_or_default()
        }
        Backend::Vault(vault) => {
            let vault = vault::Opened::new(vault, &config.trust_domain, Arc::new(SystemClock));
            vault.roots().await.map_err(|error| AppError::Authority(error.into()))?
        }
        Backend::CertManager(section) => {
            let opened = cert_manager::Opened::new(section, &config.trust_domain);
            opened.roots().await.map_err(|error| AppError::Authority(error.into()))?
        }
    };
    let foreign = published.iter().filter(|root| own.iter().all(|one| one.certificate != **root));
    let foreign: Vec<_> = foreign.map(|root| (root, fingerprint(root))).collect();
    let unnamed = foreign.iter().filter(|(_, print)| !replacing.contains(print));
    let roots: Vec<String> = unnamed.map(|(root, print)| format!("  {}, SHA-256 {print}", subject(root))).collect();
    if !roots.is_empty() {
        return Err(InitError::Foreign { path: path.clone(), roots });
    }
    Ok(foreign.into_iter().map(|(_, print)| print).collect())
}
