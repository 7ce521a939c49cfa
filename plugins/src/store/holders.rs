//! How events and acknowledgements change what is known about holders, the same for every database.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use signet_core::audit::{AuditEvent, Certified};
use signet_core::holder::{Acknowledgement, Coverage, Holder, HolderKey};
use signet_core::rotation::AuthorityId;
use signet_core::seams::store::StoreError;
use time::{Duration, OffsetDateTime};

/// One holder as its columns hold it: times in seconds since 1970, but `seen_at` in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "sqlite", derive(sqlx::FromRow))]
pub(super) struct HolderRow {
    pub(super) spiffe_id: String,
    pub(super) instance: String,
    pub(super) pod: Option<String>,
    pub(super) node: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) serial: String,
    pub(super) authority: String,
    pub(super) not_after: i64,
    pub(super) sequence: i64,
    pub(super) acknowledges: bool,
    pub(super) seen_at: i64,
    pub(super) refused_sequence: Option<i64>,
    pub(super) refused: Option<String>,
}

impl HolderRow {
    /// A holder that was not known before.
    pub(super) fn new(key: HolderKey, renewal: &Renewal<'_>) -> Self {
        let (who, what) = (&renewal.newest.who, renewal.what);
        Self {
            spiffe_id: key.spiffe_id,
            instance: key.instance,
            pod: who.pod.clone(),
            node: who.node.clone(),
            cluster: who.cluster.clone(),
            serial: what.serial.clone(),
            authority: what.authority.clone(),
            not_after: renewal.not_after,
            sequence: renewal.sequence,
            acknowledges: renewal.acknowledges,
            seen_at: renewal.seen_at,
            refused_sequence: None,
            refused: None,
        }
    }

    /// A known holder after newer certificates.
    pub(super) fn renewed(self, renewal: &Renewal<'_>) -> Self {
        let key = HolderKey { spiffe_id: self.spiffe_id, instance: self.instance };
        let newer = Self::new(key, renewal);
        Self {
            not_after: self.not_after.max(newer.not_after),
            sequence: if self.acknowledges { self.sequence } else { self.sequence.max(newer.sequence) },
            acknowledges: self.acknowledges || newer.acknowledges,
            seen_at: self.seen_at.max(newer.seen_at),
            refused_sequence: self.refused_sequence,
            refused: self.refused,
            ..newer
        }
    }

    /// Notes an acknowledgement of this holder.
    pub(super) fn acknowledge(&mut self, acknowledgement: &Acknowledgement) {
        let sequence = column(acknowledgement.sequence);
        if acknowledgement.refused.is_none() {
            self.sequence = self.sequence.max(sequence);
        }
        self.refused_sequence = acknowledgement.refused.is_some().then_some(sequence);
        self.refused.clone_from(&acknowledgement.refused);
        self.seen_at = self.seen_at.max(AuditEvent::micros(acknowledgement.at));
    }

    /// The holder that the row describes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a column holds what was never written.
    pub(super) fn into_holder(self) -> Result<Holder, StoreError> {
        let damaged = |what: &str| StoreError::Damaged(format!("holder {} has no valid {what}", self.spiffe_id));
        let seen_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.seen_at).saturating_mul(1000));
        Ok(Holder {
            authority: authority(&self.authority)?,
            not_after: seconds(self.not_after).ok_or_else(|| damaged("end"))?,
            sequence: self.sequence.unsigned_abs(),
            acknowledges: self.acknowledges,
            seen_at: seen_at.map_err(|_| damaged("time"))?,
            refused: self.refused_sequence.map(i64::unsigned_abs).zip(self.refused),
            key: HolderKey { spiffe_id: self.spiffe_id, instance: self.instance },
            pod: self.pod,
            node: self.node,
            cluster: self.cluster,
            serial: self.serial,
        })
    }
}

/// What the certificates of one batch change for one holder.
pub(super) struct Renewal<'a> {
    /// The event of the newest of them.
    pub(super) newest: &'a AuditEvent,
    /// What that one certified.
    pub(super) what: &'a Certified,
    /// The latest end of them.
    pub(super) not_after: i64,
    /// The newest bundle that the replies count as received; 0 for none.
    pub(super) sequence: i64,
    /// Whether the holder acknowledges bundles itself. Once it does, no reply to another client in the same pod counts.
    pub(super) acknowledges: bool,
    /// The latest time of them, microseconds since 1970.
    pub(super) seen_at: i64,
}

/// What a batch of recorded events changes.
#[derive(Default)]
pub(super) struct Renewals<'a> {
    /// One change per holder, in the order of their keys, so that neighbours in storage follow each other.
    pub(super) holders: BTreeMap<HolderKey, Renewal<'a>>,
    /// The latest end of a certificate of each issuing CA.
    pub(super) usage: BTreeMap<&'a str, i64>,
}

impl<'a> Renewals<'a> {
    /// Sums up recorded events, given in their order.
    pub(super) fn of(events: impl IntoIterator<Item = &'a AuditEvent>) -> Self {
        let mut all = Self::default();
        for event in events {
            if let (Some(key), Some(what)) = (event.holder(), &event.what) {
                all.add(key, event, what);
            }
        }
        all
    }

    fn add(&mut self, key: HolderKey, event: &'a AuditEvent, what: &'a Certified) {
        let (not_after, seen_at) = (what.not_after, event.at_micros);
        // A holder that acknowledges has received a bundle when it says so.
        let sequence = if what.acknowledges { 0 } else { column(what.bundle_sequence) };
        let last = self.usage.entry(&what.authority).or_insert(not_after);
        *last = not_after.max(*last);
        match self.holders.entry(key) {
            Entry::Vacant(vacant) => {
                let acknowledges = what.acknowledges;
                vacant.insert(Renewal { newest: event, what, not_after, sequence, acknowledges, seen_at });
            }
            Entry::Occupied(mut occupied) => {
                let renewal = occupied.get_mut();
                let acknowledges = what.acknowledges || renewal.acknowledges;
                *renewal = Renewal {
                    newest: event,
                    what,
                    not_after: not_after.max(renewal.not_after),
                    sequence: if acknowledges { renewal.sequence } else { sequence.max(renewal.sequence) },
                    acknowledges,
                    seen_at: seen_at.max(renewal.seen_at),
                };
            }
        }
    }
}

/// A sequence number as a column.
pub(super) fn column(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// A certificate ends after `now` exactly when its column `not_after` is larger than this.
pub(super) fn live_above(now: OffsetDateTime) -> i64 {
    now.unix_timestamp()
}

/// A certificate has ended before `before` exactly when its column `not_after` is smaller than this.
pub(super) fn ended_below(before: OffsetDateTime) -> i64 {
    let part = i64::from(before.nanosecond() > 0);
    before.unix_timestamp().saturating_add(part)
}

/// The time that a column of seconds names.
fn seconds(column: i64) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::UNIX_EPOCH.checked_add(Duration::seconds(column));
    time.filter(|time| time.unix_timestamp() == column)
}

/// The issuing CA that a column names.
///
/// # Errors
/// [`StoreError::Damaged`] when it is none.
fn authority(column: &str) -> Result<AuthorityId, StoreError> {
    AuthorityId::deserialize(column.into_deserializer()).map_err(|error: serde::de::value::Error| {
        StoreError::Damaged(format!("{column} does not name an issuing CA: {error}"))
    })
}

/// Live holders of one issuing CA and bundle: authority, sequence, how many, how many of them acknowledge.
pub(super) type Group = (String, i64, i64, i64);

/// Adds up groups.
///
/// # Errors
/// As [`authority`].
pub(super) fn coverage<G: IntoIterator<Item = Group>>(groups: G) -> Result<Coverage, StoreError> {
    let mut coverage = Coverage::default();
    for (issuer, sequence, holders, acknowledging) in groups {
        let count = coverage.by_sequence.entry(sequence.unsigned_abs()).or_default();
        count.holders += holders.unsigned_abs();
        count.acknowledging += acknowledging.unsigned_abs();
        *coverage.by_authority.entry(authority(&issuer)?).or_default() += holders.unsigned_abs();
    }
    Ok(coverage)
}

/// When the last certificate of each issuing CA ends, from its columns.
///
/// # Errors
/// [`StoreError::Damaged`] when one holds what was never written.
pub(super) fn last_ends<R: IntoIterator<Item = (String, i64)>>(
    rows: R,
) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
    let end = |(issuer, end): (String, i64)| {
        let damaged = || StoreError::Damaged(format!("authority {issuer} has no valid end of use"));
        Ok((authority(&issuer)?, seconds(end).ok_or_else(damaged)?))
    };
    rows.into_iter().map(end).collect()
}
