//! Leaves that a backend has signed with a key of its own and can revoke: kept until they end, since it may want to see what it is
//! to revoke.

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::store::StoreError;
use crate::certificate::Serial;

/// The leaves that were kept by [`AuditStore::append_keeping`](super::store::AuditStore::append_keeping), each in the transaction
/// of its record.
#[async_trait]
pub trait SignedLeafStore: Send + Sync {
    /// The leaf with this serial number; `None` when none was kept, or it was forgotten.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn signed_leaf(&self, serial: Serial) -> Result<Option<CertificateDer<'static>>, StoreError>;

    /// Forgets at most `limit` that ended before `before`; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget_signed(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;
}
