//! Marks: what became of replies, looked at without the write lock first, since most of them change nothing.

use std::sync::LazyLock;

use signet_core::audit::AuditEvent;
use signet_core::holder::{HolderKey, Mark};
use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::SqliteStore;
use super::error::store_error;
use super::holders::CHUNK;
use crate::store::holders::Raises;
use crate::store::marks::{Marked, Seen};

/// One statement per number of holders, as for the log.
static READS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(read_text).collect());
static UPDATES: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(update_text).collect());

/// Finds holders by their names. Written as a list to look in, the condition would be a search through all of them.
fn read_text(rows: usize) -> String {
    let names = vec!["(?,?,?,?)"; rows].join(",");
    format!(
        "SELECT named.column1, sequence, acknowledges, first_bundle, serial = named.column4, former <> '' \
         FROM (VALUES {names}) AS named CROSS JOIN holder \
         ON spiffe_id = named.column2 AND instance = named.column3"
    )
}

/// What was handed over to holders: name, sequence, serial.
fn update_text(rows: usize) -> String {
    let replies = vec!["(?,?,?,?)"; rows].join(",");
    format!(
        "UPDATE holder SET sequence = iif(acknowledges, sequence, max(sequence, reply.column3)), \
         former = iif(serial = reply.column4, '', former) FROM (VALUES {replies}) AS reply \
         WHERE spiffe_id = reply.column1 AND instance = reply.column2"
    )
}

const DELETE: &str = "DELETE FROM holder WHERE spiffe_id = ? AND instance = ? AND serial = ? AND sequence = 0 \
    AND first_bundle IS NOT NULL";

const ENTER: &str = "INSERT INTO holder_raise (before, after, at) VALUES (?, ?, ?) \
    ON CONFLICT (before, after) DO UPDATE SET at = max(at, excluded.at)";

/// The statement for this number of holders.
fn text(texts: &'static [String], rows: usize) -> &'static str {
    rows.checked_sub(1).and_then(|index| texts.get(index)).map_or("", String::as_str)
}

/// The position of a mark, and what it asks of its holder.
type Row = (i64, i64, bool, Option<i64>, bool, bool);

/// Notes what became of replies.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn mark(store: &SqliteStore, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError> {
    const DOING: &str = "noting what was handed over";
    let failed = |error: sqlx::Error| store_error(DOING, &error);
    let work = async {
        let mut seen = Vec::with_capacity(marks.len());
        for chunk in marks.chunks(CHUNK) {
            let mut query = sqlx::query_as(text(&READS, chunk.len()));
            for (index, Mark { reply, .. }) in (0_i64..).zip(chunk) {
                let HolderKey { spiffe_id, instance } = &reply.holder;
                query = query.bind(index).bind(spiffe_id.as_str()).bind(instance.as_str()).bind(reply.serial.as_str());
            }
            let rows: Vec<Row> = query.fetch_all(&store.readers).await.map_err(failed)?;
            for (index, sequence, acknowledges, first_bundle, is_newest, has_former) in rows {
                let mark = usize::try_from(index).ok().and_then(|index| chunk.get(index));
                // The holders of this store are never behind its log.
                let is_of_issuer = false;
                let one = Seen { sequence, acknowledges, first_bundle, is_newest, has_former, is_of_issuer };
                seen.extend(mark.map(|mark| (mark, one)));
            }
        }
        let marked = Marked::of(seen, AuditEvent::micros(at));
        if marked.is_empty() {
            return Ok(false);
        }
        let mut writer = store.writer().await?;
        write(&mut writer.session.connection, &marked).await.map_err(failed)?;
        writer.keep().await?;
        Ok(true)
    };
    store.within(DOING, Box::pin(work)).await
}

async fn write(connection: &mut SqliteConnection, marked: &Marked<'_>) -> Result<(), sqlx::Error> {
    let has: Vec<_> = marked.has.iter().collect();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for chunk in has.chunks(CHUNK) {
        let mut query = sqlx::query(text(&UPDATES, chunk.len()));
        for (key, (sequence, serial)) in chunk {
            query = query.bind(key.spiffe_id.as_str()).bind(key.instance.as_str()).bind(*sequence).bind(*serial);
        }
        query.execute(&mut *connection).await?;
    }
    for reply in &marked.lost {
        let key = &reply.holder;
        let delete = sqlx::query(DELETE).bind(key.spiffe_id.as_str()).bind(key.instance.as_str());
        delete.bind(reply.serial.as_str()).execute(&mut *connection).await?;
    }
    enter(connection, &marked.raises).await?;
    sqlx::query("COMMIT").execute(connection).await.map(drop)
}

/// Notes when holders that had been behind were counted, within the transaction that counts them.
///
/// # Errors
/// [`sqlx::Error`].
pub(super) async fn enter(connection: &mut SqliteConnection, raises: &Raises) -> Result<(), sqlx::Error> {
    for ((before, after), at) in &raises.0 {
        sqlx::query(ENTER).bind(*before).bind(*after).bind(*at).execute(&mut *connection).await?;
    }
    Ok(())
}
