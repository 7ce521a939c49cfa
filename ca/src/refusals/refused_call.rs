//! One refusal, and what it is told together with.

use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome, Repeated};
use signet_core::caller::Peer;
use signet_core::seams::authenticator::AuthenticationError;
use time::OffsetDateTime;

use crate::client_address::Source;

/// Longest text of a record, in characters.
const DETAIL: usize = 500;

/// So many of the certificates that were shown are named, where they were not all the same.
const CERTIFICATES: usize = 6;

/// Who is refused. Each class has rows of its own, so that a flood of one hides nobody of another: what costs nothing to
/// send comes from strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// No signature of theirs was good.
    Strangers,
    /// The signature was good, and what it vouches for is not accepted: it has ended, say.
    Signed,
    /// They proved who they are.
    Callers,
    /// Of the operators' service: users of this host.
    LocalUsers,
    /// Of the operators' service: holders of a certificate of this mesh.
    Holders,
    /// Of the operators' service: those without a certificate.
    AdminStrangers,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Strangers, Self::Signed, Self::Callers, Self::LocalUsers, Self::Holders, Self::AdminStrangers];
}

/// One refusal, as a record of its own would tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCall {
    /// Among whom it is counted.
    pub class: Class,
    /// Who it was, in the words that make two refusals the same: a SPIFFE ID, a source, a user.
    pub subject: String,
    /// Where it came from, for one over the network.
    pub source: Option<Source>,
    /// What was asked for: one of a fixed set of names.
    pub call: &'static str,
    /// What kind of event it is.
    pub kind: EventKind,
    /// Whether the request or the CA was at fault.
    pub outcome: Outcome,
    /// Why: one of a closed set of names.
    pub reason: &'static str,
    /// Why, in words; bounded here.
    pub detail: String,
    /// The id of the request; empty where requests have none.
    pub request_id: String,
    /// Whom the record is about.
    pub who: Attributed,
}

impl RefusedCall {
    /// A refusal of a request for a certificate or a bundle stream. Whose it is follows from what was proved: the class
    /// of `who` that was authenticated, of a token that was signed by its cluster, or of a stranger.
    #[must_use]
    pub fn of_request(
        (kind, call): (EventKind, &'static str),
        (outcome, reason): (Outcome, &'static str),
        denied: Option<&AuthenticationError>,
        peer: Peer,
        who: Attributed,
    ) -> Self {
        let (class, who) = match denied {
            Some(AuthenticationError::Denied { claimed: Some(claimed), .. }) => {
                (Class::Signed, Attributed::to_claimed(claimed, peer.to_string()))
            }
            _ if who.auth_method.is_some() => (Class::Callers, who),
            _ => (Class::Strangers, who),
        };
        let source = Source::of(peer.0.map(|address| address.ip()));
        let subject = who.spiffe_id.clone().unwrap_or_else(|| source.to_string());
        let (detail, request_id) = (String::new(), String::new());
        Self { class, subject, source: Some(source), call, kind, outcome, reason, detail, request_id, who }
    }
}

/// Refusals that are told in one record: the newest one, with what is true of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) newest: RefusedCall,
    pub(super) times: u64,
    /// When the first of them was.
    pub(super) since: OffsetDateTime,
    /// The first different certificates that were shown, by serial number; one more than are named, when there were more.
    certificates: Vec<String>,
}

impl Summary {
    pub(super) fn one(refusal: RefusedCall, at: OffsetDateTime) -> Self {
        let certificates = refusal.who.certificate.iter().cloned().collect();
        Self { newest: refusal, times: 1, since: at, certificates }
    }

    /// The same with this request id, by which whoever was refused finds it.
    pub(super) fn under(mut self, request_id: &str) -> Self {
        request_id.clone_into(&mut self.newest.request_id);
        self
    }

    /// Adds later refusals.
    pub(super) fn add(&mut self, later: Self) {
        let earlier = std::mem::replace(&mut self.newest, later.newest);
        let newest = &mut self.newest;
        let (source, same) = (newest.source, newest.source == earlier.source);
        // A port is lost as soon as there are two; the source stays while there is one.
        if newest.who.peer != earlier.who.peer {
            newest.who.peer = source.filter(|_| same).map(|source| source.to_string());
        }
        let peer = newest.who.peer.clone();
        newest.who.keep_common(&earlier.who);
        newest.who.peer = peer;
        newest.source = source.filter(|_| same);
        self.times = self.times.saturating_add(later.times);
        self.since = self.since.min(later.since);
        for certificate in later.certificates {
            if self.certificates.len() <= CERTIFICATES && !self.certificates.contains(&certificate) {
                self.certificates.push(certificate);
            }
        }
    }

    /// Which certificates were shown, where `who` can name none because there were several.
    fn several(&self) -> String {
        let named = self.certificates.get(..CERTIFICATES).unwrap_or(&self.certificates);
        match (named, self.certificates.len() > named.len()) {
            ([] | [_], _) => String::new(),
            (named, false) => format!("; the certificates {} were shown", named.join(", ")),
            (named, true) => format!("; the certificates {} and others were shown", named.join(", ")),
        }
    }

    /// The record, made at `now`. The first of its kind is told as it was, when it was.
    pub(super) fn event(&self, first: bool, others: bool, now: OffsetDateTime) -> AuditEvent {
        let newest = &self.newest;
        let since_micros = AuditEvent::micros(self.since);
        let detail: String = match others && !first {
            true => format!("various callers; the newest: {}", newest.detail),
            false => newest.detail.clone(),
        };
        let several = self.several();
        let room = DETAIL.saturating_sub(several.chars().count());
        let detail = detail.chars().take(room).chain(several.chars()).collect();
        AuditEvent {
            at_micros: if first { since_micros } else { AuditEvent::micros(now) },
            request_id: newest.request_id.clone(),
            kind: newest.kind,
            outcome: newest.outcome,
            reason: Some(newest.reason.to_owned()),
            detail: Some(detail),
            who: newest.who.clone(),
            what: None,
            repeated: (!first).then_some(Repeated { count: self.times, since_micros }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use signet_core::caller::Claimed;
    use signet_core::seams::authenticator::Denial;

    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    /// Refusals of those who showed certificates with these serial numbers, told together.
    fn told(serials: impl IntoIterator<Item = String>, detail: &str) -> AuditEvent {
        let summaries = serials.into_iter().map(|serial| {
            let claimed = Claimed { certificate: Some(serial), ..Claimed::default() };
            let error = AuthenticationError::denied(Denial::CertificateNotOnRecord, "why").claiming(claimed);
            let (kind, outcome) = ((EventKind::Certificate, "call"), (Outcome::Refused, error.label()));
            let refusal = RefusedCall::of_request(kind, outcome, Some(&error), Peer(None), Attributed::default());
            Summary::one(RefusedCall { detail: detail.to_owned(), ..refusal }, NOW)
        });
        let all = summaries.reduce(|mut one, other| {
            one.add(other);
            one
        });
        all.unwrap().event(false, false, NOW)
    }

    fn serial(number: usize) -> String {
        format!("{number:032x}")
    }

    #[test]
    fn the_certificate_that_was_shown_stays_named_and_of_several_the_first_ones_do() {
        let same = told((0..20).map(|_| serial(7)), "why");
        assert_eq!((same.who.certificate, same.detail.as_deref()), (Some(serial(7)), Some("why")));
        let two = told((0..20).map(|at| serial(at % 2)), "why");
        let words = format!("why; the certificates {}, {} were shown", serial(0), serial(1));
        assert_eq!((two.who.certificate, two.detail), (None, Some(words)));
        let many = told((0..2000).map(serial), &"why ".repeat(200)).detail.unwrap();
        assert!(many.ends_with(&format!("{} and others were shown", serial(5))), "{many}");
        assert!(many.contains(&serial(0)) && !many.contains(&serial(6)) && many.starts_with("why "), "{many}");
        assert_eq!(many.len(), DETAIL);
    }
}
