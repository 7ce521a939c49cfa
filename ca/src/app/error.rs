//! Why what is configured cannot be used, or not be worked on.

use std::path::PathBuf;

use signet_core::seams::store::StoreError;
use signet_runtime::files::FileError;
use signet_runtime::metrics::MetricError;

use crate::rotator::StepError;

/// What is configured cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// Storage cannot be opened.
    #[error(transparent)]
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
    #[cfg(feature = "postgres")]
    #[error("migrate: {0}")]
    Migrate(String),
    /// Another sealing key cannot be taken.
    #[error("rekey: {0}")]
    Rekey(String),
    /// The record gets no other key.
    #[error("audit key: {0}")]
    RecordKey(String),
    /// The checkpoint outside of storage is not written anew.
    #[error("audit checkpoint: {0}")]
    Outside(String),
    /// A file that a cluster's section names cannot be used.
    #[error("{0}")]
    Cluster(String),
    /// The first authority could not be made.
    #[error("authority")]
    Authority(#[from] StepError),
    /// A metric is registered twice, which is a bug.
    #[error(transparent)]
    Metric(#[from] MetricError),
}
