//! How a rotation that somebody waits for is told: a picture that is redrawn in place on a terminal, a line per change
//! on a pipe, a JSON object per change for programs. Nothing here asks or waits.

use signet_core::clock::rfc3339;
use signet_proto::admin::v1alpha1::{Coverage, Rotation};
use time::OffsetDateTime;

use super::describe::{self, short};
use super::printable;
use super::rotation_view::{NAMED, behind, count};

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

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The picture: lines of printable ASCII that fit the terminal, one row each.
pub(super) fn picture(moment: &Moment<'_>, size: Size) -> Vec<String> {
    let rotation = moment.rotation;
    let empty = Coverage::default();
    let coverage = rotation.coverage.as_ref().unwrap_or(&empty);
    let trouble =
        moment.trouble.map(|trouble| format!("the CA does not answer, still trying: {trouble}")).unwrap_or_default();
    let mut lines = vec![moment.title.to_owned()];
    // One column stays free: some terminals wrap when the last one is written.
    let width = size.columns.saturating_sub(1).max(1);
    let mut line = |name: &str, text: &str| lines.push(format!("{name:<NAMES$}{text}"));
    let phase = describe::phase_with_meaning(rotation.phase);
    for (index, row) in wrapped(&phase, width.saturating_sub(NAMES)).iter().enumerate() {
        line(if index == 0 { "phase" } else { "" }, row);
    }
    let covered = describe::coverage(coverage);
    let renewed = moment
        .renewed
        .map(|(renewed, all)| (renewed, all, format!("{renewed} of {all} holders have renewed under the new root")));
    // Both bars are as wide as the longer text leaves room for.
    let longest = covered.len().max(renewed.as_ref().map_or(0, |(_, _, text)| text.len()));
    let room = size.columns.saturating_sub(NAMES + longest + "[] 100%  .".len()).clamp(*BAR.start(), *BAR.end());
    line("coverage", &format!("{}  {covered}", bar(coverage.covered, coverage.holders, room)));
    if let Some((renewed, all, text)) = &renewed {
        line("renewed", &format!("{}  {text}", bar(*renewed, *all, room)));
    }
    let mut name = "lagging";
    for holder in coverage.laggards.iter().take(NAMED) {
        line(std::mem::take(&mut name), &describe::holder(holder));
    }
    let unnamed = behind(coverage).saturating_sub(count(coverage.laggards.len().min(NAMED)));
    if unnamed > 0 {
        line(name, &format!("and {unnamed} more"));
    }
    for (name, text) in rotation.unsettled.iter().flat_map(describe::unsettled) {
        for (index, row) in wrapped(&format!("{name} {text}"), width.saturating_sub(NAMES)).iter().enumerate() {
            line(if index == 0 { "not over" } else { "" }, row);
        }
    }
    if rotation.paused {
        line("paused", "roots are not replaced by themselves until an operator says so");
    }
    let next = rotation.next.as_ref().map(|next| describe::next(next, short)).unwrap_or_default();
    for (name, text) in [("next", &next), ("trouble", &trouble)] {
        let rows = wrapped(text, width.saturating_sub(NAMES));
        for (index, row) in rows.iter().enumerate() {
            line(if index == 0 { name } else { "" }, row);
        }
    }
    if let Some(at) = &rotation.expected_at {
        line("expected", &format!("by {}, {}", describe::time(at), left(at.seconds, moment.now)));
    }
    lines.push("Ctrl-C ends this view; the CA goes on by itself.".to_owned());
    lines.truncate(size.rows.saturating_sub(SPARE_ROWS).max(1));
    lines.iter().map(|line| printable(line).chars().take(width).collect()).collect()
}

/// Words in rows of at most `width`, as far as the words let; nothing for no words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match rows.last_mut() {
            Some(row) if row.len() + 1 + word.len() <= width => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
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

fn left(at: i64, now: OffsetDateTime) -> String {
    let seconds = at.saturating_sub(now.unix_timestamp());
    match seconds {
        ..=0 => "any moment".to_owned(),
        1..=119 => format!("in {seconds} s"),
        120..=7199 => format!("in {} min", seconds / 60),
        7200..=172_799 => format!("in {} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("in {} days", seconds / 86_400),
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
    }
    if let Some(trouble) = moment.trouble {
        text += &format!("; trouble: {trouble}");
    }
    printable(&text)
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
