//! The journal of authorities, each change of which is one transaction with its events.

use async_trait::async_trait;
use signet_core::rotation::Authorities;
use signet_core::seams::store::{AuthorityJournal, Change, Changed, JournalVersion, StoreError};
use sqlx::sqlite::SqliteConnection;

use super::error::store_error;
use super::holders::FORGET_RAISED;
use super::{SqliteStore, audit, fence, holder_projection, holders, sealed_keys};
use crate::store::journal::{Entry, FORGET_HISTORY, HISTORY, KEEP_HISTORY, PUT};
use crate::store::rows::{NewRow, decode_authorities};

#[async_trait]
impl AuthorityJournal for SqliteStore {
    async fn load(&self) -> Result<Option<(JournalVersion, Authorities)>, StoreError> {
        const DOING: &str = "reading the authority journal";
        let read = sqlx::query_as("SELECT version, body FROM authority_journal WHERE id = 1");
        let read = async {
            self.readable().await?;
            read.fetch_optional(&self.readers).await.map_err(|error| store_error(DOING, &error))
        };
        let found: Option<(i64, String)> = self.within(DOING, read).await?;
        let Some((version, body)) = found else { return Ok(None) };
        let authorities = decode_authorities(version, &body)?;
        Ok(Some((JournalVersion(version.unsigned_abs()), authorities)))
    }

    async fn version(&self) -> Result<JournalVersion, StoreError> {
        const DOING: &str = "reading the version of the authority journal";
        let read = sqlx::query_scalar("SELECT version FROM authority_journal WHERE id = 1");
        let read = async {
            self.readable().await?;
            read.fetch_optional(&self.readers).await.map_err(|error| store_error(DOING, &error))
        };
        let found: Option<i64> = self.within(DOING, read).await?;
        Ok(JournalVersion(found.unwrap_or_default().unsigned_abs()))
    }

    async fn change(&self, change: Change<'_>) -> Result<Changed, StoreError> {
        const DOING: &str = "changing the authority journal";
        let entry = Entry::of(&change)?;
        let rows: Vec<NewRow> = change.events.into_iter().map(NewRow::new).collect();
        let write = async {
            self.catch_up().await?;
            let mut writer = self.writer().await?;
            let failed = |error: sqlx::Error| store_error(DOING, &error);
            sqlx::query("BEGIN IMMEDIATE").execute(&mut writer.session.connection).await.map_err(failed)?;
            // Without that the database lets nobody change the journal.
            holder_projection::enter_all(&mut writer.session).await.map_err(failed)?;
            let connection = &mut writer.session.connection;
            let stands = replaces(connection, &entry).await.map_err(failed)?;
            // Of a key that was removed meanwhile nothing can be made: whoever decided this looks again.
            let undone = if !stands || sealed_keys::names_removed(connection, &entry.body).await.map_err(failed)? {
                Some(Changed::Overtaken)
            } else if !holders::all_hold(connection, change.conditions, change.now).await? {
                Some(Changed::Unmet)
            } else {
                None
            };
            if let Some(undone) = undone {
                sqlx::query("ROLLBACK").execute(&mut *connection).await.map_err(failed)?;
                writer.give_back();
                return Ok(undone);
            }
            put(connection, &entry).await.map_err(failed)?;
            let (_, head) = audit::append_within(connection, &rows.iter().collect::<Vec<_>>(), &entry.fence)
                .await
                .map_err(failed)?;
            sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed)?;
            (writer.session.head, writer.session.fence) = (Some(head), None);
            self.progress.appended(head.next);
            writer.keep().await?;
            Ok(Changed::Made(JournalVersion(entry.version.unsigned_abs())))
        };
        self.within(DOING, Box::pin(write)).await
    }
}

/// Whether the entry that is there is the one before `entry`.
async fn replaces(connection: &mut SqliteConnection, entry: &Entry) -> Result<bool, sqlx::Error> {
    let read = sqlx::query_scalar("SELECT version FROM authority_journal WHERE id = 1");
    let found: Option<i64> = read.fetch_optional(connection).await?;
    Ok(found.unwrap_or_default() == entry.version.saturating_sub(1))
}

/// Writes an entry with all that belongs to it, within the transaction of its change.
async fn put(connection: &mut SqliteConnection, entry: &Entry) -> Result<(), sqlx::Error> {
    sqlx::query(PUT).bind(entry.version).bind(&entry.body).execute(&mut *connection).await?;
    sqlx::query(KEEP_HISTORY).bind(entry.version).bind(&entry.body).execute(&mut *connection).await?;
    let old = entry.version.saturating_sub(HISTORY);
    sqlx::query(FORGET_HISTORY).bind(old).execute(&mut *connection).await?;
    let (oldest, newest) = entry.awaited;
    sqlx::query(FORGET_RAISED).bind(oldest).bind(newest).execute(&mut *connection).await?;
    fence::keep(connection, entry.version, &entry.fence_body).await
}
