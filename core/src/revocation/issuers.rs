//! Whose lists there are, and who can make them.

use std::collections::BTreeMap;

use crate::authority::AuthorityId;

/// Where the key is that signs the lists of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListKey {
    /// Here, and the CA is our own: its lists are made and renewed here.
    Own,
    /// Here, but the CA is somebody else's: a list that is made here lacks what its owner has put on theirs.
    Foreign,
    /// Not here.
    Elsewhere,
}

/// The authorities that lists are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListIssuers {
    required: Vec<AuthorityId>,
    keys: BTreeMap<AuthorityId, ListKey>,
}

impl ListIssuers {
    /// Those whose lists make a complete set, and whose keys are held here; also of such as need no list any more.
    #[must_use]
    pub(crate) fn new(required: Vec<AuthorityId>, keys: BTreeMap<AuthorityId, ListKey>) -> Self {
        Self { required, keys }
    }

    /// Those whose lists make a complete set.
    #[must_use]
    pub fn required(&self) -> &[AuthorityId] {
        &self.required
    }

    /// Where the key of this authority is.
    #[must_use]
    pub(crate) fn key(&self, id: &AuthorityId) -> ListKey {
        self.keys.get(id).copied().unwrap_or(ListKey::Elsewhere)
    }

    /// Whether the list of this authority is renewed here: that of another's CA would lose what its owner has put on it.
    #[must_use]
    pub fn renews(&self, id: &AuthorityId) -> bool {
        self.key(id) == ListKey::Own
    }
}
