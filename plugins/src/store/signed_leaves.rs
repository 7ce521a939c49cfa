//! Leaves that are kept because their backend can revoke them: the statements, which are the same for every database.

use signet_core::record_before_release::Kept;

use super::rows::NewRow;

/// The leaf with a serial number.
pub(super) const FIND: &str = "SELECT der FROM signed_leaf WHERE serial = $1";

/// Forgets some of those that ended before.
pub(super) const FORGET: &str = "DELETE FROM signed_leaf WHERE serial IN \
    (SELECT serial FROM signed_leaf WHERE not_after < $1 ORDER BY not_after LIMIT $2)";

/// What is kept of a leaf beside its record.
pub(super) struct LeafRow<'r> {
    pub(super) serial: &'r [u8],
    pub(super) not_after: i64,
    pub(super) der: &'r [u8],
}

impl<'r> LeafRow<'r> {
    /// The leaf of a record that was made, if one is kept with it.
    pub(super) fn of(row: &'r NewRow, kept: Option<&'r Kept>) -> Option<Self> {
        let der = kept?.leaf()?.as_ref();
        let not_after = row.event.what.as_ref()?.not_after;
        Some(Self { serial: row.serial.as_ref()?.as_bytes(), not_after, der })
    }
}
