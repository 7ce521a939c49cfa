//! Moving a storage from an SQLite file into an empty PostgreSQL database.
//!
//! The old file is open exclusively all the time, so nobody else reads or writes it. The copy is one transaction of the new
//! database, read back and compared before its end. It is committed as a copy that no CA may use; then the old file is marked,
//! on disk, so that nothing is issued from it again; then the copy is released. Cut off at any moment, the same command begins
//! again or goes on: before the mark with another copy, after it with the release.

use std::path::Path;

use ring::digest::{Context, SHA256};
use signet_core::audit::{AuditEvent, leaf_hash};
use signet_core::rotation::Refused;
use signet_core::seams::store::StoreError;

use super::postgres::PostgresAccess;
use super::postgres::storage_move::{Found, Target};
use super::sqlite::moved_mark::Mark;
use super::sqlite::storage_move::Source;
use super::tables::{Row, TABLES, Table, Value};

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Events on record.
    pub events: u64,
    /// Of these, how many do not fit their hash: they came so, and are shown as damaged as before.
    pub damaged: u64,
    /// The version of the authority journal.
    pub journal: u64,
    /// Holders of certificates.
    pub holders: u64,
    /// Encrypted keys.
    pub keys: u64,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything was moved now.
    Moved(Moved),
    /// An earlier attempt had moved everything and was cut off before its last step, which was made now.
    Released,
    /// An earlier attempt had done everything, so that nothing was done now.
    Before,
}

/// What was read of the rows of one table, or written, in whatever order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    rows: u64,
    /// The sum of their hashes.
    sum: u128,
}

impl Seen {
    fn add(&mut self, rows: &[Row]) {
        for row in rows {
            self.rows = self.rows.saturating_add(1);
            self.sum = self.sum.wrapping_add(hash(row));
        }
    }
}

fn hash(row: &Row) -> u128 {
    let mut digest = Context::new(&SHA256);
    for value in row {
        let number;
        let (tag, content): (u8, &[u8]) = match value {
            Value::Null => (0, &[]),
            Value::Number(value) => {
                number = value.to_be_bytes();
                (1, &number)
            }
            Value::Text(text) => (2, text.as_bytes()),
            Value::Bytes(bytes) => (3, bytes),
        };
        digest.update(&[tag]);
        digest.update(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(content);
    }
    digest.finish().as_ref().first_chunk().map_or(0, |half: &[u8; 16]| u128::from_be_bytes(*half))
}

/// How many of these rows of the log have a body that does not fit its hash.
fn damaged(rows: &[Row]) -> u64 {
    let fits = |row: &Row| match row.as_slice() {
        [.., Value::Bytes(hash), Value::Bytes(body)] => leaf_hash(body).as_slice() == hash.as_slice(),
        // Retention has removed the body.
        _ => true,
    };
    u64::try_from(rows.iter().filter(|row| !fits(row)).count()).unwrap_or(u64::MAX)
}

/// Moves the storage in the file `from` into the database `to`, which must be empty. `event` makes the last event of the
/// record, which says that it was moved; `progress` is told how many rows are copied and compared, of how many.
///
/// It may be dropped at any time and begun again.
///
/// # Errors
/// [`StoreError::Unavailable`] when the file is in use, has no authority or was moved before, when the database cannot be
/// reached or written or is not empty; [`StoreError::Damaged`] when the file is not whole or the copy is not like it. Nothing
/// can be issued from the copy then, and everything from the file, unless the message says otherwise.
pub async fn move_storage(
    from: &Path,
    to: &PostgresAccess,
    event: impl Fn(&Moved) -> AuditEvent,
    progress: impl Fn(u64, u64),
) -> Result<Ended, StoreError> {
    let mut target = Target::connect(to).await?;
    let mut source = Source::open(from).await?;
    let id = source.id().await;
    if let Some(mark) = source.mark().await? {
        let ended = release(target, &mark, &id?).await?;
        source.close().await?;
        return Ok(ended);
    }
    source.prepare().await?;
    let id = source.id().await?;
    target.begin(&id).await?;
    let moved = copy(&mut source, &mut target, progress).await?;
    let event = event(&moved);
    let mark = Mark { target: to.to_string(), target_id: target.id().to_vec(), at_micros: event.at_micros };
    target.append(event).await?;
    target.commit(&format!("sqlite://{}", from.display()), &id, mark.at_micros).await?;
    source.leave_mark(&mark).await?;
    target.release().await?;
    source.close().await?;
    Ok(Ended::Moved(moved))
}

/// Makes the last step after an attempt that was cut off before it.
async fn release(mut target: Target, mark: &Mark, id: &[u8]) -> Result<Ended, StoreError> {
    let refused = |why: &str| Err(StoreError::Unavailable(format!("{}{why}", mark.words())));
    if target.id() != mark.target_id {
        return refused("; the database that was named now is another one");
    }
    match target.found().await? {
        Found::Copy { origin, .. } if origin == id => target.release().await.map(|()| Ended::Released),
        Found::Released => Ok(Ended::Before),
        Found::Copy { .. } | Found::Empty | Found::Other => {
            refused(", but that database does not know of it: was a backup of it restored?")
        }
    }
}

/// Copies every table, reads it back, and compares.
async fn copy(source: &mut Source, target: &mut Target, progress: impl Fn(u64, u64)) -> Result<Moved, StoreError> {
    let mut all = 0_u64;
    for table in TABLES {
        all = all.saturating_add(source.count(table).await?.saturating_mul(2));
    }
    let (mut done, mut moved) = (0_u64, Moved::default());
    let mut tell = |rows: &[Row]| {
        done = done.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        progress(done, all);
    };
    for table in TABLES {
        let (mut read, mut last) = (Seen::default(), None);
        loop {
            let mut rows = source.page(table, last.as_ref()).await?;
            last = rows.last().cloned();
            Target::adapt(table, &mut rows);
            read.add(&rows);
            target.insert(table, &rows).await?;
            moved.note(table, &rows);
            tell(&rows);
            if last.is_none() {
                break;
            }
        }
        let (mut written, mut last) = (Seen::default(), None);
        loop {
            let rows = target.page(table, last.as_ref()).await?;
            last = rows.last().cloned();
            written.add(&rows);
            tell(&rows);
            if last.is_none() {
                break;
            }
        }
        if read != written {
            let text = format!("{} has {} rows, and its copy {}, or others", table.name, read.rows, written.rows);
            return Err(StoreError::Damaged(text));
        }
    }
    if moved.journal == 0 {
        return Err(StoreError::Unavailable(Refused::NoAuthority.to_string()));
    }
    target.entered(source.entered().await?).await?;
    Ok(moved)
}

impl Moved {
    /// Counts rows of a table.
    fn note(&mut self, table: &Table, rows: &[Row]) {
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        match (table.name, rows.first().map(Vec::as_slice)) {
            ("audit_event", _) => {
                self.events = self.events.saturating_add(count);
                self.damaged = self.damaged.saturating_add(damaged(rows));
            }
            ("holder", _) => self.holders = self.holders.saturating_add(count),
            ("sealed_key", _) => self.keys = self.keys.saturating_add(count),
            ("authority_journal", Some([_, Value::Number(version), ..])) => self.journal = version.unsigned_abs(),
            _ => {}
        }
    }
}
