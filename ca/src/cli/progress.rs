//! How a rotation that somebody waits for is told: a picture that is redrawn in place on a terminal, a line per change
//! on a pipe, a JSON object per change for programs. Nothing here asks or waits.

use prost_types::Timestamp;
use signet_core::clock::rfc3339;
use signet_core::shown_time::relative;
use signet_proto::admin::v1alpha1::{Coverage, Rotation};
use signet_runtime::output::Size;
use time::OffsetDateTime;

use super::describe::{self, short};
use super::printable;
use super::rotation_view::{NAMED, behind, compromised_until_then, count};

/// Columns that the names of the lines take.
const NAMES: usize = 10;

/// Rows that the picture leaves free, so that its first line never scrolls out of reach.
const SPARE_ROWS: usize = 2;

/// What is shown at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    /// What is waited for.
    pub(super) title: &'a str,
    /// The newest answer.
    pub(super) rotation: &'a Rotation,
    /// Holders whose newest certificate chains to the new root, and all of them; while that counts.
    pub(super) renewed: Option<(u64, u64)>,
    /// Why there is no newer answer.
    pub(super) trouble: Option<&'a str>,
    /// When.
    pub(super) now: OffsetDateTime,
}

/// The picture: lines of printable ASCII that fit the terminal, one row each.
pub(super) fn picture(moment: &Moment<'_>, size: Size) -> Vec<String> {
    let rotation = moment.rotation;
    let empty = Coverage::default();
    let coverage = rotation.coverage.as_ref().unwrap_or(&empty);
    let trouble =
        moment.trouble.map(|trouble| format!("the CA does not answer, still trying: {trouble}")).unwrap_or_default();
    // One column stays free: some terminals wrap when the last one is written.
    let width = size.columns.saturating_sub(1).max(1);
    let mut lines = wrapped(moment.title, width);
    let mut tell = |name: &str, text: &str| {
        for (index, row) in wrapped(text, width.saturating_sub(NAMES)).iter().enumerate() {
            lines.push(format!("{:<NAMES$}{row}", if index == 0 { name } else { "" }));
        }
    };
    tell("phase", &describe::phase_with_meaning(rotation.phase));
    let covered = describe::coverage(coverage);
    let renewed = moment
        .renewed
        .map(|(renewed, all)| (renewed, all, format!("{renewed} of {all} holders have renewed under the new root")));
    // Both bars are as wide as the longer text leaves room for; where it leaves none, texts stand below.
    let longest = covered.len().max(renewed.as_ref().map_or(0, |(_, _, text)| text.len()));
    let room = size.columns.saturating_sub(NAMES + longest + "[] 100%  .".len());
    let beside = room >= *BAR.start();
    let mut measure = |name: &str, part: u64, all: u64, text: &str| {
        let bar = bar(part, all, room.clamp(*BAR.start(), *BAR.end()));
        if beside {
            tell(name, &format!("{bar}  {text}"));
        } else {
            tell(name, &bar);
            tell("", text);
        }
    };
    measure("coverage", coverage.covered, coverage.holders, &covered);
    if let Some((renewed, all, text)) = &renewed {
        measure("renewed", *renewed, *all, text);
    }
    let mut name = "lagging";
    for holder in coverage.laggards.iter().take(NAMED) {
        tell(std::mem::take(&mut name), &describe::holder(holder));
    }
    let unnamed = behind(coverage).saturating_sub(count(coverage.laggards.len().min(NAMED)));
    if unnamed > 0 {
        tell(name, &format!("and {unnamed} more"));
    }
    for (name, text) in rotation.unsettled.iter().flat_map(describe::unsettled) {
        tell("not over", &format!("{name} {text}"));
    }
    if rotation.paused {
        tell("paused", "roots are not replaced by themselves until an operator says so");
    }
    tell("next", &rotation.next.as_ref().map(|next| describe::next(next, short)).unwrap_or_default());
    tell("trouble", &trouble);
    if let Some(at) = &rotation.expected_at {
        tell("expected", &format!("by {}, {}", describe::time(at), left(at, moment.now)));
        tell("", &compromised_until_then(rotation, describe::time, short).unwrap_or_default());
    }
    lines.extend(wrapped("Ctrl-C ends this view; the CA goes on by itself.", width));
    lines.truncate(size.rows.saturating_sub(SPARE_ROWS).max(1));
    // Narrower than the names of the lines, nothing can be told.
    lines.iter().map(|line| line.chars().take(width).collect()).collect()
}

/// Rows of printable ASCII of at most `width`, broken between words as far as their length lets; nothing for no words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let text = printable(text);
    if (1..=width).contains(&text.len()) {
        return vec![text];
    }
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        for part in word.as_bytes().chunks(width.max(1)).map(String::from_utf8_lossy) {
            match rows.last_mut() {
                Some(row) if row.len() + 1 + part.len() <= width => {
                    row.push(' ');
                    row.push_str(&part);
                }
                _ => rows.push(part.into_owned()),
            }
        }
    }
    rows
}

/// The smallest and the largest bar.
const BAR: std::ops::RangeInclusive<usize> = 10..=40;

/// A bar of this width and the share.
fn bar(part: u64, all: u64, width: usize) -> String {
    let full = if all == 0 { width } else { scaled(part, all, width) };
    format!("[{}{}] {:>3}%", "#".repeat(full), "-".repeat(width - full), percent(part, all))
}

/// `width * part / all`, full only when all are there.
fn scaled(part: u64, all: u64, width: usize) -> usize {
    let share = u128::from(part.min(all)) * u128::from(count(width)) / u128::from(all.max(1));
    usize::try_from(share).unwrap_or(width).min(width)
}

/// Rounded down, so that 100 means all; of nobody, all.
fn percent(part: u64, all: u64) -> usize {
    if all == 0 { 100 } else { scaled(part, all, 100) }
}

fn left(at: &Timestamp, now: OffsetDateTime) -> String {
    match OffsetDateTime::from_unix_timestamp(at.seconds) {
        Ok(at) if at > now => relative(at, now),
        _ => "any moment".to_owned(),
    }
}

/// The picture on the terminal as it was drawn last.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: Vec<usize>,
}

impl Screen {
    /// The bytes that turn what is drawn into `lines`: up to the first line, each line over the old one, and nothing
    /// cleared before it is written again, so that nothing flickers.
    pub(super) fn redraw(&mut self, lines: &[String], columns: usize) -> String {
        let mut text = self.up(columns);
        for line in lines {
            text += line;
            text += "\u{1b}[K\r\n";
        }
        // What is left of a longer picture.
        text += "\u{1b}[J";
        self.drawn = lines.iter().map(String::len).collect();
        text
    }

    /// A terminal that has become narrower has wrapped what was drawn.
    fn up(&self, columns: usize) -> String {
        let rows: usize = self.drawn.iter().map(|length| length.div_ceil(columns.max(1)).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\r\u{1b}[{rows}A") }
    }
}

/// What must differ for a new line or object: numbers in percent, so that a large mesh does not fill a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    phase: i32,
    sequence: u64,
    covered: usize,
    behind: u64,
    renewed: Option<usize>,
    states: Vec<(String, i32)>,
    paused: bool,
    trouble: bool,
}

impl Change {
    pub(super) fn of(moment: &Moment<'_>) -> Self {
        let rotation = moment.rotation;
        let coverage = rotation.coverage.clone().unwrap_or_default();
        let states = rotation.authorities.iter().map(|one| (one.id.clone(), one.state));
        Self {
            phase: rotation.phase,
            sequence: coverage.sequence,
            covered: percent(coverage.covered, coverage.holders),
            behind: behind(&coverage).min(count(NAMED) + 1),
            renewed: moment.renewed.map(|(renewed, all)| percent(renewed, all)),
            states: states.collect(),
            paused: rotation.paused,
            trouble: moment.trouble.is_some(),
        }
    }
}

/// A moment in one line, for pipes and logs.
pub(super) fn line(moment: &Moment<'_>) -> String {
    let rotation = moment.rotation;
    let coverage = rotation.coverage.clone().unwrap_or_default();
    let mut text =
        format!("{}  {}: {}", rfc3339(moment.now), describe::phase(rotation.phase), describe::coverage(&coverage));
    if let Some((renewed, all)) = moment.renewed {
        text += &format!("; {renewed} of {all} renewed under the new root");
    }
    let named: Vec<&str> = coverage.laggards.iter().take(NAMED).map(|holder| holder.spiffe_id.as_str()).collect();
    if !named.is_empty() {
        let unnamed = behind(&coverage).saturating_sub(count(named.len()));
        let more = if unnamed > 0 { format!(" and {unnamed} more") } else { String::new() };
        text += &format!("; lagging: {}{more}", named.join(", "));
    }
    for (name, what) in rotation.unsettled.iter().flat_map(describe::unsettled) {
        text += &format!("; {name} {what}");
    }
    if rotation.paused {
        text += "; paused";
    }
    if let Some(next) = &rotation.next {
        text += &format!("; next: {}", describe::next(next, short));
    }
    if let Some(at) = &rotation.expected_at {
        text += &format!("; expected by {}", describe::time(at));
        text.extend(compromised_until_then(rotation, describe::time, short).map(|why| format!(", which is so: {why}")));
    }
    if let Some(trouble) = moment.trouble {
        text += &format!("; trouble: {trouble}");
    }
    printable(&text)
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
