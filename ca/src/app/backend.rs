//! Storage, keys and authorities as configured.

use std::path::PathBuf;
use std::sync::Arc;

use signet_core::authority::IssuingCa;
use signet_core::clock::{SharedClock, SystemClock};
use signet_core::seams::authority::{CertificateAuthority, SignError, UpstreamAuthority};
use signet_core::seams::custody::{KeyCustody, SigningKey};
use signet_core::seams::proof::SequenceProofs;
use signet_core::seams::store::StoreError;
use signet_plugins::authority::{FilesAuthority, NativeAuthority, SelfSignedRoot, sign_list};
use signet_plugins::custody::{BundleProofs, MemoryCustody, SealedCustody};
use signet_plugins::store::Store;
use signet_runtime::files::FileError;
use signet_runtime::metrics::MetricError;
use tokio::sync::Notify;

use super::sealing_keys::{keyring, missing_keys};
use super::storage;
use super::tokens::{self, TokensError};
use crate::audit_log::AuditLog;
use crate::config::{Backend as ConfiguredBackend, Config};
use crate::health::CaFiles;
use crate::metrics::CaMetrics;
use crate::rotator::{Executor, Provisioner, Rotator, StepError};
use crate::state::StateWriter;

/// What is configured cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Storage cannot be opened.
    #[error("storage: {0}")]
    Store(#[from] StoreError),
    /// The file of the key-encryption key cannot be used.
    #[error("keys.encryption_key_file")]
    KeyFile(#[source] FileError),
    /// The content of that file is not a key.
    #[error("keys.encryption_key_file: {path}: {cause}")]
    EncryptionKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        cause: String,
    },
    /// A copy of the storage cannot be written.
    #[error("backup to {}", path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<FileError>,
    },
    /// A copy of the storage is not made.
    #[error("backup to {}: {cause}", path.display())]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// Why: its name, what there is to copy, or what reading or writing it came to.
        cause: String,
    },
    /// The storage is a database of a server, which has ways of its own.
    #[error(
        "{0} is a database of a PostgreSQL server, which is copied by the server's own means: pg_dump, or a base backup \
         with its WAL archive; what restoring one means is in docs/backup.md"
    )]
    ServersBackup(String),
    /// A signal came before the end.
    #[error("interrupted; nothing was left behind")]
    Interrupted,
    /// The storage is not moved.
    #[error("migrate: {0}")]
    Migrate(String),
    /// Another sealing key cannot be taken.
    #[error("rekey: {0}")]
    Rekey(String),
    /// A cluster's keys cannot be loaded.
    #[error("clusters[].tokens.file")]
    Tokens(#[from] TokensError),
    /// The first authority could not be made.
    #[error("authority: {0}")]
    Authority(#[from] StepError),
    /// A metric is registered twice, which is a bug.
    #[error(transparent)]
    Metric(#[from] MetricError),
}

/// Opened storage and custody, and the upstream authority over them.
pub(super) struct Backend {
    pub(super) store: Arc<dyn Store>,
    pub(super) custody: Arc<dyn KeyCustody>,
    pub(super) upstream: Arc<dyn UpstreamAuthority>,
    pub(super) proofs: Arc<dyn SequenceProofs>,
    /// The operator's own CA, when it is the backend.
    pub(super) files: Option<Arc<FilesAuthority>>,
}

impl Backend {
    pub(super) async fn open(config: &Config) -> Result<Self, BackendError> {
        let keys = Arc::new(keyring(&config.encryption_key_file).await?);
        let store = storage::location(&config.storage).open(storage::DEADLINE).await?;
        let proofs = Arc::new(BundleProofs::new(config.trust_domain.as_str(), Arc::clone(&keys)));
        let custody: Arc<dyn KeyCustody> = Arc::new(SealedCustody::new(Arc::clone(&store) as _, keys));
        let authority = &config.authority;
        let (upstream, files): (Arc<dyn UpstreamAuthority>, _) = match &authority.backend {
            ConfiguredBackend::Native => {
                let (key_type, ttl) = (authority.key_type, authority.schedule.root_ttl);
                let domain = config.trust_domain.clone();
                (Arc::new(SelfSignedRoot::new(domain, Arc::clone(&custody), key_type, ttl)), None)
            }
            ConfiguredBackend::Files(directory) => {
                let files = FilesAuthority::new(directory.clone(), Arc::clone(&custody), Arc::new(SystemClock));
                let files = Arc::new(files);
                (Arc::clone(&files) as _, Some(files))
            }
        };
        Ok(Self { store, custody, upstream, proofs, files })
    }

    pub(super) fn executor(&self, config: &Config, audit: AuditLog, clock: SharedClock) -> Arc<Executor> {
        let provisioner = Provisioner {
            key_type: config.authority.key_type,
            schedule: config.authority.schedule,
            custody: Arc::clone(&self.custody),
            upstream: Arc::clone(&self.upstream),
            sign_list: Arc::new(|key, certificate, content| Box::pin(sign_list(key, certificate, content))),
        };
        let (journal, holders) = (Arc::clone(&self.store) as _, Arc::clone(&self.store) as _);
        Arc::new(Executor::new(config.authority.rules, provisioner, journal, holders, audit, clock))
    }

    pub(super) fn rotator(
        config: &Config,
        executor: Arc<Executor>,
        metrics: Arc<CaMetrics>,
        output: StateWriter,
        wake_up: Arc<Notify>,
    ) -> Rotator {
        let trust_domain = config.trust_domain.clone();
        Rotator { trust_domain, executor, open_issuer: Arc::new(open_native), metrics, output, wake_up }
    }
}

fn open_native(key: Arc<dyn SigningKey>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
    let authority = NativeAuthority::new(key, issuing).map_err(|error| SignError::Failed(error.to_string()))?;
    Ok(Arc::new(authority))
}

/// What is wrong with the files that a well-formed configuration names; for `check`.
#[must_use]
pub async fn check_files(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(missing_keys(config).await);
    if let ConfiguredBackend::Files(directory) = &config.authority.backend {
        let custody = Arc::new(MemoryCustody::new());
        let files = FilesAuthority::new(directory.clone(), custody, Arc::new(SystemClock));
        problems.extend(files.offer().await.err().map(|error| format!("authority.files: {error}")));
        problems.extend(files.crl_problem().map(|problem| format!("authority.files: {problem}")));
    }
    for (index, cluster) in config.clusters.iter().enumerate() {
        if let Err(error) = tokens::load(cluster).await {
            problems.push(format!("clusters[{index}].tokens.file: {}", signet_runtime::output::error_chain(&error)));
        }
    }
    if let Err(error) = storage::location(&config.storage).check(storage::DEADLINE).await {
        problems.push(format!("storage: {error}"));
    }
    problems
}

#[async_trait::async_trait]
impl CaFiles for FilesAuthority {
    async fn problem(&self) -> Option<String> {
        match self.offer().await {
            Err(error) => Some(format!("the files are not used, the CA goes on with what it had: {error}")),
            Ok(_) => self.crl_problem(),
        }
    }
}
