//! Whose CA files, or which backend, counts when replicas differ: files reach them at different times. Content that was
//! never seen before is adopted once; anything else only by an operator's word. So the journal keeps what was ever adopted,
//! newest last, and whoever has something earlier steps back instead of fighting.

use serde::{Deserialize, Serialize};

use super::SourceFingerprint;

/// How many are remembered. One that was adopted longer ago counts as never seen: a replica that still has it makes it
/// adopted once more, and an operator's word puts that right. By then its certificates have ended, as a rule, and files
/// with those are of no use.
const MAX_ADOPTED: usize = 128;

/// How the source of a replica stands among those of all that share the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SourceStanding {
    /// What it has was adopted last.
    #[default]
    Newest,
    /// What it has was never adopted, so that it is adopted now, once.
    New,
    /// Something was adopted after what it has: it takes no steps of its own, and issues with what the journal holds.
    Superseded,
}

/// What was ever adopted of an operator's files, or our own backend, newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AdoptedSources(Vec<SourceFingerprint>);

impl AdoptedSources {
    /// Whether nothing is known to have been adopted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was adopted last.
    #[must_use]
    pub fn newest(&self) -> Option<&SourceFingerprint> {
        self.0.last()
    }

    /// How a replica stands that has `mine`. It follows from the journal and from what it has, and from nothing else:
    /// whether files that were adopted before are late or meant to be back, nobody can tell but an operator.
    #[must_use]
    pub fn standing(&self, mine: &SourceFingerprint) -> SourceStanding {
        match self.0.iter().rposition(|adopted| mine.is(adopted)) {
            None => SourceStanding::New,
            Some(at) if at + 1 == self.0.len() => SourceStanding::Newest,
            Some(_) => SourceStanding::Superseded,
        }
    }

    /// Notes that `mine` is adopted.
    pub fn note(&mut self, mine: &SourceFingerprint) {
        let known = &mut self.0;
        let before = known.iter().rposition(|adopted| mine.is(adopted));
        // With lists that are unusable, the ones it had before stand for it.
        let noted = before.map_or_else(|| mine.clone(), |at| known.remove(at));
        known.push(noted);
        while known.len() > MAX_ADOPTED {
            // Lists may be new every day; they must not make an earlier CA forgotten. And never what makes its own roots,
            // or else a replica without any configuration for files would one day look new.
            let own = |at: &usize| known.get(*at).is_some_and(SourceFingerprint::is_own);
            let again = |at: &usize| {
                let later = known.get(at + 1..).unwrap_or_default();
                known.get(*at).is_some_and(|one| later.iter().any(|later| one.is_same_ca(later)))
            };
            let oldest = (0..known.len()).find(again).or_else(|| (0..known.len()).find(|at| !own(at))).unwrap_or(0);
            known.remove(oldest);
        }
    }
}

impl From<Vec<SourceFingerprint>> for AdoptedSources {
    fn from(oldest_first: Vec<SourceFingerprint>) -> Self {
        Self(oldest_first)
    }
}

#[cfg(test)]
#[path = "adopted_tests.rs"]
mod tests;
