//! Arithmetic with times that cannot fail. RFC 5280 section 4.1.2.5 gives a certificate without a well-defined end the time
//! 99991231235959Z, and the operators of times panic beyond it; clients and files may bring any number too. Here a time
//! that cannot be said is the last, or the first, that can. A lint refuses the operators everywhere else.

use std::time::Duration;

use time::OffsetDateTime;

/// The time `by` after `at`, or the end of the year 9999.
#[must_use]
pub fn after(at: OffsetDateTime, by: Duration) -> OffsetDateTime {
    at.saturating_add(signed(by))
}

/// The time `by` before `at`, or the beginning of what can be said.
#[must_use]
pub fn before(at: OffsetDateTime, by: Duration) -> OffsetDateTime {
    at.saturating_sub(signed(by))
}

/// How long it takes from `from` until `to`; nothing when that has passed.
#[must_use]
pub fn until(from: OffsetDateTime, to: OffsetDateTime) -> Duration {
    Duration::try_from(difference(from, to)).unwrap_or_default()
}

/// How far `to` lies after `from`; negative when before.
#[must_use]
#[expect(clippy::arithmetic_side_effects, reason = "two times that can be said differ by less than 20,000 years")]
pub fn difference(from: OffsetDateTime, to: OffsetDateTime) -> time::Duration {
    to - from
}

/// The same time without a part of a second, as certificates and Unix times have it.
#[must_use]
pub fn whole_second(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).unwrap_or(at)
}

fn signed(by: Duration) -> time::Duration {
    time::Duration::try_from(by).unwrap_or(time::Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NEVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);
    const ZERO: OffsetDateTime = datetime!(0000-01-01 0:00 UTC);
    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    #[test]
    fn no_sum_and_no_difference_overflows() {
        let day = Duration::from_secs(86_400);
        assert_eq!(after(NOW, day), datetime!(2026-03-02 12:00 UTC));
        assert_eq!(before(NOW, day), datetime!(2026-02-28 12:00 UTC));
        for at in [NEVER, ZERO, NOW] {
            for by in [day, Duration::from_secs(u64::MAX), Duration::MAX, Duration::ZERO] {
                assert!(after(at, by) >= at && before(at, by) <= at, "{at} {by:?}");
            }
        }
        assert_eq!(after(NEVER, day).year(), 9999);
        assert_eq!(until(NOW, NEVER), Duration::from_secs(251_629_934_399));
        assert_eq!(until(NEVER, NOW), Duration::ZERO);
        assert!(difference(NEVER, ZERO).is_negative() && difference(ZERO, NEVER).is_positive());
    }

    #[test]
    fn a_time_loses_its_part_of_a_second() {
        assert_eq!(whole_second(datetime!(9999-12-31 23:59:59.9 UTC)), NEVER);
    }
}
