//! What a change of the journal writes, and what of it is looked at with every batch, the same for every database.

use signet_core::rotation::Fence;
use signet_core::seams::store::{Change, StoreError};

use super::holders::column;
use super::rows::{decode_authorities, encode_authorities};

/// Versions that are kept for people: each is a whole document, which revocation lists make large.
pub(super) const HISTORY: i64 = 500;

/// The newest entry with its fence, as far as there is one that follows from it.
pub(super) const READ_FENCE: &str = "SELECT j.version, f.body FROM authority_journal AS j \
    LEFT JOIN authority_fence AS f ON f.id = j.id AND f.version = j.version WHERE j.id = 1";

/// Makes an entry the newest. Its parameters are the version and the body, as in the next two.
pub(super) const PUT: &str = "INSERT INTO authority_journal (id, version, body) VALUES (1, $1, $2) \
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body";

/// Keeps it for people.
pub(super) const KEEP_HISTORY: &str = "INSERT INTO authority_journal_history (version, body) VALUES ($1, $2)";

/// Keeps its fence.
pub(super) const KEEP_FENCE: &str = "INSERT INTO authority_fence (id, version, body) VALUES (1, $1, $2) \
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body";

/// Removes what is kept for people up to a version.
pub(super) const FORGET_HISTORY: &str = "DELETE FROM authority_journal_history WHERE version <= $1";

/// A journal entry that is to be written.
pub(super) struct Entry {
    pub(super) version: i64,
    pub(super) body: String,
    pub(super) fence: Fence,
    pub(super) fence_body: String,
    /// The oldest bundle that something waits for, and the newest.
    pub(super) awaited: (i64, i64),
}

impl Entry {
    /// What a change writes.
    ///
    /// # Errors
    /// [`StoreError`] when there is no further version, or this program may not write the document.
    pub(super) fn of(change: &Change<'_>) -> Result<Self, StoreError> {
        let full = || StoreError::Unavailable("the authority journal has no more versions".to_owned());
        let version = change.expected.0.checked_add(1).and_then(|next| i64::try_from(next).ok()).ok_or_else(full)?;
        let fence = Fence::of(change.next);
        let (body, fence_body) = (encode_authorities(change.next)?, encode_fence(&fence)?);
        let (oldest, newest) = change.next.awaited().unwrap_or((u64::MAX, 0));
        let awaited = (column(oldest), column(newest));
        Ok(Self { version, body, fence, fence_body, awaited })
    }
}

/// The fence of one version of the journal.
#[derive(Default)]
pub(super) struct Known {
    /// 0 when there is no journal.
    pub(super) version: i64,
    pub(super) fence: Fence,
}

impl Known {
    /// From the fence that is kept for this version.
    ///
    /// # Errors
    /// `Decode` when it is not what was once written.
    pub(super) fn kept(version: i64, body: &str) -> Result<Self, sqlx::Error> {
        let fence = serde_json::from_str(body).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self { version, fence })
    }

    /// From the journal itself, which was written by a program that knew of no fence, or by hand.
    ///
    /// # Errors
    /// `Decode` when it is not what was once written.
    pub(super) fn made_anew(version: i64, journal: &str) -> Result<Self, sqlx::Error> {
        let authorities = decode_authorities(version, journal).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self { version, fence: Fence::of(&authorities) })
    }
}

/// A fence as text.
///
/// # Errors
/// [`StoreError::Damaged`] when it has no JSON form, which is a bug.
pub(super) fn encode_fence(fence: &Fence) -> Result<String, StoreError> {
    serde_json::to_string(fence).map_err(|error| StoreError::Damaged(format!("bug: a fence does not encode: {error}")))
}
