//! The format of the journal's document: what programs of other versions may expect of this one, and the other way
//! round. Nothing that a newer program has written is dropped by an older one, and an older document is read as it is.

use serde::{Deserialize, Serialize};

use super::state::Authorities;
use super::wire::holds_unknown;
use crate::authority::AuthorityId;
use crate::certificate::Facts;
use crate::revocation::RevocationReason;
use crate::source::SourceFingerprint;

/// The newest format that this program knows: of 3 is a document with an issuing CA whose key is a backend's. Format 1 had no
/// number, and ids that covered the key alone.
const FORMAT: u32 = 3;

/// The format that a document begins with, so that programs of before read it as long as there is nothing new in it.
const FIRST: u32 = 2;

/// The oldest format whose programs may change what this one has written: those of format 1 drop what they do not know.
const OLDEST_WRITER: u32 = 2;

/// Which programs a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The newest format of which there is something in the document.
    #[serde(default = "one")]
    format: u32,
    /// Only programs that know this format, or a later one, may change the document.
    #[serde(default = "one")]
    oldest_writer: u32,
}

fn one() -> u32 {
    1
}

impl Default for Version {
    fn default() -> Self {
        Self { format: FIRST, oldest_writer: OLDEST_WRITER }
    }
}

impl Version {
    /// Notes that there is an issuing CA whose key is a backend's.
    pub(super) fn holds_key_of_backend(&mut self) {
        self.format = self.format.max(3);
    }
}

/// Why a document is not read, or not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A newer program wrote it, and has said that this one may not change it.
    #[error(
        "the authority journal is of format {format} and is changed only by programs that know format {oldest_writer} or \
         later; this one knows {FORMAT}: it goes on issuing; upgrade it, or send the command to a replica that is newer"
    )]
    Newer {
        /// The document's format.
        format: u32,
        /// The oldest format whose programs may change it.
        oldest_writer: u32,
    },
    /// There are states or the like that this program does not know.
    #[error(
        "the authority journal, of format {0}, holds values that this program does not know (it knows format {FORMAT}): \
         it goes on issuing and changes nothing; upgrade it, or send the command to a replica that is newer"
    )]
    UnknownValues(u32),
    /// A newer program wrote it in a way that this one cannot read at all.
    #[error("the authority journal is of format {0}, which this program cannot read (it knows {FORMAT}): upgrade it")]
    Foreign(u32),
    /// It is no document.
    #[error("it cannot be read: {0}")]
    Damaged(String),
}

impl Authorities {
    /// The document from its text, whatever program wrote it.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] or [`FormatError::Damaged`].
    pub fn decode(text: &str) -> Result<Self, FormatError> {
        let mut read: Self = serde_json::from_str(text).map_err(|error| match serde_json::from_str(text) {
            Ok(Version { format, .. }) if format > FORMAT => FormatError::Foreign(format),
            // Its own message repeats what it has found, however long that is.
            _ => FormatError::Damaged(format!(
                "line {}, column {}: {:?}",
                error.line(),
                error.column(),
                error.classify()
            )),
        })?;
        if read.version.format < FIRST {
            read.upgrade();
        }
        Ok(read)
    }

    /// The document as text.
    ///
    /// # Errors
    /// As [`may_change`](Self::may_change); [`FormatError::Damaged`] when it has no JSON form, which is a bug.
    pub fn encode(&self) -> Result<String, FormatError> {
        self.may_change()?;
        serde_json::to_string(self).map_err(|error| FormatError::Damaged(format!("bug: it does not encode: {error}")))
    }

    /// Whether this program may change the document.
    ///
    /// # Errors
    /// [`FormatError::Newer`] or [`FormatError::UnknownValues`], with the document's format.
    pub fn may_change(&self) -> Result<(), FormatError> {
        let Version { format, oldest_writer } = self.version;
        if oldest_writer > FORMAT {
            return Err(FormatError::Newer { format, oldest_writer });
        }
        let states = self.roots.iter().any(holds_unknown);
        let reasons = self.revocations.entries.iter().any(|entry| entry.reason == RevocationReason::Unknown);
        if states || reasons { Err(FormatError::UnknownValues(format)) } else { Ok(()) }
    }

    /// What a program of format 1 has written, as this one would have.
    ///
    /// Authorities keep the ids that they have: holders, ends of certificates and events on record name them so, and so
    /// do replicas that are not upgraded yet. What is the same is found by [`former_ids`](Self::former_ids).
    fn upgrade(&mut self) {
        self.version = Version::default();
        let is_ours = !self.roots.is_empty() && self.roots.iter().all(|root| !root.pinned);
        if self.adopted.is_empty() && is_ours {
            self.adopted.note(&SourceFingerprint::own());
        }
        // CAs between an operator's issuing CA and its root have no entry of their own: only lists name them.
        let mut between: Vec<(AuthorityId, AuthorityId)> = Vec::new();
        for der in self.roots.iter().flat_map(|root| &root.issuing).flat_map(|issuing| &issuing.intermediates) {
            let Ok(facts) = Facts::read(der) else { continue };
            let former = AuthorityId::of_key(&facts);
            if self.root(&former).is_none() && self.root_of(&former).is_none() {
                between.push((former, AuthorityId::of(&facts)));
            }
        }
        let lists = self.revocations.lists.iter_mut().map(|list| &mut list.issuer);
        for issuer in lists.chain(self.revocations.entries.iter_mut().map(|entry| &mut entry.issuer)) {
            if let Some((_, new)) = between.iter().find(|(former, _)| former == issuer) {
                issuer.clone_from(new);
            }
        }
    }

    /// The authorities whose ids are from before ids covered names.
    #[must_use]
    pub fn former_ids(&self) -> FormerIds {
        let roots = self.roots.iter().map(|root| (&root.id, &root.certificate));
        let issuing = self.roots.iter().flat_map(|root| &root.issuing).map(|one| (&one.id, &one.certificate));
        let mut former = Vec::new();
        for (id, der) in roots.chain(issuing) {
            if let Some(facts) = Facts::read(der).ok().filter(|facts| AuthorityId::of_key(facts) == *id) {
                former.push((AuthorityId::of(&facts), id.clone()));
            }
        }
        FormerIds(former)
    }
}

/// What follows from name and key of an authority, and the id that it has had since before; for few authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormerIds(Vec<(AuthorityId, AuthorityId)>);

impl FormerIds {
    /// The id in the journal of the authority whose name and key make this id.
    #[must_use]
    pub fn known(&self, id: AuthorityId) -> AuthorityId {
        self.0.iter().find(|(made, _)| *made == id).map_or(id, |(_, former)| former.clone())
    }

    /// The ids that name and key make of the authorities that have this one in the journal: itself, as a rule.
    #[must_use]
    pub fn made(&self, id: &AuthorityId) -> Vec<AuthorityId> {
        let mut made: Vec<_> = self.0.iter().filter(|(_, former)| former == id).map(|(made, _)| made.clone()).collect();
        if made.is_empty() {
            made.push(id.clone());
        }
        made
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
