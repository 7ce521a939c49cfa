//! When to renew: at half of a certificate's life, spread by a jitter that is fixed per certificate.

use crate::time_math;
use time::OffsetDateTime;

/// Half of the spread around half-life, as a share of the whole life: renewals fall between 40 % and 60 %.
///
/// The jitter is derived from the certificate itself. Rolling it anew at every check would bunch renewals at the early
/// edge; leaving it out makes everything that started together renew together for ever.
const SPREAD: f64 = 0.1;

/// When the certificate with this validity should be replaced. `fingerprint` is any hash of the certificate: the same
/// certificate always gets the same answer.
#[must_use]
pub fn renew_at(not_before: OffsetDateTime, not_after: OffsetDateTime, fingerprint: &[u8; 32]) -> OffsetDateTime {
    let life = time_math::until(not_before, not_after);
    let [a, b, c, d, ..] = *fingerprint;
    let unit = f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX);
    time_math::after(not_before, life.mul_f64(0.5 - SPREAD + 2.0 * SPREAD * unit))
}

/// When an issuing CA or a serving certificate is renewed: exactly at half-life, since few of them exist.
#[must_use]
pub fn half_life(not_before: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    time_math::after(not_before, time_math::until(not_before, not_after) / 2)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    proptest! {
        #[test]
        fn renewal_falls_between_forty_and_sixty_percent_of_life(life in 1u64..10_000_000, fingerprint in any::<[u8; 32]>()) {
            let life = Duration::from_secs(life);
            let at = renew_at(START, START + life, &fingerprint);
            prop_assert!(at >= START + life.mul_f64(0.3999) && at <= START + life.mul_f64(0.6001));
            prop_assert_eq!(at, renew_at(START, START + life, &fingerprint));
        }
    }

    #[test]
    fn a_certificate_that_ends_before_it_starts_is_renewed_at_once() {
        assert_eq!(renew_at(START, START - Duration::from_secs(5), &[7; 32]), START);
    }
}
