//! How long the words of an event are kept. The hash of each stays for ever, so that what is kept can be proven and nothing
//! can be removed unseen.

use std::time::Duration;

use time::OffsetDateTime;

use super::event::{AuditEvent, EventKind, Outcome};
use crate::time_math;

/// When an event that this version cannot read is looked at again: a newer one may know what it is.
const UNREAD: Duration = Duration::from_hours(24);

/// Events that are kept for the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Certificates that were issued, or that a backend was asked for.
    Certificates,
    /// Requests for certificates and bundles that were refused, or could not be served.
    Refusals,
    /// Everything else: what happened to authorities, what operators did, configurations.
    Operations,
}

impl Class {
    /// Every class. The position of each is its number in storage, for ever.
    pub const ALL: [Self; 3] = [Self::Certificates, Self::Refusals, Self::Operations];

    /// The number that stands for it in storage.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Certificates => 0,
            Self::Refusals => 1,
            Self::Operations => 2,
        }
    }

    /// The name shown to people and programs, from a closed set.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificates => "certificates",
            Self::Refusals => "refusals",
            Self::Operations => "operations",
        }
    }

    /// The class of events of this kind and outcome. What a newer version has written is an operation: those are kept longest.
    #[must_use]
    pub fn of(kind: EventKind, outcome: Outcome) -> Self {
        match (kind, outcome) {
            (EventKind::Certificate | EventKind::ServingCertificate, Outcome::Issued | Outcome::Intended) => {
                Self::Certificates
            }
            (
                EventKind::Certificate | EventKind::ServingCertificate | EventKind::BundleStream,
                Outcome::Refused | Outcome::Failed,
            ) => Self::Refusals,
            _ => Self::Operations,
        }
    }
}

/// How long events of each class are kept at least; `None` for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of [`Class::Certificates`].
    pub certificates: Option<Duration>,
    /// Of [`Class::Refusals`].
    pub refusals: Option<Duration>,
    /// Of [`Class::Operations`].
    pub operations: Option<Duration>,
}

/// What is to become of the words of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody needs them any more.
    Forgotten,
    /// They are old enough, and needed until then, when it is to be looked again.
    PutOff(OffsetDateTime),
    /// They are not old enough, and neither is what comes after them.
    TooYoung,
}

impl Retention {
    /// How long events of a class are kept at least; `None` for ever.
    #[must_use]
    pub fn of(&self, class: Class) -> Option<Duration> {
        match class {
            Class::Certificates => self.certificates,
            Class::Refusals => self.refusals,
            Class::Operations => self.operations,
        }
    }
}

/// What is to become of an event of `at_micros` that is kept for `age` at least, at the time `now`; `None` for `event` when it
/// cannot be read. No certificate lives longer than `longest`.
///
/// What tells of a certificate is needed until that has ended, and as long as one may be alive that was got by showing it:
/// such a one was issued before the end of the one shown, and has ended `longest` after that.
#[must_use]
pub fn fate(at_micros: i64, event: Option<&AuditEvent>, age: Duration, longest: Duration, now: OffsetDateTime) -> Fate {
    let at = super::event::moment(at_micros);
    let old_enough = time_math::after(at, age);
    if now < old_enough {
        // The clock of whoever has written it was wrong: what comes after it may be older.
        return if now < at { Fate::PutOff(old_enough) } else { Fate::TooYoung };
    }
    let Some(event) = event else { return Fate::PutOff(time_math::after(now, UNREAD)) };
    let end = event.what.as_ref().map(|what| OffsetDateTime::from_unix_timestamp(what.not_after).ok());
    let needed = match end {
        None => return Fate::Forgotten,
        Some(Some(end)) => time_math::after(end, longest),
        Some(None) => time_math::after(now, UNREAD),
    };
    if now < needed { Fate::PutOff(needed) } else { Fate::Forgotten }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::audit::{Attributed, Certified};

    const DAY: Duration = Duration::from_hours(24);
    const START: i64 = 1_700_000_000;

    fn event(end: Option<i64>) -> AuditEvent {
        let what = |not_after| Certified {
            serial: "01".repeat(16),
            key_hash: String::new(),
            other_names: Vec::new(),
            not_before: START,
            not_after,
            authority: "ab".repeat(20),
            bundle_sequence: 1,
            acknowledges: false,
            fingerprint: None,
        };
        AuditEvent {
            at_micros: START * 1_000_000,
            request_id: String::new(),
            kind: EventKind::Certificate,
            outcome: Outcome::Issued,
            reason: None,
            detail: None,
            who: Attributed::default(),
            what: end.map(what),
            repeated: None,
        }
    }

    #[test]
    fn words_stay_until_they_are_old_enough_and_nobody_needs_the_certificate_that_they_tell_of() {
        let day = 86_400;
        let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(START + seconds).unwrap();
        let refusal = event(None);
        let (short, long) = (event(Some(START + day)), event(Some(START + 90 * day)));
        let unread = |now: i64| Fate::PutOff(at(now + day));
        for (event, age, now, expected) in [
            (Some(&refusal), 3, 3 * day - 1, Fate::TooYoung),
            (Some(&refusal), 3, -1, Fate::PutOff(at(3 * day))),
            (Some(&refusal), 3, 3 * day, Fate::Forgotten),
            (Some(&short), 3, 3 * day - 1, Fate::TooYoung),
            (Some(&short), 3, 3 * day, Fate::Forgotten),
            // Old enough; but what was got with it just before its end may live for another two days.
            (Some(&short), 1, day, Fate::PutOff(at(3 * day))),
            (Some(&short), 1, 3 * day - 1, Fate::PutOff(at(3 * day))),
            (Some(&short), 1, 3 * day, Fate::Forgotten),
            (Some(&long), 3, 3 * day, Fate::PutOff(at(92 * day))),
            (Some(&long), 3, 92 * day, Fate::Forgotten),
            (Some(&event(Some(i64::MAX))), 3, 4 * day, unread(4 * day)),
            (None, 3, 2 * day, Fate::TooYoung),
            (None, 3, 4 * day, unread(4 * day)),
        ] {
            let fate = fate(START * 1_000_000, event, DAY * age, DAY * 2, at(now));
            assert_eq!(fate, expected, "{event:?} of {age} days at {now}");
        }
    }

    #[test]
    fn every_event_is_of_one_class_and_what_nobody_knows_is_kept_with_what_operators_did() {
        use Class::{Certificates, Operations, Refusals};
        for (kind, outcome, expected) in [
            (EventKind::Certificate, Outcome::Issued, Certificates),
            (EventKind::Certificate, Outcome::Intended, Certificates),
            (EventKind::ServingCertificate, Outcome::Issued, Certificates),
            (EventKind::Certificate, Outcome::Refused, Refusals),
            (EventKind::Certificate, Outcome::Failed, Refusals),
            (EventKind::BundleStream, Outcome::Refused, Refusals),
            (EventKind::Admin, Outcome::Refused, Operations),
            (EventKind::Authority, Outcome::Intended, Operations),
            (EventKind::Authority, Outcome::Done, Operations),
            (EventKind::Configuration, Outcome::Done, Operations),
            (EventKind::Configuration, Outcome::Refused, Operations),
            (EventKind::Backend, Outcome::Failed, Operations),
            (EventKind::Unknown(77), Outcome::Issued, Operations),
            (EventKind::Certificate, Outcome::Unknown(77), Operations),
        ] {
            assert_eq!(Class::of(kind, outcome), expected, "{kind} {outcome}");
        }
        assert_eq!(Class::ALL.map(Class::number), [0, 1, 2], "as in storage");
        let kept = Retention { certificates: Some(DAY), refusals: None, operations: Some(DAY * 2) };
        assert_eq!(Class::ALL.map(|class| kept.of(class)), [Some(DAY), None, Some(DAY * 2)]);
    }
}
