//! What a change of the journal asks about holders, of which there is no record in PostgreSQL yet.

use signet_core::rotation::Condition;
use signet_core::seams::store::StoreError;
use time::OffsetDateTime;

use super::locked::Locked;

/// Forgets raises that cross no bundle that something waits for; none are kept yet.
pub(super) const FORGET_RAISED: &str = "SELECT $1::bigint, $2::bigint";

/// Whether all conditions hold: not while nobody counts.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn all_hold(
    _locked: &mut Locked<'_>,
    conditions: &[Condition],
    _now: OffsetDateTime,
) -> Result<bool, StoreError> {
    Ok(conditions.is_empty())
}
