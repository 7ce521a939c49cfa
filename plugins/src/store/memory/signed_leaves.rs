//! Leaves that are kept because their backend can revoke them, in memory.

use std::collections::HashMap;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::certificate::Serial;
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::StoreError;
use time::OffsetDateTime;

use super::MemoryStore;

/// Each with its end, seconds since 1970.
pub(super) type Leaves = HashMap<Serial, (i64, CertificateDer<'static>)>;

#[async_trait]
impl SignedLeafStore for MemoryStore {
    async fn signed_leaf(&self, serial: Serial) -> Result<Option<CertificateDer<'static>>, StoreError> {
        Ok(self.content().leaves.get(&serial).map(|(_, leaf)| leaf.clone()))
    }

    async fn forget_signed(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        self.content().leaves.retain(|_, (not_after, _)| {
            let forget = *not_after < before.unix_timestamp() && forgotten < u64::from(limit);
            forgotten += u64::from(forget);
            !forget
        });
        Ok(forgotten)
    }
}
