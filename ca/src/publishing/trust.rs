//! The trust bundle as the journal in storage has it. Its version is asked for each time, and the whole of it read when that is
//! another one.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use signet_core::bundle::Validation;
use signet_core::identity::TrustDomain;
use signet_core::seams::publisher::PublishedTrust;
use signet_core::seams::store::{AuthorityJournal, JournalVersion, StoreError};

/// What was read last.
struct Read {
    version: JournalVersion,
    trust: Option<Arc<Validation>>,
}

/// See the module.
pub struct StoredTrust {
    journal: Arc<dyn AuthorityJournal>,
    trust_domain: TrustDomain,
    read: Mutex<Option<Read>>,
}

impl StoredTrust {
    /// Of this trust domain; nothing is read yet.
    #[must_use]
    pub fn new(journal: Arc<dyn AuthorityJournal>, trust_domain: TrustDomain) -> Self {
        Self { journal, trust_domain, read: Mutex::default() }
    }

    fn remembered(&self, version: JournalVersion) -> Option<Option<Arc<Validation>>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().filter(|read| read.version == version).map(|read| read.trust.clone())
    }
}

#[async_trait]
impl PublishedTrust for StoredTrust {
    async fn now(&self) -> Result<Option<Arc<Validation>>, StoreError> {
        if let Some(trust) = self.remembered(self.journal.version().await?) {
            return Ok(trust);
        }
        let Some((version, authorities)) = self.journal.load().await? else { return Ok(None) };
        // Without a root there is nothing to publish, and an empty bundle must not exist.
        let trust = authorities.validation(&self.trust_domain).ok().map(Arc::new);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Most changes of the journal are about something else.
        let same = read.as_ref().and_then(|read| read.trust.clone()).filter(|before| trust.as_ref() == Some(before));
        let trust = same.or(trust);
        *read = Some(Read { version, trust: trust.clone() });
        Ok(trust)
    }
}
