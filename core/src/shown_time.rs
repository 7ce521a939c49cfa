//! Times as people read them in tables: how far away, or when.

use time::OffsetDateTime;

use crate::clock::rfc3339;

/// Units of time and their seconds, the largest first.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];

/// From this number of the larger unit on, the smaller one is not worth its room.
const LARGE: u64 = 10;

/// How a table shows its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownTimes {
    /// As [`rfc3339`].
    Absolute,
    /// As distances from this moment, see [`relative`].
    From(OffsetDateTime),
}

impl ShownTimes {
    /// The time.
    #[must_use]
    pub fn show(self, at: OffsetDateTime) -> String {
        match self {
            Self::Absolute => rfc3339(at),
            Self::From(now) => relative(at, now),
        }
    }

    /// The time that is so many seconds after 1970 began; `-` for what is no time.
    #[must_use]
    pub fn seconds(self, seconds: i64) -> String {
        OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "-".to_owned(), |at| self.show(at))
    }
}

/// How far away a time is, in whole seconds: `in 3d 4h`, `2h ago`, `now`. The two largest units; one alone where it is large.
#[must_use]
pub fn relative(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let (at, now) = (at.unix_timestamp(), now.unix_timestamp());
    let seconds = at.abs_diff(now);
    let mut units = UNITS.into_iter().skip_while(|(unit, _)| seconds < *unit);
    let Some((unit, name)) = units.next() else { return "now".to_owned() };
    let (count, rest) = (seconds / unit, seconds % unit);
    let mut text = format!("{count}{name}");
    if let Some((smaller, name)) = units.next().filter(|(smaller, _)| count < LARGE && rest >= *smaller) {
        text += &format!(" {}{name}", rest / smaller);
    }
    if at > now { format!("in {text}") } else { format!("{text} ago") }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_distance_is_told_in_its_two_largest_units() {
        let now = datetime!(2026-03-01 12:00 UTC);
        for (seconds, expected) in [
            (0, "now"),
            (1, "in 1s"),
            (-1, "1s ago"),
            (59, "in 59s"),
            (60, "in 1m"),
            (61, "in 1m 1s"),
            (-3599, "59m ago"),
            (599, "in 9m 59s"),
            (7200, "in 2h"),
            (-7260, "2h 1m ago"),
            (7201, "in 2h"),
            (86_399, "in 23h"),
            (3 * 86_400 + 4 * 3600, "in 3d 4h"),
            (86_400 + 59, "in 1d"),
            (30 * 86_400 + 23 * 3600, "in 30d"),
            (-3650 * 86_400, "3650d ago"),
        ] {
            assert_eq!(relative(now + time::Duration::seconds(seconds), now), expected, "{seconds}");
        }
        assert_eq!(relative(OffsetDateTime::UNIX_EPOCH, now), "20513d ago");
    }

    #[test]
    fn parts_of_a_second_are_cut_off() {
        let now = datetime!(2026-03-01 12:00:00.9 UTC);
        assert_eq!(relative(datetime!(2026-03-01 12:00:01.1 UTC), now), "in 1s");
    }

    #[test]
    fn a_table_shows_distances_or_times() {
        let now = datetime!(2026-03-01 12:00 UTC);
        let at = now.unix_timestamp() + 60;
        assert_eq!(ShownTimes::From(now).seconds(at), "in 1m");
        assert_eq!(ShownTimes::Absolute.seconds(at), "2026-03-01T12:01:00Z");
        assert_eq!(ShownTimes::Absolute.seconds(i64::MAX), "-");
    }
}
