//! Marks: what became of replies, looked at without the lock first, since most of them change nothing.

use std::collections::{HashMap, HashSet};

use signet_core::audit::AuditEvent;
use signet_core::holder::{HolderKey, Mark};
use signet_core::seams::store::StoreError;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::PostgresStore;
use super::error::store_error;
use super::holder_projection::{PIECE, Piece};
use super::loaded_holders::{columns, kept_key, plain};
use super::pool::Use;
use crate::store::holder_marks::{Marked, Seen};

const DOING: &str = "noting what was handed over";

/// Whether all events are entered, and what is known of the holders: one statement, so that both are of one moment.
const LOOK: &str = "SELECT k.n, f.below >= coalesce((SELECT max(seq) + 1 FROM audit_event), 0), h.sequence, \
    h.acknowledges, h.first_bundle, h.serial = k.serial, h.former <> '', h.authority = k.authority \
    FROM holder_fold AS f CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) \
    WITH ORDINALITY AS k (spiffe_id, instance, serial, authority, n) \
    LEFT JOIN holder AS h ON h.spiffe_id = k.spiffe_id AND h.instance = k.instance WHERE f.id = 1";

/// The position of a mark, counted from 1, whether all events are entered, and what the mark asks of its holder.
type Row = (i64, bool, Option<i64>, Option<bool>, Option<i64>, Option<bool>, Option<bool>, Option<bool>);

/// The marks that may change something. Most are about a renewal like the one before: their holders say that already,
/// whatever of the record waits to be entered.
async fn undecided<'m>(
    connection: &mut PgConnection,
    marks: &'m [Mark],
    at: i64,
) -> Result<Vec<&'m Mark>, sqlx::Error> {
    let keys: Vec<HolderKey> = marks.iter().map(|mark| kept_key(&mark.reply.holder)).collect();
    let (spiffe_ids, instances) = columns(&keys);
    let serials: Vec<String> = marks.iter().map(|mark| plain(&mark.reply.serial)).collect();
    let authorities: Vec<String> = marks.iter().map(|mark| plain(&mark.reply.authority)).collect();
    let look = sqlx::query_as(LOOK).bind(spiffe_ids).bind(instances).bind(serials).bind(authorities);
    let rows: Vec<Row> = look.fetch_all(connection).await?;
    let mut is_whole = false;
    let mut seen = HashMap::new();
    for (n, whole, sequence, acknowledges, first_bundle, is_newest, has_former, is_of_issuer) in rows {
        is_whole = whole;
        let index = usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        if let (Some(sequence), Some(acknowledges), Some(is_newest), Some(has_former), Some(is_of_issuer)) =
            (sequence, acknowledges, is_newest, has_former, is_of_issuer)
        {
            let one = Seen { sequence, acknowledges, first_bundle, is_newest, has_former, is_of_issuer };
            seen.insert(index, one);
        }
    }
    if is_whole {
        let known = marks.iter().enumerate().filter_map(|(index, mark)| Some((mark, *seen.get(&index)?)));
        let changes = !Marked::of(known, at).is_empty();
        return Ok(if changes { marks.iter().collect() } else { Vec::new() });
    }
    let is_open = |index: usize, mark: &Mark| seen.get(&index).is_none_or(|one| !one.changes_nothing(mark));
    Ok(marks.iter().enumerate().filter(|(index, mark)| is_open(*index, mark)).map(|(_, mark)| mark).collect())
}

/// Notes what became of replies.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn mark(store: &PostgresStore, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError> {
    if marks.is_empty() {
        return Ok(false);
    }
    let failed = |error: sqlx::Error| store_error(DOING, &error);
    let at = AuditEvent::micros(at);
    let work = async {
        let mut lease = store.lease(Use::Reading).await?;
        let mut open = undecided(&mut lease, marks, at).await.map_err(failed)?;
        lease.keep();
        let mut changed = false;
        while !open.is_empty() {
            let mut locked = store.locked(DOING).await?;
            changed |= step(locked.connection(), &mut open, at).await.map_err(failed)?;
            locked.commit(DOING).await?;
        }
        Ok(changed)
    };
    store.within(DOING, Box::pin(work)).await
}

/// Enters a piece of the record together with the marks of its replies, so that a holder is written once; when all is entered,
/// some of the other marks. These are taken out of `open`. `false` when the marks change nothing.
async fn step(connection: &mut PgConnection, open: &mut Vec<&Mark>, at: i64) -> Result<bool, sqlx::Error> {
    let piece = Piece::read(connection).await?;
    let is_whole = piece.bounds.is_whole();
    let what = piece.entered.iter().filter_map(|one| one.event().what.as_ref());
    let serials: HashSet<&str> = what.map(|what| what.serial.as_str()).collect();
    let mut room = PIECE;
    let is_due = |mark: &mut &Mark| {
        let is_due = room > 0 && (is_whole || serials.contains(mark.reply.serial.as_str()));
        room -= u64::from(is_due);
        is_due
    };
    let due: Vec<&Mark> = open.extract_if(.., is_due).collect();
    piece.enter(connection, &due, at).await
}
