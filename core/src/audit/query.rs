//! Questions to the audit log: filters, and pages that stay stable while events are added.

use std::time::Duration;

use time::OffsetDateTime;

use super::event::{AuditEvent, EventKind, Outcome};
use super::stored::UnreadEvent;
use crate::certificate::Serial;
use crate::clock::rfc3339;

/// The largest page.
pub const MAX_PAGE: u32 = 1000;

/// How far clocks of replicas may be apart for an end in time to be exact: the log is not in the order of its times.
pub const ROOM: Duration = Duration::from_secs(60);

/// How many authorities a question may name.
pub const MAX_AUTHORITIES: usize = 256;

/// The longest text of a filter: that of a SPIFFE ID (SPIFFE-ID section 2.3).
const MAX_TEXT: usize = 2048;

/// How many digits the beginning of a serial number has at least.
const SERIAL_PREFIX: usize = 6;

/// A filter that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The page size is zero or above [`MAX_PAGE`].
    #[error("a page holds 1 to {MAX_PAGE} events, not {0}")]
    PageSize(u32),
    /// Not so many hexadecimal digits as it takes.
    #[error("{field}: {given:?} is not {wanted}")]
    Digits {
        /// The name of the filter.
        field: &'static str,
        /// What it takes.
        wanted: &'static str,
        /// What was given, cut where it is long.
        given: String,
    },
    /// A text that nothing on record can have.
    #[error("{field}: a text of 1 to {MAX_TEXT} bytes is wanted, not one of {length}")]
    Length {
        /// The name of the filter.
        field: &'static str,
        /// How many bytes were given.
        length: usize,
    },
    /// An end before the beginning, between which nothing can be.
    #[error("{field}: {} is before {}, where `{begin}` begins", rfc3339(*.end), rfc3339(*.start))]
    Order {
        /// The name of the filter that says the end.
        field: &'static str,
        /// The end.
        end: OffsetDateTime,
        /// The name of the filter that says the beginning.
        begin: &'static str,
        /// The beginning.
        start: OffsetDateTime,
    },
    /// More than [`MAX_AUTHORITIES`].
    #[error("authorities: at most {MAX_AUTHORITIES} can be asked for at once, not {0}")]
    Authorities(usize),
}

/// Which events to return; all filters must hold. One that is `None`, or empty, holds for every event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Exactly this SPIFFE ID.
    pub spiffe_id: Option<String>,
    /// A SPIFFE ID that begins so, byte by byte: `spiffe://cluster.local/ns/shop/` is a namespace.
    pub spiffe_id_prefix: Option<String>,
    /// Kubernetes namespace of the caller.
    pub namespace: Option<String>,
    /// Kubernetes service account of the caller, in whichever namespace.
    pub service_account: Option<String>,
    /// Name of the caller's pod, in whichever namespace.
    pub pod: Option<String>,
    /// Name of the node that the caller runs on.
    pub node: Option<String>,
    /// Cluster of the caller.
    pub cluster: Option<String>,
    /// At or after this time.
    pub since: Option<OffsetDateTime>,
    /// At or before this time. What a replica has recorded whose clock was more than [`ROOM`] behind the others may be left
    /// out.
    pub until: Option<OffsetDateTime>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Only this kind of event.
    pub kind: Option<EventKind>,
    /// Why it did not go well: a word of the closed set, like `token_expired`.
    pub reason: Option<String>,
    /// Only the certificate with this serial.
    pub serial: Option<Serial>,
    /// Certificates whose serial number, as it is shown, begins with these hexadecimal digits: 6 or more, in small letters.
    pub serial_prefix: Option<String>,
    /// SHA-256 of the SubjectPublicKeyInfo that was certified, as 64 hexadecimal digits in small letters.
    pub key_hash: Option<String>,
    /// SHA-256 of the certificate (DER), as 64 hexadecimal digits in small letters. Events of versions that did not record
    /// it have none.
    pub fingerprint: Option<String>,
    /// Signed by one of these issuing CAs, by their ids. Who asks for a root names its issuing CAs.
    pub authorities: Vec<String>,
    /// Certificates that end before this time.
    pub expires_before: Option<OffsetDateTime>,
    /// Certificates that end at this time or after it: with the present, those that are still valid.
    pub expires_after: Option<OffsetDateTime>,
    /// Only what was asked for with the client certificate of this serial number (hexadecimal, in small letters).
    pub shown: Option<String>,
    /// The events of this request.
    pub request_id: Option<String>,
    /// Only events before this sequence number: the cursor of the page before.
    pub before: Option<u64>,
    /// How many events at most, those that cannot be read included.
    pub limit: u32,
}

impl AuditQuery {
    /// A query without filters for the newest `limit` events.
    ///
    /// # Errors
    /// [`QueryError::PageSize`].
    pub fn newest(limit: u32) -> Result<Self, QueryError> {
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(QueryError::PageSize(limit));
        }
        Ok(Self {
            spiffe_id: None,
            spiffe_id_prefix: None,
            namespace: None,
            service_account: None,
            pod: None,
            node: None,
            cluster: None,
            since: None,
            until: None,
            outcome: None,
            kind: None,
            reason: None,
            serial: None,
            serial_prefix: None,
            key_hash: None,
            fingerprint: None,
            authorities: Vec::new(),
            expires_before: None,
            expires_after: None,
            shown: None,
            request_id: None,
            before: None,
            limit,
        })
    }

    /// The same as storage takes it, with digits without colons and in small letters; all filters that are of no use at once.
    ///
    /// # Errors
    /// [`QueryError`], one for each mistake.
    pub fn checked(mut self) -> Result<Self, Vec<QueryError>> {
        const SERIAL: &str = "the beginning of a serial number, which is 6 to 40 hexadecimal digits";
        const HASH: &str = "a SHA-256, which is 64 hexadecimal digits";
        const SHOWN: &str = "a serial number, which is 2 to 40 hexadecimal digits";
        let mut wrong = Vec::new();
        if !(1..=MAX_PAGE).contains(&self.limit) {
            wrong.push(QueryError::PageSize(self.limit));
        }
        for (field, digits, lengths, wanted) in [
            ("serial_prefix", &mut self.serial_prefix, SERIAL_PREFIX..=40, SERIAL),
            ("key_hash", &mut self.key_hash, 64..=64, HASH),
            ("fingerprint", &mut self.fingerprint, 64..=64, HASH),
            // Who signs with a stolen key gives any serial number that a certificate may have (RFC 5280 section 4.1.2.2).
            ("shown", &mut self.shown, 2..=40, SHOWN),
        ] {
            let Some(given) = digits else { continue };
            let bare: String = given.chars().filter(|digit| *digit != ':').collect::<String>().to_ascii_lowercase();
            if lengths.contains(&bare.len()) && bare.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                *given = bare;
            } else {
                wrong.push(QueryError::Digits { field, wanted, given: given.chars().take(80).collect() });
            }
        }
        let texts = [
            ("spiffe_id", &self.spiffe_id),
            ("spiffe_id_prefix", &self.spiffe_id_prefix),
            ("namespace", &self.namespace),
            ("service_account", &self.service_account),
            ("pod", &self.pod),
            ("node", &self.node),
            ("cluster", &self.cluster),
            ("reason", &self.reason),
            ("request_id", &self.request_id),
        ];
        let texts = texts.into_iter().filter_map(|(field, text)| Some((field, text.as_ref()?.len())));
        let authorities = self.authorities.iter().map(|id| ("authorities", id.len()));
        let bad = texts.chain(authorities).filter(|(_, length)| !(1..=MAX_TEXT).contains(length));
        wrong.extend(bad.map(|(field, length)| QueryError::Length { field, length }));
        for (field, end, begin, start) in [
            ("until", self.until, "since", self.since),
            ("expires_before", self.expires_before, "expires_after", self.expires_after),
        ] {
            if let (Some(end), Some(start)) = (end, start)
                && end < start
            {
                wrong.push(QueryError::Order { field, end, begin, start });
            }
        }
        if self.authorities.len() > MAX_AUTHORITIES {
            wrong.push(QueryError::Authorities(self.authorities.len()));
        }
        if wrong.is_empty() { Ok(self) } else { Err(wrong) }
    }

    /// Whether all filters hold but the cursor.
    #[must_use]
    pub fn matches(&self, event: &AuditEvent) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        let (who, what) = (&event.who, event.what.as_ref());
        is(self.spiffe_id.as_ref(), who.spiffe_id.as_ref())
            && begins(self.spiffe_id_prefix.as_ref(), who.spiffe_id.as_ref())
            && is(self.namespace.as_ref(), who.namespace.as_ref())
            && is(self.service_account.as_ref(), who.service_account.as_ref())
            && is(self.pod.as_ref(), who.pod.as_ref())
            && is(self.node.as_ref(), who.node.as_ref())
            && is(self.cluster.as_ref(), who.cluster.as_ref())
            && is(self.shown.as_ref(), who.certificate.as_ref())
            && is(self.request_id.as_ref(), Some(&event.request_id))
            && is(self.reason.as_ref(), event.reason.as_ref())
            && is(self.kind.as_ref(), Some(&event.kind))
            && is(self.outcome.as_ref(), Some(&event.outcome))
            && self.since.is_none_or(|since| event.at_micros >= AuditEvent::micros(since))
            && self.until.is_none_or(|until| event.at_micros <= AuditEvent::micros(until))
            && self.serial.is_none_or(|wanted| what.and_then(|what| what.serial()) == Some(wanted))
            && begins(self.serial_prefix.as_ref(), what.map(|what| &what.serial))
            && is(self.key_hash.as_ref(), what.map(|what| &what.key_hash))
            && is(self.fingerprint.as_ref(), what.and_then(|what| what.fingerprint.as_ref()))
            && (self.authorities.is_empty() || what.is_some_and(|what| self.authorities.contains(&what.authority)))
            && self.ends_in_time(what.map(|what| what.not_after))
    }

    /// Whether a certificate that ends then is asked for; `None` for what is no certificate.
    fn ends_in_time(&self, not_after: Option<i64>) -> bool {
        if self.expires_before.is_none() && self.expires_after.is_none() {
            return true;
        }
        let in_time = |not_after: i64| {
            self.expires_before.is_none_or(|end| micros(not_after) < AuditEvent::micros(end))
                && self.expires_after.is_none_or(|begin| micros(not_after) >= AuditEvent::micros(begin))
        };
        not_after.is_some_and(in_time)
    }
}

fn micros(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000)
}

fn begins(wanted: Option<&String>, found: Option<&String>) -> bool {
    wanted.is_none_or(|wanted| found.is_some_and(|found| found.starts_with(wanted.as_str())))
}

/// One page of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The results, newest first. Fewer than were asked for, or none, also where `next` is given: storage looks through a
    /// bounded part of the log for each page.
    pub items: Vec<T>,
    /// Events between them that may be results but cannot be read, newest first. Whoever concludes something from what is
    /// not among the results looks here, too.
    pub unread: Vec<UnreadEvent>,
    /// What to pass as `before` for the next page; `None` when this is the last one.
    pub next: Option<u64>,
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
