//! The journal of authorities, each change of which is one transaction with its events.

use async_trait::async_trait;
use signet_core::rotation::{Authorities, Fence};
use signet_core::seams::store::{AuthorityJournal, Change, Changed, JournalVersion, StoreError};
use sqlx::postgres::PgConnection;

use super::error::store_error;
use super::heard::CHANNEL;
use super::holders::FORGET_RAISED;
use super::pool::Use;
use super::{PostgresStore, audit, fence, holders, sealed_keys};
use crate::store::holders::column;
use crate::store::rows::{NewRow, decode_authorities, encode_authorities};

/// Versions that are kept for people: each is a whole document, which revocation lists make large.
const HISTORY: i64 = 500;

#[async_trait]
impl AuthorityJournal for PostgresStore {
    async fn load(&self) -> Result<Option<(JournalVersion, Authorities)>, StoreError> {
        const DOING: &str = "reading the authority journal";
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let read = sqlx::query_as("SELECT version, body FROM authority_journal WHERE id = 1");
            let found = read.fetch_optional(&mut *lease).await.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(found)
        };
        let found: Option<(i64, String)> = self.within(DOING, read).await?;
        self.saw(found.as_ref().map_or(0, |(version, _)| *version))?;
        let Some((version, body)) = found else { return Ok(None) };
        let authorities = decode_authorities(version, &body)?;
        Ok(Some((JournalVersion(version.unsigned_abs()), authorities)))
    }

    async fn version(&self) -> Result<JournalVersion, StoreError> {
        const DOING: &str = "reading the version of the authority journal";
        let read = async {
            let mut lease = self.lease(Use::Reading).await?;
            let read = sqlx::query_scalar("SELECT version FROM authority_journal WHERE id = 1");
            let found = read.fetch_optional(&mut *lease).await.map_err(|error| store_error(DOING, &error))?;
            lease.keep();
            Ok(found)
        };
        let found: Option<i64> = self.within(DOING, read).await?;
        self.saw(found.unwrap_or_default())?;
        Ok(JournalVersion(found.unwrap_or_default().unsigned_abs()))
    }

    async fn change(&self, change: Change<'_>) -> Result<Changed, StoreError> {
        const DOING: &str = "changing the authority journal";
        let entry = Entry::of(&change)?;
        let rows: Vec<NewRow> = change.events.into_iter().map(NewRow::new).collect();
        let write = async {
            let failed = |error: sqlx::Error| store_error(DOING, &error);
            let mut locked = self.locked(DOING).await?;
            let stands = locked.journal == entry.version.saturating_sub(1);
            // Of a key that was removed meanwhile nothing can be made: whoever decided this looks again.
            let undone =
                if !stands || sealed_keys::names_removed(locked.connection(), &entry.body).await.map_err(failed)? {
                    Some(Changed::Overtaken)
                } else if !holders::all_hold(&mut locked, change.conditions, change.now).await? {
                    Some(Changed::Unmet)
                } else {
                    None
                };
            if let Some(undone) = undone {
                locked.roll_back().await;
                return Ok(undone);
            }
            entry.put(locked.connection()).await.map_err(failed)?;
            let appended = audit::append_within(&mut locked, &rows, &entry.fence).await.map_err(failed)?;
            locked.commit(DOING).await?;
            appended.committed(self);
            self.seen.note_journal(entry.version);
            Ok(Changed::Made(JournalVersion(entry.version.unsigned_abs())))
        };
        self.within(DOING, Box::pin(write)).await
    }

    async fn heard(&self) {
        self.ear.hear(self).await;
    }
}

impl PostgresStore {
    /// Notes the version that a reader has found, which may be of before a change that was made meanwhile.
    fn saw(&self, version: i64) -> Result<(), StoreError> {
        self.seen.note_journal(version);
        self.seen.check()
    }
}

/// A journal entry that is to be written.
struct Entry {
    version: i64,
    body: String,
    fence: Fence,
    fence_body: String,
    /// The oldest bundle that something waits for, and the newest.
    awaited: (i64, i64),
}

impl Entry {
    fn of(change: &Change<'_>) -> Result<Self, StoreError> {
        let full = || StoreError::Unavailable("the authority journal has no more versions".to_owned());
        let version = change.expected.0.checked_add(1).and_then(|next| i64::try_from(next).ok()).ok_or_else(full)?;
        let fence = Fence::of(change.next);
        let (body, fence_body) = (encode_authorities(change.next)?, fence::encode(&fence)?);
        let (oldest, newest) = change.next.awaited().unwrap_or((u64::MAX, 0));
        let awaited = (column(oldest), column(newest));
        Ok(Self { version, body, fence, fence_body, awaited })
    }

    async fn put(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let put = "INSERT INTO authority_journal (id, version, body) VALUES (1, $1, $2) \
            ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body";
        sqlx::query(put).bind(self.version).bind(&self.body).execute(&mut *connection).await?;
        let history = "INSERT INTO authority_journal_history (version, body) VALUES ($1, $2)";
        sqlx::query(history).bind(self.version).bind(&self.body).execute(&mut *connection).await?;
        let old = "DELETE FROM authority_journal_history WHERE version <= $1";
        sqlx::query(old).bind(self.version.saturating_sub(HISTORY)).execute(&mut *connection).await?;
        let (oldest, newest) = self.awaited;
        sqlx::query(FORGET_RAISED).bind(oldest).bind(newest).execute(&mut *connection).await?;
        fence::keep(connection, self.version, &self.fence_body).await?;
        // Told to those who listen once this is committed.
        let tell = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(self.version.to_string());
        tell.execute(connection).await.map(drop)
    }
}
