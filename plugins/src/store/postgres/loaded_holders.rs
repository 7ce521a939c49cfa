//! Holders in hand within a transaction: read once by their names, changed by the rules that are the same for every
//! database, and written once, as far as they have changed.

use std::collections::{BTreeMap, BTreeSet};

use signet_core::audit::AuditEvent;
use signet_core::digest::{hex, key_hash};
use signet_core::holder::{Acknowledgement, HolderKey, Mark};
use sqlx::postgres::PgConnection;

use super::holder_projection::Bounds;
use crate::store::holder_marks::{Marked, Seen, hand_over};
use crate::store::holder_projection::Entered;
use crate::store::holders::{HolderRow, Raises, Renewals};

/// A longer name of an instance is kept by its hash: an entry of an index has room for 2,704 bytes, of which a SPIFFE ID may
/// take 2,048.
const LONGEST_INSTANCE: usize = 256;

const READ: &str = "SELECT h.* FROM unnest($1::text[], $2::text[]) AS k (spiffe_id, instance) \
    JOIN holder AS h ON h.spiffe_id = k.spiffe_id AND h.instance = k.instance";

const WRITE: &str = "INSERT INTO holder (spiffe_id, instance, pod, node, cluster, serial, authority, not_after, sequence, \
    acknowledges, seen_at, refused_sequence, refused, first_bundle, former, gone_at) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], \
    $9::bigint[], $10::boolean[], $11::bigint[], $12::bigint[], $13::text[], $14::bigint[], $15::text[], $16::bigint[]) \
    ON CONFLICT (spiffe_id, instance) DO UPDATE SET pod = excluded.pod, node = excluded.node, cluster = excluded.cluster, \
    serial = excluded.serial, authority = excluded.authority, not_after = excluded.not_after, \
    sequence = excluded.sequence, acknowledges = excluded.acknowledges, seen_at = excluded.seen_at, \
    refused_sequence = excluded.refused_sequence, refused = excluded.refused, first_bundle = excluded.first_bundle, \
    former = excluded.former, gone_at = excluded.gone_at";

const DELETE: &str = "DELETE FROM holder AS h USING unnest($1::text[], $2::text[]) AS k (spiffe_id, instance) \
    WHERE h.spiffe_id = k.spiffe_id AND h.instance = k.instance";

/// Enters when certificates of issuing CAs end.
const USAGE: &str = "INSERT INTO authority_usage AS u (authority, last_not_after) \
    SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT (authority) DO UPDATE \
    SET last_not_after = excluded.last_not_after WHERE excluded.last_not_after > u.last_not_after";

/// A certificate that nobody can tell the issuing CA of may be of each.
const UNREAD_USAGE: &str = "UPDATE authority_usage SET last_not_after = $1 WHERE last_not_after < $1";

const RAISES: &str = "INSERT INTO holder_raise AS r (before, after, at) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
    ON CONFLICT (before, after) DO UPDATE SET at = greatest(r.at, excluded.at)";

const MOVE: &str = "UPDATE holder_fold SET below = $1, version = version + $2 WHERE id = 1";

/// Text as a column can hold it: PostgreSQL takes no NUL. None is in a name that was ever issued to a workload of a cluster.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The name under which a holder is kept.
pub(super) fn kept_key(key: &HolderKey) -> HolderKey {
    let instance = match key.instance.len() {
        ..=LONGEST_INSTANCE => plain(&key.instance),
        _ => hex(&key_hash(key.instance.as_bytes())),
    };
    HolderKey { spiffe_id: plain(&key.spiffe_id), instance }
}

/// Two arrays for the names of holders.
pub(super) fn columns<'k>(keys: impl IntoIterator<Item = &'k HolderKey>) -> (Vec<&'k str>, Vec<&'k str>) {
    keys.into_iter().map(|key| (key.spiffe_id.as_str(), key.instance.as_str())).unzip()
}

/// Holders as they are stored, and as they are to be.
#[derive(Default)]
pub(super) struct Loaded {
    before: BTreeMap<HolderKey, HolderRow>,
    pub(super) now: BTreeMap<HolderKey, HolderRow>,
    pub(super) usage: BTreeMap<String, i64>,
    /// When the last certificate ends whose issuing CA nobody can tell.
    pub(super) unread_end: Option<i64>,
    raises: Raises,
}

impl Loaded {
    /// Reads the holders with these names, as far as there are any.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn read(connection: &mut PgConnection, keys: &BTreeSet<HolderKey>) -> Result<Self, sqlx::Error> {
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let (spiffe_ids, instances) = columns(keys);
        let rows = sqlx::query_as(READ).bind(spiffe_ids).bind(instances);
        let rows: Vec<HolderRow> = rows.fetch_all(connection).await?;
        let key = |row: &HolderRow| HolderKey { spiffe_id: row.spiffe_id.clone(), instance: row.instance.clone() };
        let before: BTreeMap<_, _> = rows.into_iter().map(|row| (key(&row), row)).collect();
        Ok(Self { now: before.clone(), before, ..Self::default() })
    }

    /// Enters what events say, in their order.
    pub(super) fn renew(&mut self, entered: &[Entered]) {
        let events: Vec<&AuditEvent> = entered.iter().map(Entered::event).collect();
        let issuer = |event: &AuditEvent| event.released().map(|what| what.authority.clone());
        // Whoever got certificates of two issuing CAs may use either: so one after the other.
        for run in events.chunk_by(|one, next| issuer(one) == issuer(next)) {
            let renewals = Renewals::of(run.iter().copied());
            for (key, renewal) in renewals.holders {
                let key = kept_key(&key);
                let row = match self.now.remove(&key) {
                    Some(row) => row.renewed(&renewal),
                    None => HolderRow::new(key.clone(), &renewal),
                };
                self.now.insert(key, row);
            }
            for (authority, end) in renewals.usage {
                let last = self.usage.entry(plain(authority)).or_insert(end);
                *last = end.max(*last);
            }
        }
        self.unread_end = entered.iter().filter_map(Entered::unread_end).chain(self.unread_end).max();
    }

    /// Notes what became of replies; `false` when that changes nothing.
    pub(super) fn mark<'m>(&mut self, marks: impl IntoIterator<Item = &'m Mark>, at: i64) -> bool {
        let seen = |mark: &'m Mark| {
            let row = self.now.get(&kept_key(&mark.reply.holder))?;
            Some((mark, Seen::of(row, &mark.reply)))
        };
        let marked = Marked::of(marks.into_iter().filter_map(seen), at);
        for (key, (sequence, serial)) in &marked.has {
            if let Some(row) = self.now.get_mut(&kept_key(key)) {
                hand_over(row, *sequence, serial);
            }
        }
        for reply in &marked.lost {
            let key = kept_key(&reply.holder);
            if self.now.get(&key).is_some_and(|row| Seen::of(row, reply).is_lost()) {
                self.now.remove(&key);
            }
        }
        for ((before, after), at) in &marked.raises.0 {
            self.raises.add(*before, *after, *at);
        }
        !marked.is_empty()
    }

    /// Notes an acknowledgement of the holder that is kept under this name, if there is one.
    pub(super) fn acknowledge(&mut self, key: &HolderKey, acknowledgement: &Acknowledgement) {
        if let Some(row) = self.now.get_mut(key) {
            row.acknowledge(acknowledgement, &mut self.raises);
        }
    }

    /// Notes whose pods are gone, under the names by which they are kept; gives of how many that was news.
    pub(super) fn leave<'g>(
        &mut self,
        gone: impl IntoIterator<Item = (&'g HolderKey, &'g str)>,
        seen_before: i64,
        at: i64,
    ) -> u64 {
        let news =
            |(key, serial)| u64::from(self.now.get_mut(key).is_some_and(|row| row.goes(serial, seen_before, at)));
        gone.into_iter().map(news).sum()
    }

    /// Notes what has reached whoever learns from where bundles are published in this cluster; gives of how many that was news.
    pub(super) fn publish(&mut self, of: &(&str, String), sequence: u64, at: i64) -> u64 {
        let Self { now, raises, .. } = self;
        now.values_mut().map(|row| u64::from(row.is_published(of, sequence, at, raises))).sum()
    }

    /// Whether a count for this moment does not hold after these changes. A renewal of a holder that is in it leaves it right:
    /// it counts where it did, for longer.
    fn miscounts(&self, counted_for: i64) -> bool {
        let counts_alike = |key: &HolderKey, row: &HolderRow| {
            self.before.get(key).is_some_and(|before| {
                before.not_after > counted_for
                    && (before.sequence, before.acknowledges, before.is_gone())
                        == (row.sequence, row.acknowledges, row.is_gone())
                    && (&before.authority, &before.former) == (&row.authority, &row.former)
            })
        };
        let gone = self.before.keys().any(|key| !self.now.contains_key(key));
        gone || self.changed().any(|(key, row)| !counts_alike(key, row))
    }

    fn changed(&self) -> impl Iterator<Item = (&HolderKey, &HolderRow)> {
        self.now.iter().filter(|(key, row)| self.before.get(key) != Some(row))
    }

    /// Writes what has changed, and that the log is entered as far as `bounds` say.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(super) async fn write(self, connection: &mut PgConnection, bounds: Bounds) -> Result<(), sqlx::Error> {
        let rows: Vec<&HolderRow> = self.changed().map(|(_, row)| row).collect();
        if !rows.is_empty() {
            write(connection, &rows).await?;
        }
        let gone: Vec<&HolderKey> = self.before.keys().filter(|key| !self.now.contains_key(key)).collect();
        if !gone.is_empty() {
            let (spiffe_ids, instances) = columns(gone);
            sqlx::query(DELETE).bind(spiffe_ids).bind(instances).execute(&mut *connection).await?;
        }
        if !self.usage.is_empty() {
            let (authorities, ends): (Vec<&str>, Vec<i64>) =
                self.usage.iter().map(|(authority, end)| (authority.as_str(), *end)).unzip();
            sqlx::query(USAGE).bind(authorities).bind(ends).execute(&mut *connection).await?;
        }
        if let Some(end) = self.unread_end {
            sqlx::query(UNREAD_USAGE).bind(end).execute(&mut *connection).await?;
        }
        if !self.raises.0.is_empty() {
            let column = |value: fn((&(i64, i64), &i64)) -> i64| self.raises.0.iter().map(value).collect::<Vec<_>>();
            let raises = sqlx::query(RAISES).bind(column(|((before, _), _)| *before));
            let raises = raises.bind(column(|((_, after), _)| *after)).bind(column(|(_, at)| *at));
            raises.execute(&mut *connection).await?;
        }
        let moved = i64::from(bounds.counted_for.is_some_and(|moment| self.miscounts(moment)));
        if moved > 0 || bounds.has_moved {
            let below = crate::store::holders::column(bounds.below);
            sqlx::query(MOVE).bind(below).bind(moved).execute(connection).await?;
        }
        Ok(())
    }
}

async fn write(connection: &mut PgConnection, rows: &[&HolderRow]) -> Result<(), sqlx::Error> {
    let text = |value: fn(&HolderRow) -> &str| rows.iter().map(|row| plain(value(row))).collect::<Vec<String>>();
    let maybe_text = |value: fn(&HolderRow) -> Option<&str>| {
        rows.iter().map(|row| value(row).map(plain)).collect::<Vec<Option<String>>>()
    };
    let number = |value: fn(&HolderRow) -> i64| rows.iter().map(|row| value(row)).collect::<Vec<i64>>();
    let maybe_number =
        |value: fn(&HolderRow) -> Option<i64>| rows.iter().map(|row| value(row)).collect::<Vec<Option<i64>>>();
    sqlx::query(WRITE)
        .bind(text(|row| &row.spiffe_id))
        .bind(text(|row| &row.instance))
        .bind(maybe_text(|row| row.pod.as_deref()))
        .bind(maybe_text(|row| row.node.as_deref()))
        .bind(maybe_text(|row| row.cluster.as_deref()))
        .bind(text(|row| &row.serial))
        .bind(text(|row| &row.authority))
        .bind(number(|row| row.not_after))
        .bind(number(|row| row.sequence))
        .bind(rows.iter().map(|row| row.acknowledges).collect::<Vec<bool>>())
        .bind(number(|row| row.seen_at))
        .bind(maybe_number(|row| row.refused_sequence))
        .bind(maybe_text(|row| row.refused.as_deref()))
        .bind(maybe_number(|row| row.first_bundle))
        .bind(text(|row| &row.former))
        .bind(maybe_number(|row| row.gone_at))
        .execute(connection)
        .await
        .map(drop)
}
