//! Holds the events of a log against the hashes that were signed, and names what was changed, removed, inserted or moved.
//!
//! Both are streams. As long as they agree nothing is kept of them; where they part, a bounded piece of each is looked into for
//! where they go on together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;

use super::Hash;

/// How far is looked for where both go on together.
const LOOKAHEAD: usize = 1024;
/// How many events are named at most, and how many that fit nowhere are kept to be named.
const MOST: usize = 10_000;

/// What is wrong with an event, by its position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The event at this position is another one than was signed.
    Changed(u64),
    /// The event at this position is gone.
    Removed(u64),
    /// The event at this position was not in the log when it was signed.
    Inserted(u64),
    /// An event was put elsewhere.
    Moved {
        /// Where it was when it was signed.
        from: u64,
        /// Where it is.
        to: u64,
    },
    /// From the event that was at `from` on, events are as they were, at other positions.
    Shifted {
        /// Where the first of them was when it was signed.
        from: u64,
        /// Where it is.
        to: u64,
    },
    /// The hash that is stored with the event is not of its bytes, which are as they were signed, or not signed yet.
    Disagrees(u64),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(at) => write!(f, "event {at} was changed"),
            Self::Removed(at) => write!(f, "event {at} was removed"),
            Self::Inserted(at) => write!(f, "event {at} was inserted: it is in no signed checkpoint"),
            Self::Moved { from, to } => write!(f, "event {from} was moved: it is at {to}"),
            Self::Shifted { from, to } => write!(f, "event {from} and those after it are at {to} and after it"),
            Self::Disagrees(at) => write!(f, "the bytes of event {at} and the hash stored with them do not agree"),
        }
    }
}

/// A comparison under way.
#[derive(Debug, Default)]
pub struct Comparison {
    signed: VecDeque<(u64, Hash)>,
    stored: VecDeque<(u64, Hash)>,
    /// What fits nowhere so far.
    lone_signed: Vec<(u64, Hash)>,
    lone_stored: Vec<(u64, Hash)>,
    disagree: BTreeSet<u64>,
    findings: BTreeSet<Finding>,
    /// By how much the positions of events differ now, whichever is larger.
    shift: u64,
    compared: u64,
    size: u64,
    cut: bool,
}

/// What a comparison has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// What was found, by position.
    pub findings: Vec<Finding>,
    /// Whether there is more than is named.
    pub cut: bool,
    /// How many events are as they were signed.
    pub agree: u64,
    /// How many come after what was signed.
    pub after: u64,
}

impl Comparison {
    /// The hashes that come next of those that were signed.
    pub fn signed(&mut self, hashes: impl IntoIterator<Item = Hash>) {
        for hash in hashes {
            self.signed.push_back((self.size, hash));
            self.size += 1;
        }
    }

    /// The event that comes next of those that are stored, by the hash of its bytes; `agrees` says whether that was stored with
    /// it.
    pub fn stored(&mut self, sequence: u64, hash: Hash, agrees: bool) {
        self.stored.push_back((sequence, hash));
        if !agrees {
            if self.disagree.len() < MOST {
                self.disagree.insert(sequence);
            } else {
                self.cut = true;
            }
        }
    }

    /// Compares what has come, but for what may be decided by what comes next.
    pub fn advance(&mut self) {
        while self.step(false) {}
    }

    fn step(&mut self, is_end: bool) -> bool {
        let (Some((position, signed)), Some((sequence, stored))) =
            (self.signed.front().copied(), self.stored.front().copied())
        else {
            return false;
        };
        if signed == stored {
            let shift = sequence.wrapping_sub(position);
            if shift != self.shift {
                self.find(Finding::Shifted { from: position, to: sequence });
            }
            self.shift = shift;
            self.compared += 1;
            self.signed.pop_front();
            self.stored.pop_front();
            return true;
        }
        if !is_end && (self.signed.len() < LOOKAHEAD || self.stored.len() < LOOKAHEAD) {
            return false;
        }
        let find = |queue: &VecDeque<(u64, Hash)>, hash| queue.iter().take(LOOKAHEAD).position(|(_, one)| *one == hash);
        let (in_signed, in_stored) = (find(&self.signed, stored), find(&self.stored, signed));
        let (drop_signed, drop_stored) = match (in_signed, in_stored) {
            (None, None) => (true, true),
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(signed), Some(stored)) => (signed <= stored, stored <= signed),
        };
        if drop_signed {
            self.signed.pop_front();
            keep(&mut self.lone_signed, (position, signed), &mut self.cut);
        }
        if drop_stored {
            self.stored.pop_front();
            keep(&mut self.lone_stored, (sequence, stored), &mut self.cut);
        }
        true
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < MOST {
            self.findings.insert(finding);
        } else {
            self.cut = true;
        }
    }

    /// Compares the rest: nothing more comes.
    #[must_use]
    pub fn end(mut self) -> Compared {
        while self.step(true) {}
        let mut after = 0;
        for (position, signed) in std::mem::take(&mut self.signed) {
            keep(&mut self.lone_signed, (position, signed), &mut self.cut);
        }
        let lone: HashSet<Hash> = self.lone_signed.iter().map(|(_, hash)| *hash).collect();
        for (sequence, stored) in std::mem::take(&mut self.stored) {
            // What is stored behind all that was signed is not signed yet, unless it was moved there.
            if lone.contains(&stored) {
                keep(&mut self.lone_stored, (sequence, stored), &mut self.cut);
            } else {
                after += 1;
            }
        }
        let mut signed: BTreeMap<u64, Hash> = std::mem::take(&mut self.lone_signed).into_iter().collect();
        let mut stored: BTreeMap<u64, Hash> = std::mem::take(&mut self.lone_stored).into_iter().collect();
        let places: HashMap<Hash, u64> = stored.iter().map(|(sequence, hash)| (*hash, *sequence)).collect();
        for (from, hash) in signed.clone() {
            if let Some(to) = places.get(&hash).filter(|to| stored.contains_key(to)).copied() {
                signed.remove(&from);
                stored.remove(&to);
                self.find(Finding::Moved { from, to });
            }
        }
        for position in signed.into_keys() {
            let is_other = stored.remove(&position).is_some();
            self.find(if is_other { Finding::Changed(position) } else { Finding::Removed(position) });
        }
        for sequence in stored.into_keys() {
            if sequence < self.size {
                self.find(Finding::Inserted(sequence));
            } else {
                after += 1;
            }
        }
        for sequence in std::mem::take(&mut self.disagree) {
            if !self.findings.contains(&Finding::Changed(sequence)) {
                self.find(Finding::Disagrees(sequence));
            }
        }
        let mut findings: Vec<Finding> = self.findings.into_iter().collect();
        findings.sort_by_key(|finding| match *finding {
            Finding::Changed(at) | Finding::Removed(at) | Finding::Inserted(at) | Finding::Disagrees(at) => (at, 0),
            Finding::Moved { from, .. } => (from, 1),
            Finding::Shifted { from, .. } => (from, 2),
        });
        Compared { findings, cut: self.cut, agree: self.compared, after }
    }
}

fn keep(lone: &mut Vec<(u64, Hash)>, one: (u64, Hash), cut: &mut bool) {
    if lone.len() < MOST {
        lone.push(one);
    } else {
        *cut = true;
    }
}

#[cfg(test)]
#[path = "comparison_tests.rs"]
mod tests;
