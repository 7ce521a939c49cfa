//! From where a storage is to the store in it: the one place that tells the kinds of databases apart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use signet_core::seams::store::StoreError;

use super::Store;
#[cfg(feature = "postgres")]
use super::postgres::{PostgresAccess, PostgresSettings, PostgresStore};
#[cfg(feature = "sqlite")]
use super::sqlite::{Copied, SqliteSettings, SqliteStore};

/// Queries that run at once in a file.
#[cfg(feature = "sqlite")]
const READERS: u32 = 2;

/// Where a storage is, and how it is reached.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Location {
    /// One file.
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
    /// A database of a PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres {
        /// Which one, and how it is reached.
        access: PostgresAccess,
        /// Connections at most.
        connections: u32,
    },
}

impl Location {
    /// Opens it for writing, makes what is missing and brings its schema up to date. A call to the store takes `deadline`
    /// at most.
    ///
    /// # Errors
    /// [`StoreError`] of the store.
    pub async fn open(&self, deadline: Duration) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => Arc::new(SqliteStore::open(&url(path), sqlite(deadline)).await?),
            #[cfg(feature = "postgres")]
            Self::Postgres { access, connections } => {
                Arc::new(Box::pin(PostgresStore::open(access, postgres(deadline, *connections))).await?)
            }
        })
    }

    /// Opens it for queries only, whether or not a CA is running on it.
    ///
    /// # Errors
    /// [`StoreError`] of the store.
    pub async fn open_read_only(&self, deadline: Duration) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => Arc::new(SqliteStore::open_read_only(&url(path), sqlite(deadline)).await?),
            #[cfg(feature = "postgres")]
            Self::Postgres { access, connections } => {
                Arc::new(PostgresStore::open_read_only(access, postgres(deadline, *connections)).await?)
            }
        })
    }

    /// Looks at it without changing anything, as closely as can be; a file that does not exist yet is in order.
    ///
    /// # Errors
    /// [`StoreError`] of the store.
    pub async fn check(&self, deadline: Duration) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                SqliteStore::check(&url(path), sqlite(deadline)).await?;
                let directory = path.parent().unwrap_or(Path::new("/"));
                if !directory.is_dir() {
                    let text = format!("the directory {} does not exist; create it", directory.display());
                    return Err(StoreError::Unavailable(text));
                }
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { access, connections } => {
                PostgresStore::check(access, postgres(deadline, *connections)).await
            }
        }
    }

    /// Whether there is certainly nothing yet: no file, or nothing in the database. Whatever speaks against looking is told
    /// when the storage is opened.
    pub async fn is_missing(&self, deadline: Duration) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => match path.try_exists() {
                Ok(true) => SqliteStore::is_empty(&url(path), sqlite(deadline)).await.unwrap_or(false),
                Ok(false) => true,
                Err(_) => false,
            },
            #[cfg(feature = "postgres")]
            Self::Postgres { access, connections } => {
                PostgresStore::is_empty(access, postgres(deadline, *connections)).await.unwrap_or(false)
            }
        }
    }

    /// The file that it is, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => Some(path),
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => None,
        }
    }

    /// Copies it into `target`, an empty file, also while CAs are at work on it.
    ///
    /// # Errors
    /// [`StoreError`] of the store, and for one that is not a [`file`](Self::file).
    #[cfg(feature = "sqlite")]
    pub async fn backup(&self, deadline: Duration, target: &Path) -> Result<Copied, StoreError> {
        match self {
            Self::Sqlite(path) => SqliteStore::backup(&url(path), sqlite(deadline), target).await,
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => Err(StoreError::Unavailable("a server's database is not copied here".to_owned())),
        }
    }
}

#[cfg(feature = "sqlite")]
fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[cfg(feature = "sqlite")]
fn sqlite(deadline: Duration) -> SqliteSettings {
    SqliteSettings { deadline, readers: READERS }
}

#[cfg(feature = "postgres")]
fn postgres(deadline: Duration, connections: u32) -> PostgresSettings {
    PostgresSettings { deadline, connections }
}

#[cfg(feature = "sqlite")]
#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn close(&self) {
        Self::close(self).await;
    }
}

#[cfg(feature = "postgres")]
#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn close(&self) {
        Self::close(self).await;
    }
}
