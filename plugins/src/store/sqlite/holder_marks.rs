//! Marks: what became of replies, looked at without the write lock first, since most of them change nothing.

use std::collections::HashSet;
use std::sync::LazyLock;

use signet_core::audit::AuditEvent;
use signet_core::holder::{HolderKey, Mark};
use signet_core::seams::store::StoreError;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::error::store_error;
use super::holder_projection::Bounds;
use super::holders::CHUNK;
use super::{Session, SqliteStore, holder_projection};
use crate::store::holder_marks::{Marked, Seen};
use crate::store::holders::Raises;

/// Marks that one transaction notes at most. What is appended meanwhile waits for it.
const MARKS: usize = 512;

/// One statement per number of holders, as for the log.
static READS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(read_text).collect());
static UPDATES: LazyLock<Vec<String>> = LazyLock::new(|| (1..=CHUNK).map(update_text).collect());

/// Finds holders by their names. Written as a list to look in, the condition would be a search through all of them.
fn read_text(rows: usize) -> String {
    let names = vec!["(?,?,?,?,?)"; rows].join(",");
    format!(
        "SELECT named.column1, sequence, acknowledges, first_bundle, serial = named.column4, former <> '', \
         authority = named.column5 FROM (VALUES {names}) AS named CROSS JOIN holder \
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
type Row = (i64, i64, bool, Option<i64>, bool, bool, bool);

/// Finds the holders that marks are about; a mark of no holder is left out.
async fn look<'m>(connection: &mut SqliteConnection, marks: &[&'m Mark]) -> Result<Vec<(&'m Mark, Seen)>, sqlx::Error> {
    let mut seen = Vec::with_capacity(marks.len());
    for chunk in marks.chunks(CHUNK) {
        let mut query = sqlx::query_as(text(&READS, chunk.len()));
        for (index, Mark { reply, .. }) in (0_i64..).zip(chunk) {
            let HolderKey { spiffe_id, instance } = &reply.holder;
            query = query.bind(index).bind(spiffe_id.as_str()).bind(instance.as_str());
            query = query.bind(reply.serial.as_str()).bind(reply.authority.as_str());
        }
        let rows: Vec<Row> = query.fetch_all(&mut *connection).await?;
        for (index, sequence, acknowledges, first_bundle, is_newest, has_former, is_of_issuer) in rows {
            let mark = usize::try_from(index).ok().and_then(|index| chunk.get(index));
            let one = Seen { sequence, acknowledges, first_bundle, is_newest, has_former, is_of_issuer };
            seen.extend(mark.map(|mark| (*mark, one)));
        }
    }
    Ok(seen)
}

/// The marks that may change something. Most are about a renewal like the one before: their holders say that already,
/// whatever of the record waits to be entered.
async fn undecided<'m>(store: &SqliteStore, marks: &'m [Mark], at: i64) -> Result<Vec<&'m Mark>, sqlx::Error> {
    let mut reader = store.readers.acquire().await?;
    // Before the holders, so that they are no older.
    let bounds = Bounds::read(&mut reader).await?;
    let marks: Vec<&Mark> = marks.iter().collect();
    let seen = look(&mut reader, &marks).await?;
    if bounds.is_whole() {
        let is_empty = Marked::of(seen, at).is_empty();
        return Ok(if is_empty { Vec::new() } else { marks });
    }
    let decided = seen.iter().filter(|(mark, one)| one.changes_nothing(mark));
    let decided: HashSet<*const Mark> = decided.map(|(mark, _)| std::ptr::from_ref(*mark)).collect();
    Ok(marks.into_iter().filter(|mark| !decided.contains(&std::ptr::from_ref(*mark))).collect())
}

/// Notes what became of replies.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn mark(store: &SqliteStore, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError> {
    const DOING: &str = "noting what was handed over";
    let failed = |error: sqlx::Error| store_error(DOING, &error);
    let at = AuditEvent::micros(at);
    let work = async {
        let mut open = undecided(store, marks, at).await.map_err(failed)?;
        let mut changed = false;
        while !open.is_empty() {
            let mut writer = store.writer().await?;
            let step = step(&mut writer.session, &mut open, at).await.map_err(failed)?;
            writer.keep().await?;
            store.progress.entered(step.below);
            changed |= step.changed;
        }
        Ok(changed)
    };
    store.within(DOING, Box::pin(work)).await
}

/// What one transaction has done.
struct Step {
    /// Holders are entered up to this position.
    below: u64,
    /// Whether marks have changed something.
    changed: bool,
}

/// Enters a piece of the record and, once nothing waits, notes some of the marks, which are taken out of `open`: in the same
/// transaction, so that a new holder is written once.
async fn step(session: &mut Session, open: &mut Vec<&Mark>, at: i64) -> Result<Step, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut session.connection).await?;
    let bounds = holder_projection::enter(session).await?;
    let connection = &mut session.connection;
    let due = if bounds.is_whole() { open.len().min(MARKS) } else { 0 };
    let due: Vec<&Mark> = open.drain(..due).collect();
    let marked = Marked::of(look(connection, &due).await?, at);
    write(connection, &marked).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(Step { below: bounds.below, changed: !marked.is_empty() })
}

/// Enters what marks change, within a transaction.
async fn write(connection: &mut SqliteConnection, marked: &Marked<'_>) -> Result<(), sqlx::Error> {
    let has: Vec<_> = marked.has.iter().collect();
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
    enter(connection, &marked.raises).await
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
