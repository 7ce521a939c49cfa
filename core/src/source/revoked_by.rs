//! Who revokes the issuing CAs of a source.

/// Who can revoke what a backend has certified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RevokedBy {
    /// This CA, whose key of the root signs the list.
    #[default]
    Here,
    /// Its owner, who brings lists beside it.
    Owner,
    /// The backend, which is asked for it and publishes the list.
    Upstream,
    /// Nobody: the backend knows no revocation.
    Nobody,
}
