//! What to do next with the authorities: a pure function of the journal and the time.

use std::time::Duration;

use time::OffsetDateTime;

use super::state::Authorities;
use crate::renewal::half_life;

/// The configured lifetimes of authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Lifetime of a root.
    pub root_ttl: Duration,
    /// Lifetime of an issuing CA.
    pub issuing_ttl: Duration,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is no active root: make the first one, with an issuing CA under it.
    CreateRoot,
    /// The issuing CA has reached half of its life, or there is none: certify a new one. The bundle does not change.
    RenewIssuing,
    /// Nothing before this time.
    WaitUntil(OffsetDateTime),
}

/// Decides the next step.
///
/// An issuing CA is renewed at half of its life. Configuration demands that it lives at least twice as long as a
/// leaf by default does, so that it is replaced before it would cut leaves short. One that already ends with its root
/// is not renewed: the new one could not live longer.
#[must_use]
pub fn next_step(now: OffsetDateTime, authorities: &Authorities) -> Step {
    let Some(root) = authorities.active() else { return Step::CreateRoot };
    let Some(issuer) = root.issuing.last() else { return Step::RenewIssuing };
    let due = half_life(issuer.not_before, issuer.not_after);
    if issuer.not_after >= root.not_after {
        return Step::WaitUntil(due.max(now + Duration::from_secs(3600)));
    }
    if due <= now { Step::RenewIssuing } else { Step::WaitUntil(due) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::rotation::{AuthorityId, AuthorityState, IssuingCa, RootAuthority};
    use crate::seams::custody::KeyId;

    const DAY: Duration = Duration::from_secs(86_400);
    const START: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

    fn authorities(issuing_days: u32) -> Authorities {
        let issuing = IssuingCa {
            id: AuthorityId::from_spki(b"issuing"),
            key: KeyId::parse("issuing-1").unwrap(),
            certificate: vec![1, 2, 3].into(),
            not_before: START,
            not_after: START + issuing_days * DAY,
        };
        let root = RootAuthority {
            id: AuthorityId::from_spki(b"root"),
            generation: 1,
            state: AuthorityState::Active,
            key: None,
            certificate: vec![4, 5, 6].into(),
            not_before: START,
            not_after: START + 100 * DAY,
            issuing: vec![issuing],
        };
        Authorities { bundle_sequence: 1, roots: vec![root] }
    }

    #[test]
    fn the_first_root_is_made_when_there_is_none() {
        let none = Authorities { bundle_sequence: 0, roots: vec![] };
        assert_eq!(next_step(START, &none), Step::CreateRoot);
    }

    #[test]
    fn an_issuing_ca_is_renewed_at_half_life_and_not_before() {
        let authorities = authorities(30);
        assert_eq!(next_step(START + 14 * DAY, &authorities), Step::WaitUntil(START + 15 * DAY));
        assert_eq!(next_step(START + 15 * DAY, &authorities), Step::RenewIssuing);
        assert_eq!(next_step(START + 50 * DAY, &authorities), Step::RenewIssuing);
    }

    #[test]
    fn an_issuing_ca_that_ends_with_its_root_is_not_renewed_in_a_loop() {
        let now = START + 99 * DAY;
        assert!(matches!(next_step(now, &authorities(100)), Step::WaitUntil(at) if at > now));
    }

    #[test]
    fn a_missing_issuing_ca_is_made_at_once() {
        let mut authorities = authorities(30);
        authorities.roots[0].issuing.clear();
        assert_eq!(next_step(START, &authorities), Step::RenewIssuing);
    }

    #[test]
    fn the_record_survives_its_own_encoding() {
        let record = authorities(30);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Authorities>(&text).unwrap(), record);
        assert_eq!(record.roots[0].id.key_id().len(), 20);
    }
}
