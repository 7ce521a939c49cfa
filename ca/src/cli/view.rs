//! How tables look to whoever asked: how wide they may be, times, and how much of an id is shown.

use std::collections::BTreeSet;

use prost_types::Timestamp;
use signet_core::clock::{Clock, SystemClock};
use signet_core::shown_time::ShownTimes;
use signet_runtime::output::{OutputFormat, Width};

use super::describe;

/// Digits of an id that tables show at least; as many as [`short`](super::describe::short) leaves.
const DIGITS: usize = 8;

/// The view of one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// The columns there are.
    pub(super) width: Width,
    /// Whether everything is to be shown: `-o wide`.
    pub(super) wide: bool,
    times: ShownTimes,
}

impl View {
    /// What `format` shows on standard output.
    pub(super) fn of(format: OutputFormat) -> Self {
        let wide = format == OutputFormat::Wide;
        let times = if wide { ShownTimes::Absolute } else { ShownTimes::From(SystemClock.now()) };
        Self { width: Width::of_stdout(), wide, times }
    }

    /// What a pipe gets, at this moment.
    #[cfg(test)]
    pub(super) fn at(now: time::OffsetDateTime) -> Self {
        Self { width: Width::Unlimited, wide: false, times: ShownTimes::From(now) }
    }

    /// What a pipe gets that is to see everything.
    #[cfg(test)]
    pub(super) fn wide() -> Self {
        Self { width: Width::Unlimited, wide: true, times: ShownTimes::Absolute }
    }

    /// A time that there may be none of.
    pub(super) fn time(&self, at: Option<&Timestamp>) -> String {
        at.map_or_else(|| "-".to_owned(), |at| self.seconds(at.seconds))
    }

    /// A time in seconds since 1970.
    pub(super) fn seconds(&self, seconds: i64) -> String {
        self.times.seconds(seconds)
    }

    /// A sentence with times in it.
    pub(super) fn text(&self, text: &str) -> String {
        self.times.within(text)
    }

    /// An id in a sentence: its beginning, or all of it where there is room for everything.
    pub(super) fn id(&self) -> fn(&str) -> &str {
        if self.wide { describe::whole } else { describe::short }
    }

    /// How much of these ids, which stand in one column, is shown: enough, or all where there is room for everything.
    pub(super) fn ids<'a>(&self, ids: impl Iterator<Item = &'a str>) -> ShownIds {
        if self.wide { ShownIds { digits: usize::MAX } } else { ShownIds::enough(ids) }
    }
}

/// The beginning of ids: short, and long enough that those of two rows differ when the ids do.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShownIds {
    digits: usize,
}

impl ShownIds {
    /// Enough of these to tell them apart.
    pub(super) fn enough<'a>(ids: impl Iterator<Item = &'a str>) -> Self {
        let ids: BTreeSet<&str> = ids.collect();
        // In their order, those that have most in common stand beside each other.
        let alike = ids
            .iter()
            .zip(ids.iter().skip(1))
            .map(|(one, next)| one.bytes().zip(next.bytes()).take_while(|(one, next)| one == next).count());
        Self { digits: alike.map(|alike| alike + 1).max().unwrap_or_default().max(DIGITS) }
    }

    /// What is shown of `id`.
    pub(super) fn show(self, id: &str) -> &str {
        match id.get(..self.digits).unwrap_or(id) {
            "" => "-",
            shown => shown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_of_an_id_is_shown_that_two_of_them_differ() {
        let view = View::at(time::OffsetDateTime::UNIX_EPOCH);
        let alike = ["0123456789abcdef", "0123456789abzzzz", "ff23456789abcdef", "ff23456789abcdef"];
        for (ids, expected) in [
            (&alike[..], &["0123456789abc", "0123456789abz", "ff23456789abc", "ff23456789abc"][..]),
            (&alike[1..3], &["01234567", "ff234567"]),
            (&["web", "web-1", ""], &["web", "web-1", "-"]),
            (&["01234567", "012345678"], &["01234567", "012345678"]),
            (&["w\u{e9}b-0000-1", "w\u{e9}b-0000-2"], &["w\u{e9}b-0000-1", "w\u{e9}b-0000-2"]),
        ] {
            let shown = view.ids(ids.iter().copied());
            assert_eq!(ids.iter().map(|id| shown.show(id)).collect::<Vec<_>>(), expected);
        }
        let whole = View::wide().ids(alike.iter().copied());
        assert_eq!(alike.map(|id| whole.show(id)), alike);
    }

    #[test]
    fn a_time_is_a_distance_or_everything_of_it() {
        let at = Timestamp { seconds: 60, nanos: 0 };
        assert_eq!(View::at(time::OffsetDateTime::UNIX_EPOCH).time(Some(&at)), "in 1m");
        assert_eq!(View::wide().time(Some(&at)), "1970-01-01T00:01:00Z");
        assert_eq!(View::wide().time(None), "-");
    }
}
