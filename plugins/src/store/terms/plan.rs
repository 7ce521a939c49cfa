//! By which words the events of a query are found, and where the rows of pieces say that they may be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use signet_core::audit::AuditQuery;

use super::super::columns::columns;
use super::piece::{Places, read};
use super::{ENDS, Field, OWN_SERIAL, SERIAL_DIGITS, Term, UNREAD, key, unit};

/// How many SPIFFE IDs with a prefix are looked for by their own words. Where there are more, each event is looked at.
pub(in super::super) const MAX_IDENTITIES: usize = 1024;

/// How many rows a statement asks for at most, in buckets of segments.
const AT_ONCE: u64 = 1024;

/// The entries of one bucket in one piece.
pub(in super::super) struct TermRow {
    pub(in super::super) key: i64,
    pub(in super::super) piece: i64,
    pub(in super::super) entries: Vec<u8>,
}

columns!(TermRow { key, piece, entries } from
    #[cfg(feature = "postgres")] sqlx::postgres::PgRow,
    #[cfg(feature = "sqlite")] sqlx::sqlite::SqliteRow);

/// One filter: any of these will do.
#[derive(Debug)]
enum Group {
    /// By bucket.
    Terms(BTreeMap<u8, BTreeSet<u32>>),
    /// Certificates that end in one of these units.
    Ends(RangeInclusive<u32>),
}

impl Group {
    fn any_of(terms: impl IntoIterator<Item = Term>) -> Self {
        let mut buckets: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
        for term in terms {
            buckets.entry(term.bucket).or_default().insert(term.hash);
        }
        Self::Terms(buckets)
    }

    fn buckets(&self) -> Vec<u8> {
        match self {
            Self::Terms(buckets) => buckets.keys().copied().collect(),
            Self::Ends(_) => vec![ENDS],
        }
    }

    /// Where it is true, by the entries of each bucket of a piece.
    fn places(&self, rows: &BTreeMap<u8, &[u8]>) -> Option<Places> {
        match self {
            Self::Terms(buckets) => buckets.iter().try_fold(Places::NONE, |found, (bucket, hashes)| {
                let Some(entries) = rows.get(bucket) else { return Some(found) };
                Some(found.with(&read(entries, |hash| hashes.contains(&hash))?))
            }),
            Self::Ends(units) => {
                rows.get(&ENDS).map_or(Some(Places::NONE), |entries| read(entries, |unit| units.contains(&unit)))
            }
        }
    }
}

/// What must be true at once of the events that are looked for, as far as words say it.
#[derive(Debug)]
pub(in super::super) struct Plan {
    groups: Vec<Group>,
    buckets: Vec<u8>,
}

impl Plan {
    /// The plan of a query. `identities` are those that begin with its prefix, if it has one and they are not too many.
    pub(in super::super) fn new(query: &AuditQuery, identities: Option<&[String]>) -> Self {
        let texts = [
            (Field::Identity, &query.spiffe_id),
            (Field::Namespace, &query.namespace),
            (Field::ServiceAccount, &query.service_account),
            (Field::Pod, &query.pod),
            (Field::Node, &query.node),
            (Field::Cluster, &query.cluster),
            (Field::Reason, &query.reason),
            (Field::KeyHash, &query.key_hash),
            (Field::Fingerprint, &query.fingerprint),
            (Field::Shown, &query.shown),
            (Field::Request, &query.request_id),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some(Term::text(field, text.as_deref()?)));
        let numbers = [
            (Field::Outcome, query.outcome.map(|outcome| outcome.number())),
            (Field::Kind, query.kind.map(|kind| kind.number())),
        ];
        let numbers = numbers.into_iter().filter_map(|(field, number)| Some(Term::number(field, number?)));
        let mut groups: Vec<Group> = texts.chain(numbers).map(|term| Group::any_of([term])).collect();
        if let (Some(prefix), Some(identities)) = (&query.spiffe_id_prefix, identities) {
            // The prefix itself stands for those that begin so when there is none.
            let all = identities.iter().chain([prefix]);
            groups.push(Group::any_of(all.map(|id| Term::text(Field::Identity, id))));
        }
        groups.extend(query.serial_prefix.as_deref().map(by_serial));
        if !query.authorities.is_empty() {
            groups.push(Group::any_of(query.authorities.iter().map(|id| Term::text(Field::Authority, id))));
        }
        if query.expires_after.is_some() || query.expires_before.is_some() {
            let from = query.expires_after.map_or(0, |from| unit(from.unix_timestamp()));
            let to = query.expires_before.map_or(UNREAD - 1, |to| unit(to.unix_timestamp()));
            groups.push(Group::Ends(from..=to));
        }
        let buckets: BTreeSet<u8> = groups.iter().flat_map(Group::buckets).collect();
        Self { groups, buckets: buckets.into_iter().collect() }
    }

    /// Whether words say nothing of what is looked for.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many segments can be looked into with one statement.
    pub(in super::super) fn segments_at_once(&self) -> u64 {
        let buckets = u64::try_from(self.buckets.len()).unwrap_or(u64::MAX).max(1);
        (AT_ONCE / buckets).max(1)
    }

    /// The keys of all rows that say something, of these segments.
    pub(in super::super) fn keys(&self, segments: RangeInclusive<u64>) -> Vec<i64> {
        segments.flat_map(|segment| self.buckets.iter().map(move |bucket| key(segment, *bucket))).collect()
    }

    /// The positions within `range` that may be those of what is looked for, newest first. Gives the number of a piece in the
    /// place of them whose rows are no entries.
    pub(in super::super) fn positions(&self, rows: &[TermRow], range: Range<u64>) -> Result<Vec<u64>, i64> {
        let mut pieces: BTreeMap<i64, BTreeMap<u8, &[u8]>> = BTreeMap::new();
        for row in rows {
            let [.., bucket] = row.key.to_be_bytes();
            pieces.entry(row.piece).or_default().insert(bucket, &row.entries);
        }
        let mut found = Vec::new();
        for (piece, rows) in pieces.into_iter().rev() {
            let mut places = Places::ALL;
            for group in &self.groups {
                places.and(&group.places(&rows).ok_or(piece)?);
            }
            found.extend(places.positions(piece.unsigned_abs()).filter(|position| range.contains(position)));
        }
        Ok(found)
    }
}

/// Certificates whose serial numbers begin with these digits.
fn by_serial(prefix: &str) -> Group {
    let [fewest, .., most] = SERIAL_DIGITS;
    let digits = prefix.len().min(most);
    let own = prefix.get(..digits).filter(|_| prefix.len() <= OWN_SERIAL).map(|it| Term::text(Field::SerialPrefix, it));
    let other = prefix.get(..fewest).map(|it| Term::text(Field::OtherSerialPrefix, it));
    Group::any_of(own.into_iter().chain(other))
}
