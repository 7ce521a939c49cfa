//! Going on after the storage was restored from a backup: others know bundles that the journal has forgotten.

use time::OffsetDateTime;

use super::state::Authorities;

impl Authorities {
    /// Raises the bundle sequence above `shown`, the highest that anybody is known to have received, and above the clock in
    /// seconds since 1970: whatever else was given out in the time that is forgotten, by a clock that was right, is lower.
    ///
    /// What holders have received of the roots is not known any more, since those numbers meant other bundles: every root
    /// counts as published with this sequence, so that nothing signs before holders have received this very bundle.
    pub fn resume(&mut self, shown: u64, now: OffsetDateTime) {
        let clock = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let sequence = self.next_sequence().max(shown.max(clock).saturating_add(1));
        self.bundle_sequence = sequence;
        if self.without_compromised != 0 {
            self.without_compromised = sequence;
        }
        for root in &mut self.roots {
            root.published = sequence;
            if root.is_prepared() {
                root.since = now;
            }
            for issuing in root.issuing.iter_mut().filter(|issuing| issuing.after_sequence != 0) {
                issuing.after_sequence = sequence;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::rotation::test_authorities::{DAY, issuing, root};
    use crate::rotation::{Activation, AuthorityState, Fence, IssuingAuthority, RootAuthority};

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn the_sequence_goes_above_what_was_shown_and_above_the_clock_and_never_back() {
        for (before, shown, clock, expected) in [
            (5, 9, 1_800_000_000, 1_800_000_001),
            (5, 2_000_000_000, 1_800_000_000, 2_000_000_001),
            (1_900_000_000, 1_900_000_003, 1_800_000_000, 1_900_000_004),
            (1_900_000_000, 9, 1_800_000_000, 1_900_000_001),
            (5, 9, -7, 10),
            (5, u64::MAX, 0, u64::MAX),
        ] {
            let mut authorities = Authorities { bundle_sequence: before, ..Authorities::default() };
            authorities.resume(shown, at(clock));
            assert_eq!(authorities.bundle_sequence, expected, "{before} {shown} {clock}");
        }
    }

    #[test]
    fn every_root_is_published_anew_so_that_nothing_signs_on_the_word_of_forgotten_numbers() {
        let mut authorities = Authorities { bundle_sequence: 5, without_compromised: 3, ..Authorities::default() };
        for (name, state) in [("a", AuthorityState::Active), ("b", AuthorityState::Prepared(Activation::OnCommand))] {
            let signer = |after_sequence| IssuingAuthority { after_sequence, ..issuing(name, at(0), DAY) };
            let issuing = vec![signer(0), signer(4)];
            authorities.roots.push(RootAuthority { state, issuing, published: 5, ..root(name, at(0), DAY) });
        }
        authorities.resume(9, at(1000));
        assert_eq!((authorities.bundle_sequence, authorities.without_compromised), (1001, 1001));
        for root in &authorities.roots {
            let waits: Vec<u64> = root.issuing.iter().map(|issuing| issuing.after_sequence).collect();
            assert_eq!((root.published, waits), (1001, vec![0, 1001]));
        }
        assert_eq!(authorities.roots[1].since, at(1000), "propagation begins anew");
        assert_eq!(Fence::of(&authorities).oldest, 1001, "no replica lets an older bundle out");
    }
}
