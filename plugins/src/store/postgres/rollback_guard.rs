//! What this process knows of the database: which one it is, and how far its log and journal have come. Another database
//! behind the same name, or one that has gone back (a restored backup, a standby that lacked the last commits), is never
//! forgiven: records may be gone.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use signet_core::audit::LeafHash;
use signet_core::seams::store::StoreError;
use sqlx::postgres::PgConnection;

use super::error::{is_missing_table, store_error};
use crate::store::holders::column;

/// What an operator does about it.
const STOPPED: &str = "nothing is written and no certificate is issued any more; restart the CA if this is the database that \
                       it belongs to now, after reading what a restored backup means";

/// What was seen last.
#[derive(Default)]
pub(super) struct Seen {
    store_id: OnceLock<Vec<u8>>,
    furthest: Mutex<Furthest>,
    lost: OnceLock<String>,
}

#[derive(Default, Clone)]
struct Furthest {
    /// How long the log is at least.
    next: u64,
    /// An event that was acknowledged, by position and hash.
    event: Option<(u64, LeafHash)>,
    /// The version that the journal has at least.
    journal: i64,
}

/// What a connection shows: store ID, length of the log, the hash of the event that was asked for, version of the journal.
type Shown = (Option<Vec<u8>>, i64, Option<Vec<u8>>, i64);

const SHOW: &str = "SELECT (SELECT store_id FROM storage_file WHERE id = 1), \
    coalesce((SELECT max(seq) + 1 FROM audit_event), 0), \
    (SELECT leaf_hash FROM audit_event WHERE seq = $1), \
    coalesce((SELECT version FROM authority_journal WHERE id = 1), 0)";

impl Seen {
    fn furthest(&self) -> MutexGuard<'_, Furthest> {
        self.furthest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the log is at least.
    pub(super) fn next(&self) -> u64 {
        self.furthest().next
    }

    /// Notes that the log has come so far, and what its last event is if that is known.
    pub(super) fn note_log(&self, next: u64, last: Option<LeafHash>) {
        let mut furthest = self.furthest();
        if next > furthest.next {
            furthest.next = next;
            if let Some(hash) = last {
                furthest.event = Some((next.saturating_sub(1), hash));
            }
        }
    }

    /// Notes that the journal has come so far.
    pub(super) fn note_journal(&self, version: i64) {
        let mut furthest = self.furthest();
        furthest.journal = version.max(furthest.journal);
    }

    /// Nothing, while the database is the one that this process knows.
    ///
    /// # Errors
    /// [`StoreError::Lost`].
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.lost.get().map_or(Ok(()), |why| Err(StoreError::Lost(why.clone())))
    }

    /// The database is not what it was, for as long as this process runs.
    pub(super) fn lose(&self, why: &str) -> StoreError {
        let why = self.lost.get_or_init(|| format!("{why}; {STOPPED}"));
        StoreError::Lost(why.clone())
    }

    /// Judges how far log and journal have come, as read under the lock or from one snapshot.
    ///
    /// # Errors
    /// [`StoreError::Lost`].
    pub(super) fn judge(&self, next: u64, journal: i64) -> Result<(), StoreError> {
        let Furthest { next: seen, journal: version, .. } = self.furthest().clone();
        if next < seen {
            return Err(self.lose(&format!("the log has {next} events, and had {seen}")));
        }
        if journal < version {
            return Err(self.lose(&format!("the authority journal has version {journal}, and had {version}")));
        }
        Ok(())
    }

    /// Looks at which database a connection leads to, and whether it holds what was acknowledged.
    ///
    /// # Errors
    /// [`StoreError::Lost`]; otherwise why it cannot be read.
    pub(super) async fn look(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        self.check()?;
        // Before the question: what others acknowledge meanwhile need not be in its snapshot.
        let Furthest { next: seen, event, journal: version } = self.furthest().clone();
        let position = event.map_or(-1, |(position, _)| column(position));
        let shown: Result<Shown, _> = sqlx::query_as(SHOW).bind(position).fetch_one(connection).await;
        let (store_id, next, hash, journal) = match shown {
            Err(error) if is_missing_table(&error) && self.store_id.get().is_some() => {
                return Err(self.lose("the tables of the database are gone"));
            }
            other => other.map_err(|error| store_error("looking at the database", &error))?,
        };
        let Some(store_id) = store_id else {
            return Err(StoreError::Damaged("storage_file has no row; restore the database from a backup".to_owned()));
        };
        if *self.store_id.get_or_init(|| store_id.clone()) != store_id {
            return Err(self.lose("another database is there under the same name"));
        }
        if next < column(seen) {
            return Err(self.lose(&format!("the log has {next} events, and had {seen}")));
        }
        if event.is_some_and(|(_, expected)| hash.as_deref() != Some(expected.as_slice())) {
            return Err(self.lose(&format!("event {position} of the log is another one than was written")));
        }
        if journal < version {
            return Err(self.lose(&format!("the authority journal has version {journal}, and had {version}")));
        }
        Ok(())
    }
}
