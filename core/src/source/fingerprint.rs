//! What stands for a source among replicas.

use std::fmt;

use ring::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::digest::hex;
use crate::revocation::RevocationList;

/// Stands for backends that bring nothing but make roots when they are asked to.
const OWN: &str = "own";

/// Stands for lists that were of no use when a CA was adopted with them; not for none, which say that nothing is revoked.
const UNUSABLE: &str = "unusable";

/// Stands for what a source brings, as far as replicas must agree on it: the CA, and the revocation lists beside it.
///
/// It follows from the content alone and never from the time, or else a set that is superseded would look new on the
/// day one of its roots ends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct SourceFingerprint {
    set: String,
    lists: ListsPrint,
}

#[derive(Clone, PartialEq, Eq)]
enum ListsPrint {
    None,
    Hash(String),
    /// There are some, but they are of no use now. A file that is cut short or late must neither be adopted by others
    /// nor make the good one look like an earlier one when it comes back: so it says nothing, and the lists of the
    /// journal go on.
    Unusable,
}

impl SourceFingerprint {
    /// That of a backend that makes roots on demand.
    #[must_use]
    pub fn own() -> Self {
        Self { set: OWN.to_owned(), lists: ListsPrint::None }
    }

    /// Whether it is of the same CA as `other`, whatever lists are beside them.
    pub(super) fn is_same_ca(&self, other: &Self) -> bool {
        self.set == other.set
    }

    /// Whether it is of a backend that makes roots on demand.
    pub(super) fn is_own(&self) -> bool {
        self.set == OWN
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
        Self { set: hex(all.finish().as_ref()), lists: ListsPrint::None }
    }

    /// The same CA, whose key its backend keeps: that signs leaves itself, and certifies no CA of ours.
    #[must_use]
    pub fn signing_leaves(self) -> Self {
        let mut all = Context::new(&SHA256);
        all.update(self.set.as_bytes());
        all.update(b"signs leaves");
        Self { set: hex(all.finish().as_ref()), ..self }
    }

    /// The same with these lists beside it, in any order; none are the same as no file.
    #[must_use]
    pub fn with_lists(self, lists: &[RevocationList]) -> Self {
        let of = || hash(lists.iter().map(|list| list.der.as_ref()).collect());
        Self { lists: if lists.is_empty() { ListsPrint::None } else { ListsPrint::Hash(of()) }, ..self }
    }

    /// The same with lists beside it that cannot be used.
    #[must_use]
    pub fn with_unusable_lists(self) -> Self {
        Self { lists: ListsPrint::Unusable, ..self }
    }

    /// Whether there are lists that cannot be used.
    #[must_use]
    pub fn has_unusable_lists(&self) -> bool {
        self.lists == ListsPrint::Unusable
    }

    /// Whether `self`, as a replica has it, is what `adopted` stands for.
    pub(super) fn is(&self, adopted: &Self) -> bool {
        self.set == adopted.set && (self.lists == adopted.lists || self.has_unusable_lists())
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

impl From<SourceFingerprint> for String {
    fn from(fingerprint: SourceFingerprint) -> Self {
        match fingerprint.lists {
            ListsPrint::Hash(lists) => format!("{}+{lists}", fingerprint.set),
            ListsPrint::Unusable => format!("{}+{UNUSABLE}", fingerprint.set),
            ListsPrint::None => fingerprint.set,
        }
    }
}

impl From<String> for SourceFingerprint {
    fn from(text: String) -> Self {
        match text.split_once('+') {
            Some((set, UNUSABLE)) => Self { set: set.to_owned(), lists: ListsPrint::Unusable },
            Some((set, lists)) => Self { set: set.to_owned(), lists: ListsPrint::Hash(lists.to_owned()) },
            None => Self { set: text, lists: ListsPrint::None },
        }
    }
}

impl fmt::Debug for SourceFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(self.clone()))
    }
}
