//! Whose CA files, or which backend, counts when replicas differ: files reach them at different times. Content that was
//! never seen before is adopted once; anything else only by an operator's word. So the journal keeps what was ever adopted,
//! newest last, and whoever has something earlier steps back instead of fighting.

use std::fmt;

use ring::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::state::Authorities;
use crate::digest::hex;
use crate::revocation::RevocationList;

/// How many are remembered. One that was adopted longer ago counts as never seen: a replica that still has it makes it
/// adopted once more, and an operator's word puts that right. By then its certificates have ended, as a rule, and files
/// with those are of no use.
const MAX_FOLLOWED: usize = 128;

/// Stands for backends that bring nothing but make roots when they are asked to.
const OWN: &str = "own";

/// Stands for lists that were of no use when a CA was adopted with them; not for none, which say that nothing is revoked.
const UNUSABLE: &str = "unusable";

/// What a replica's backend brings, as far as replicas must agree on it: the CA, and the revocation lists beside it.
///
/// It follows from the content alone and never from the time, or else a set that is superseded would look new on the
/// day one of its roots ends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Fingerprint {
    set: String,
    lists: Lists,
}

#[derive(Clone, PartialEq, Eq)]
enum Lists {
    None,
    Hash(String),
    /// There are some, but they are of no use now. A file that is cut short or late must neither be followed by others
    /// nor make the good one look like an earlier one when it comes back: so it says nothing, and the lists of the
    /// journal go on.
    Unusable,
}

impl Fingerprint {
    /// That of a backend that makes roots on demand.
    #[must_use]
    pub fn own() -> Self {
        Self { set: OWN.to_owned(), lists: Lists::None }
    }

    /// That of a CA without revocation lists: its certificate, those between it and its root, and all roots, ended or
    /// not, the latter two in any order.
    #[must_use]
    pub fn of_set<'a>(
        issuing: &'a CertificateDer<'static>,
        between: impl IntoIterator<Item = &'a CertificateDer<'static>>,
        roots: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    ) -> Self {
        let part =
            |ders: &mut dyn Iterator<Item = &'a CertificateDer<'static>>| hash(ders.map(AsRef::as_ref).collect());
        let parts = [part(&mut std::iter::once(issuing)), part(&mut between.into_iter()), part(&mut roots.into_iter())];
        let mut all = Context::new(&SHA256);
        parts.iter().for_each(|part| all.update(part.as_bytes()));
        Self { set: hex(all.finish().as_ref()), lists: Lists::None }
    }

    /// The same with these lists beside it, in any order; none are the same as no file.
    #[must_use]
    pub fn with_lists(self, lists: &[RevocationList]) -> Self {
        let of = || hash(lists.iter().map(|list| list.der.as_ref()).collect());
        Self { lists: if lists.is_empty() { Lists::None } else { Lists::Hash(of()) }, ..self }
    }

    /// The same with lists beside it that cannot be used.
    #[must_use]
    pub fn with_unusable_lists(self) -> Self {
        Self { lists: Lists::Unusable, ..self }
    }

    /// Whether there are lists that cannot be used.
    #[must_use]
    pub fn has_unusable_lists(&self) -> bool {
        self.lists == Lists::Unusable
    }

    /// Whether `self`, as a replica has it, is what `followed` stands for.
    fn is(&self, followed: &Self) -> bool {
        self.set == followed.set && (self.lists == followed.lists || self.has_unusable_lists())
    }
}

/// A hash of these, in any order and each counted once.
fn hash(mut ders: Vec<&[u8]>) -> String {
    ders.sort_unstable();
    ders.dedup();
    let mut all = Context::new(&SHA256);
    for der in ders {
        all.update(&der.len().to_be_bytes());
        all.update(der);
    }
    hex(all.finish().as_ref())
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        match fingerprint.lists {
            Lists::Hash(lists) => format!("{}+{lists}", fingerprint.set),
            Lists::Unusable => format!("{}+{UNUSABLE}", fingerprint.set),
            Lists::None => fingerprint.set,
        }
    }
}

impl From<String> for Fingerprint {
    fn from(text: String) -> Self {
        match text.split_once('+') {
            Some((set, UNUSABLE)) => Self { set: set.to_owned(), lists: Lists::Unusable },
            Some((set, lists)) => Self { set: set.to_owned(), lists: Lists::Hash(lists.to_owned()) },
            None => Self { set: text, lists: Lists::None },
        }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}

/// How a replica stands among those that share the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// What it has was adopted last.
    #[default]
    Newest,
    /// What it has was never adopted, so that it is adopted now, once.
    New,
    /// Something was adopted after what it has: it takes no steps of its own, and issues with what the journal holds.
    Superseded,
}

impl Authorities {
    /// How a replica stands that has `mine`. It follows from the journal and from what it has, and from nothing else:
    /// whether files that were adopted before are late or meant to be back, nobody can tell but an operator.
    #[must_use]
    pub fn standing(&self, mine: &Fingerprint) -> Standing {
        match self.followed.iter().rposition(|followed| mine.is(followed)) {
            None => Standing::New,
            Some(at) if at + 1 == self.followed.len() => Standing::Newest,
            Some(_) => Standing::Superseded,
        }
    }

    /// Notes that `mine` is adopted.
    pub fn note_followed(&mut self, mine: &Fingerprint) {
        let known = &mut self.followed;
        let before = known.iter().rposition(|followed| mine.is(followed));
        // With lists that are unusable, the ones it had before stand for it.
        let noted = before.map_or_else(|| mine.clone(), |at| known.remove(at));
        known.push(noted);
        while known.len() > MAX_FOLLOWED {
            // Lists may be new every day; they must not make an earlier CA forgotten. And never what makes its own roots,
            // or else a replica without any configuration for files would one day look new.
            let own = |at: &usize| known.get(*at).is_some_and(|it| it.set == OWN);
            let again = |at: &usize| {
                let later = known.get(at + 1..).unwrap_or_default();
                later.iter().any(|later| known.get(*at).map(|it| &it.set) == Some(&later.set))
            };
            let oldest = (0..known.len()).find(again).or_else(|| (0..known.len()).find(|at| !own(at))).unwrap_or(0);
            known.remove(oldest);
        }
    }
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;
