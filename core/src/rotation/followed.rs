//! Whose CA files, or which backend, replicas follow when they differ: files reach replicas at different times, so the
//! journal keeps what was followed, newest last, and whoever has something earlier steps back instead of fighting.

use std::fmt;

use ring::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::revocation::RevocationList;
use super::state::Authorities;
use crate::certificate::hex;

/// How many are remembered. One that was followed longer ago counts as new.
const MAX_FOLLOWED: usize = 64;

/// Stands for backends that bring nothing but make roots when they are asked to.
const OWN: &str = "own";

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
            Lists::None | Lists::Unusable => fingerprint.set,
        }
    }
}

impl From<String> for Fingerprint {
    fn from(text: String) -> Self {
        match text.split_once('+') {
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
    /// What it has is what is followed.
    #[default]
    Newest,
    /// What it has was never followed, so it is what is to be followed next.
    New,
    /// Others have something newer: it takes no steps of its own, and issues with what the journal holds.
    Superseded,
}

impl Authorities {
    /// What was followed, newest last. A journal from before this was noted has followed no files unless a root of some
    /// is in it; whose they are is then said by the first replica that looks.
    fn known(&self) -> Vec<Fingerprint> {
        let all_ours = !self.roots.is_empty() && self.roots.iter().all(|root| !root.pinned);
        if self.followed.is_empty() && all_ours { vec![Fingerprint::own()] } else { self.followed.clone() }
    }

    /// How a replica stands that has `mine`, for all that the journal says.
    #[must_use]
    pub fn standing(&self, mine: &Fingerprint) -> Standing {
        let known = self.known();
        match known.iter().rposition(|followed| mine.is(followed)) {
            None => Standing::New,
            Some(at) if at + 1 == known.len() => Standing::Newest,
            Some(_) => Standing::Superseded,
        }
    }

    /// Notes that `mine` is what is followed from now on.
    pub fn note_followed(&mut self, mine: &Fingerprint) {
        let mut known = self.known();
        let before = known.iter().rposition(|followed| mine.is(followed));
        // With lists that are unusable, the ones it had before stand for it.
        let noted = before.map_or_else(|| Fingerprint::from(String::from(mine.clone())), |at| known.remove(at));
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
        self.followed = known;
    }
}

/// What one process remembers of what it had, so that it knows a deliberate return to an earlier set when it sees one.
///
/// A process whose own files change from what is newest to something earlier has seen the operator put that back, and
/// treats it as new. One that starts with something earlier cannot know whether it is late or meant; neither can one
/// that was superseded already. Those wait for an operator's word.
#[derive(Debug, Clone, Default)]
pub struct Follower {
    /// What was newest when this process last had it.
    newest: Option<Fingerprint>,
    /// What this process is about to note; whether it has come to that, the journal says.
    noting: Option<Fingerprint>,
    /// What this process has while others have something newer.
    late: Option<Fingerprint>,
}

impl Follower {
    /// How this process stands, which has `mine` now.
    pub fn standing(&mut self, authorities: &Authorities, mine: &Fingerprint) -> Standing {
        let newest = authorities.known().pop();
        let noted = self.noting.take().zip(newest.as_ref()).is_some_and(|(noting, newest)| noting.is(newest));
        let standing = authorities.standing(mine);
        // Whose lists cannot be used goes with the newest of its set, and may have had others before: that tells nothing.
        if noted || standing == Standing::Newest && !mine.has_unusable_lists() {
            self.newest.clone_from(&newest);
        }
        // For as long as nobody has noted anything else, so that a lost race does not lose the change.
        let returned = standing == Standing::Superseded && newest.is_some() && self.newest == newest;
        let standing = match standing {
            _ if returned => Standing::New,
            // Files that do not change are no news, also when the journal has forgotten that they were followed.
            Standing::New if self.late.as_ref() == Some(mine) => Standing::Superseded,
            other => other,
        };
        self.late = (standing == Standing::Superseded).then(|| mine.clone());
        standing
    }

    /// Tells that this process is about to note `mine` in the journal.
    pub fn notes(&mut self, mine: &Fingerprint) {
        self.noting = Some(mine.clone());
    }
}

#[cfg(test)]
#[path = "followed_tests.rs"]
mod tests;
