//! How events, marks and acknowledgements change what is known about holders, the same for every database.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use signet_core::audit::{AuditEvent, Certified};
use signet_core::authority::AuthorityId;
use signet_core::holder::{Acknowledgement, Coverage, Holder, HolderKey, HolderQuery, Lag, Raise};
use signet_core::seams::store::StoreError;
use time::{Duration, OffsetDateTime};

use super::columns::columns;

/// One holder as its columns hold it: times in seconds since 1970, but `seen_at` in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The bundle that came with its only certificate; `None` once it has got another one.
    pub(super) first_bundle: Option<i64>,
    /// Issuing CAs of earlier certificates, each followed by a space, until it is known to have the newest.
    pub(super) former: String,
    /// When its pod was found to be gone, microseconds since 1970. It holds while it is after `seen_at`.
    pub(super) gone_at: Option<i64>,
}

columns!(HolderRow {
    spiffe_id, instance, pod, node, cluster, serial, authority, not_after, sequence, acknowledges, seen_at,
    refused_sequence, refused, first_bundle, former, gone_at,
} from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

/// The sequence that a holder is taken to have had before it is counted: a first certificate comes with its bundle.
pub(super) fn had(sequence: i64, first_bundle: Option<i64>) -> i64 {
    if sequence == 0 { first_bundle.unwrap_or_default() } else { sequence }
}

impl HolderRow {
    /// A holder that was not known before. It has received nothing yet.
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
            sequence: 0,
            acknowledges: renewal.acknowledges,
            seen_at: renewal.seen_at,
            refused_sequence: None,
            refused: None,
            first_bundle: renewal.first_bundle,
            former: String::new(),
            gone_at: None,
        }
    }

    /// A known holder after newer certificates of one issuing CA. It has received no more than before.
    pub(super) fn renewed(self, renewal: &Renewal<'_>) -> Self {
        let key = HolderKey { spiffe_id: self.spiffe_id, instance: self.instance };
        let newer = Self::new(key, renewal);
        let mut former = self.former;
        if self.authority != newer.authority && !former.contains(&self.authority) {
            former = format!("{former}{} ", self.authority);
        }
        Self {
            not_after: self.not_after.max(newer.not_after),
            sequence: self.sequence,
            first_bundle: None,
            former,
            acknowledges: self.acknowledges || newer.acknowledges,
            seen_at: self.seen_at.max(newer.seen_at),
            refused_sequence: self.refused_sequence,
            refused: self.refused,
            gone_at: self.gone_at,
            ..newer
        }
    }

    /// Whether its pod is gone, and nothing was heard of it since.
    pub(super) fn is_gone(&self) -> bool {
        self.gone_at.is_some_and(|at| at > self.seen_at)
    }

    /// Notes at `at` that its pod is gone; `false` when that is no news, or something was heard of it at `seen_before` or later.
    pub(super) fn goes(&mut self, serial: &str, seen_before: i64, at: i64) -> bool {
        let news = self.serial == serial && self.seen_at < seen_before && self.seen_at < at && !self.is_gone();
        if news {
            self.gone_at = Some(at);
        }
        news
    }

    /// Notes at `at` that the bundle of this sequence has reached whoever learns from where bundles are published in this
    /// cluster; `false` when that is no news.
    pub(super) fn is_published(&mut self, of: &(&str, String), sequence: u64, at: i64, raises: &mut Raises) -> bool {
        let (sequence, (cluster, kubelets)) = (column(sequence), of);
        let is_there = self.instance.starts_with(kubelets) && self.cluster.as_deref() == Some(cluster);
        let news = is_there && self.sequence < sequence;
        if news {
            raises.add(had(self.sequence, self.first_bundle), sequence, at);
            self.sequence = sequence;
        }
        news
    }

    /// The group in which it is counted.
    pub(super) fn group(&self) -> Group {
        let acknowledging = i64::from(self.acknowledges);
        (self.authority.clone(), self.former.clone(), self.sequence, 1, acknowledging, self.is_gone())
    }

    /// Whether the certificate in use is, or may be, one of this issuing CA.
    pub(super) fn may_use(&self, issuing: &AuthorityId) -> bool {
        self.authority == issuing.as_str() || self.former.contains(issuing.as_str())
    }

    /// Whether a query asks for it: its cursor and its filters, but not how many.
    pub(super) fn is_asked_for(&self, query: &HolderQuery) -> bool {
        let key = |key: &HolderKey| {
            (self.spiffe_id.as_str(), self.instance.as_str()) > (key.spiffe_id.as_str(), key.instance.as_str())
        };
        self.not_after > live_above(query.now)
            && query.after.as_ref().is_none_or(key)
            && query.behind.is_none_or(|behind| self.sequence < column(behind) && !self.is_gone())
            && (query.authorities.is_empty() || query.authorities.iter().any(|one| self.may_use(one)))
    }

    /// Notes an acknowledgement of this holder.
    pub(super) fn acknowledge(&mut self, acknowledgement: &Acknowledgement, raises: &mut Raises) {
        let sequence = column(acknowledgement.sequence);
        if acknowledgement.refused.is_none() {
            raises.add(had(self.sequence, self.first_bundle), sequence, AuditEvent::micros(acknowledgement.at));
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
        let former = self.former.split_whitespace().filter(|one| *one != self.authority);
        let gone_at = self.gone_at.filter(|_| self.is_gone());
        Ok(Holder {
            authority: authority(&self.authority)?,
            former: former.map(authority).collect::<Result<_, _>>()?,
            not_after: seconds(self.not_after).ok_or_else(|| damaged("end"))?,
            sequence: self.sequence.unsigned_abs(),
            acknowledges: self.acknowledges,
            seen_at: micros(self.seen_at).ok_or_else(|| damaged("time"))?,
            gone_at: gone_at.map(|at| micros(at).ok_or_else(|| damaged("time"))).transpose()?,
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
    /// The bundle that came with it, when it is the only one.
    pub(super) first_bundle: Option<i64>,
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
        let last = self.usage.entry(&what.authority).or_insert(not_after);
        *last = not_after.max(*last);
        match self.holders.entry(key) {
            Entry::Vacant(vacant) => {
                let (first_bundle, acknowledges) = (Some(column(what.bundle_sequence)), what.acknowledges);
                vacant.insert(Renewal { newest: event, what, not_after, first_bundle, acknowledges, seen_at });
            }
            Entry::Occupied(mut occupied) => {
                let renewal = occupied.get_mut();
                let acknowledges = what.acknowledges || renewal.acknowledges;
                *renewal = Renewal {
                    newest: event,
                    what,
                    not_after: not_after.max(renewal.not_after),
                    first_bundle: None,
                    acknowledges,
                    seen_at: seen_at.max(renewal.seen_at),
                };
            }
        }
    }
}

/// One [`Raise`] as its columns hold it: before, after, when in microseconds since 1970.
pub(super) type RaiseRow = (i64, i64, i64);

/// When holders that had been behind were counted: before, after, and the last time.
#[derive(Default)]
pub(super) struct Raises(pub(super) BTreeMap<(i64, i64), i64>);

impl Raises {
    /// Notes that a holder had `before` and has `after`, if that is more.
    pub(super) fn add(&mut self, before: i64, after: i64, at: i64) {
        if after > before {
            let last = self.0.entry((before, after)).or_insert(at);
            *last = at.max(*last);
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

/// The time that a column of microseconds names.
pub(super) fn micros(column: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(column).saturating_mul(1000)).ok()
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

/// Live holders of one issuing CA and bundle: authority, former ones, sequence, how many, how many of them acknowledge, and
/// whether their pods are gone.
pub(super) type Group = (String, String, i64, i64, i64, bool);

/// Adds up groups; `raised` goes with them.
///
/// # Errors
/// As [`authority`]; also when a time was never written.
pub(super) fn coverage<G, R>(groups: G, raised: R) -> Result<Coverage, StoreError>
where
    G: IntoIterator<Item = Group>,
    R: IntoIterator<Item = RaiseRow>,
{
    let raise = |(before, after, at): RaiseRow| {
        let damaged = || StoreError::Damaged(format!("the raise of holders to bundle {after} has no valid time"));
        let at = micros(at).ok_or_else(damaged)?;
        Ok(Raise { before: before.unsigned_abs(), after: after.unsigned_abs(), at })
    };
    let raised = raised.into_iter().map(raise).collect::<Result<_, StoreError>>()?;
    let mut coverage = Coverage { raised, ..Coverage::default() };
    for (issuer, former, sequence, holders, acknowledging, is_gone) in groups {
        if is_gone {
            coverage.gone += holders.unsigned_abs();
        } else {
            let count = coverage.by_sequence.entry(sequence.unsigned_abs()).or_default();
            count.holders += holders.unsigned_abs();
            count.acknowledging += acknowledging.unsigned_abs();
        }
        let former = former.split_whitespace().filter(|one| *one != issuer);
        for issuer in former.chain([issuer.as_str()]) {
            *coverage.by_authority.entry(authority(issuer)?).or_default() += holders.unsigned_abs();
        }
    }
    Ok(coverage)
}

/// How many refuse bundles, and when the last one ends of those that lag, as a statement counts them.
pub(super) type LagRow = (i64, Option<i64>);

/// What such a row says.
///
/// # Errors
/// [`StoreError::Damaged`] when a column holds a time that was never written.
pub(super) fn lag((refusing, last_end): LagRow) -> Result<Lag, StoreError> {
    let damaged = || StoreError::Damaged("the last end of holders that lag is no valid time".to_owned());
    let last_end = last_end.map(|end| seconds(end).ok_or_else(damaged)).transpose()?;
    Ok(Lag { refusing: refusing.unsigned_abs(), last_end })
}

/// The same of rows that are at hand, of which those count that end after `now`.
pub(super) fn lag_of<'a>(rows: impl IntoIterator<Item = &'a HolderRow>, now: OffsetDateTime, sequence: u64) -> LagRow {
    let live = rows.into_iter().filter(|row| row.not_after > live_above(now) && !row.is_gone());
    live.fold((0, None), |(refusing, last_end), row| {
        let end = (row.sequence < column(sequence)).then_some(row.not_after);
        (i64::saturating_add(refusing, row.refused_sequence.is_some().into()), last_end.max(end))
    })
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
