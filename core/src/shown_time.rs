//! Times as people read them in tables: how far away, or when.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

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

    /// A sentence with times in it: where others are distances, so many of them are told beside these.
    #[must_use]
    pub fn within(self, text: &str) -> String {
        let Self::From(now) = self else { return text.to_owned() };
        let mut told = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, end)) = first_time(rest) {
            let (until, after) = rest.split_at(end);
            told.push_str(until);
            told.push_str(&format!(" ({})", relative(at, now)));
            rest = after;
        }
        told + rest
    }

    /// How long something has lasted that began then: `for 2h`, or since when.
    #[must_use]
    pub fn since(self, at: OffsetDateTime) -> String {
        let Self::From(now) = self else { return format!("since {}", rfc3339(at)) };
        match relative(at, now).strip_suffix(" ago") {
            Some(distance) => format!("for {distance}"),
            None if at.unix_timestamp() == now.unix_timestamp() => "for 0s".to_owned(),
            // By a clock that is ahead.
            None => format!("since {}", rfc3339(at)),
        }
    }

    /// The time that is so many seconds after 1970 began; `-` for what is no time.
    #[must_use]
    pub fn seconds(self, seconds: i64) -> String {
        OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "-".to_owned(), |at| self.show(at))
    }
}

/// The length of a time as [`rfc3339`] writes it.
const LENGTH: usize = "2026-03-01T12:00:00Z".len();

/// The first time in a text, and where it ends.
fn first_time(text: &str) -> Option<(OffsetDateTime, usize)> {
    let times = text.match_indices('Z').filter_map(|(last, _)| {
        let end = last + 1;
        let time = text.get(end.checked_sub(LENGTH)?..end)?;
        OffsetDateTime::parse(time, &Rfc3339).ok().map(|at| (at, end))
    });
    times.into_iter().next()
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
    fn times_in_sentences_are_told_with_their_distance_where_all_others_are_distances() {
        let shown = ShownTimes::From(datetime!(2026-03-01 12:00 UTC));
        for (text, expected) in [
            ("", ""),
            ("Z \u{e9}Z no time", "Z \u{e9}Z no time"),
            ("ends 2026-03-01T12:01:00Z", "ends 2026-03-01T12:01:00Z (in 1m)"),
            (
                "(2026-03-01T11:00:00Z), then 2026-03-01T13:00:00Z.",
                "(2026-03-01T11:00:00Z (1h ago)), then 2026-03-01T13:00:00Z (in 1h).",
            ),
            ("2026-13-01T11:00:00Z", "2026-13-01T11:00:00Z"),
        ] {
            assert_eq!(shown.within(text), expected);
            assert_eq!(ShownTimes::Absolute.within(text), text);
        }
    }

    #[test]
    fn how_long_something_has_lasted_is_a_length_or_a_beginning() {
        let now = datetime!(2026-03-01 12:00 UTC);
        for (seconds, expected) in [(-59, "for 59s"), (0, "for 0s"), (5, "since 2026-03-01T12:00:05Z")] {
            assert_eq!(ShownTimes::From(now).since(now + time::Duration::seconds(seconds)), expected);
        }
        assert_eq!(ShownTimes::Absolute.since(now), "since 2026-03-01T12:00:00Z");
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
