//! The members that are here: roots that Signet makes, and the operator's CA in files.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::authority::Root;
use signet_core::clock::ManualClock;
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::KeyCustody;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use tempfile::TempDir;
use time::OffsetDateTime;

use super::super::test_pki::{Ca, DAY, Encoding, NOW, write};
use super::super::{FilesAuthority, SelfSignedRoot};
use super::{Made, Member, Who, every_point};
use crate::custody::MemoryCustody;

struct Native(Arc<SelfSignedRoot>);

#[async_trait(?Send)]
impl Member for Native {
    fn authority(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.0) as _
    }

    fn now(&self) -> OffsetDateTime {
        NOW
    }

    async fn rotate(&self) {}
}

#[tokio::test]
async fn native_passes() {
    every_point(Who::Native, async || {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let root = SelfSignedRoot::new(domain, Arc::new(MemoryCustody::new()), KeyType::EcP256, 100 * DAY);
        Native(Arc::new(root))
    })
    .await;
}

struct Files {
    directory: TempDir,
    custody: Arc<MemoryCustody>,
    authority: Arc<FilesAuthority>,
}

impl Files {
    fn new() -> Self {
        let (directory, custody) = (TempDir::new().unwrap(), Arc::new(MemoryCustody::new()));
        let place = directory.path().join("ca");
        std::fs::create_dir(&place).unwrap();
        let authority = FilesAuthority::new(place, Arc::clone(&custody) as _, Arc::new(ManualClock::at(NOW)));
        let files = Self { directory, custody, authority: Arc::new(authority) };
        files.put(&Ca::root("root"));
        files
    }

    /// An intermediate below this root.
    fn put(&self, root: &Ca) {
        let middle = root.below("middle", |_| {});
        let signer = middle.below("signer", |_| {});
        write(&self.directory.path().join("ca"), &signer, Encoding::Pkcs8, &[&middle], &[root]);
    }
}

#[async_trait(?Send)]
impl Member for Files {
    fn authority(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.authority) as _
    }

    fn now(&self) -> OffsetDateTime {
        NOW
    }

    /// The one in the files; only under the root that is theirs.
    async fn issue(&self, root: &Root, _: KeyType, _: Duration) -> Result<Made, SignError> {
        let offer = self.authority.offer().await?.unwrap();
        if offer.signer != root.id {
            return Err(SignError::Unavailable("the files are another CA's by now".to_owned()));
        }
        let issuing = offer.given().unwrap().clone();
        let key = self.custody.open(issuing.key.as_ref().unwrap()).await.unwrap();
        Ok(Made { issuing, key })
    }

    async fn away(&self, is_away: bool) {
        let (here, there) = (self.directory.path().join("ca"), self.directory.path().join("elsewhere"));
        if is_away { std::fs::rename(here, there).unwrap() } else { std::fs::rename(there, here).unwrap() }
    }

    async fn rotate(&self) {
        self.put(&Ca::root("another"));
    }
}

#[tokio::test]
async fn files_pass() {
    every_point(Who::Files, async || Files::new()).await;
}
