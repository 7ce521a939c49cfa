//! The journal of authorities, each change of which is one transaction with its events.

use async_trait::async_trait;
use signet_core::rotation::Authorities;
use signet_core::seams::store::{AuthorityJournal, Change, Changed, JournalVersion, StoreError};
use sqlx::postgres::PgConnection;

use super::error::store_error;
use super::holders::FORGET_RAISED;
use super::notifications::CHANNEL;
use super::pool::Use;
use super::{PostgresStore, audit, fence, holders, sealed_keys};
use crate::store::journal::{Entry, FORGET_HISTORY, HISTORY, KEEP_HISTORY, PUT};
use crate::store::rows::{NewRow, decode_authorities};

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
            put(locked.connection(), &entry).await.map_err(failed)?;
            let appended = audit::append_within(&mut locked, &rows.iter().collect::<Vec<_>>(), &entry.fence)
                .await
                .map_err(failed)?;
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

/// Writes an entry with all that belongs to it, within the transaction of its change.
async fn put(connection: &mut PgConnection, entry: &Entry) -> Result<(), sqlx::Error> {
    sqlx::query(PUT).bind(entry.version).bind(&entry.body).execute(&mut *connection).await?;
    sqlx::query(KEEP_HISTORY).bind(entry.version).bind(&entry.body).execute(&mut *connection).await?;
    let old = entry.version.saturating_sub(HISTORY);
    sqlx::query(FORGET_HISTORY).bind(old).execute(&mut *connection).await?;
    let (oldest, newest) = entry.awaited;
    sqlx::query(FORGET_RAISED).bind(oldest).bind(newest).execute(&mut *connection).await?;
    fence::keep(connection, entry.version, &entry.fence_body).await?;
    // Told to those who listen once this is committed.
    let tell = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(entry.version.to_string());
    tell.execute(connection).await.map(drop)
}
