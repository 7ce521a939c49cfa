//! A directory of CA files, the authority over it, and a custody that can be watched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use signet_core::authority::KeyId;
use signet_core::bundle::TrustBundle;
use signet_core::certificate::Facts;
use signet_core::clock::ManualClock;
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::CertificateAuthority;
use signet_core::seams::custody::{CustodyError, KeyCustody, SigningKey};
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_core::secret::Secret;
use signet_core::source::Offer;
use signet_core::verify::{Signer, VerifiedPath, check_issued};
use tempfile::TempDir;

use super::super::test_pki::{Ca, Encoding, NOW, leaf_of, openssl_accepts, request_of, write};
use super::FilesAuthority;
use crate::authority::NativeAuthority;
use crate::custody::MemoryCustody;

/// Custody that counts what is brought to it, and can fail.
#[derive(Default)]
pub(super) struct Counting {
    kept: MemoryCustody,
    pub(super) imports: AtomicUsize,
    pub(super) down: AtomicBool,
}

#[async_trait]
impl KeyCustody for Counting {
    async fn create(&self, id: &KeyId, key_type: KeyType) -> Result<Arc<dyn SigningKey>, CustodyError> {
        self.kept.create(id, key_type).await
    }

    async fn import(&self, id: &KeyId, pkcs8: &Secret) -> Result<Arc<dyn SigningKey>, CustodyError> {
        self.imports.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(CustodyError::Store("down".to_owned()));
        }
        self.kept.import(id, pkcs8).await
    }

    async fn open(&self, id: &KeyId) -> Result<Arc<dyn SigningKey>, CustodyError> {
        self.kept.open(id).await
    }
}

/// A directory of files and the authority that reads it.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) custody: Arc<Counting>,
    pub(super) clock: ManualClock,
    pub(super) files: FilesAuthority,
}

impl World {
    pub(super) fn new() -> Self {
        let (dir, custody, clock) = (TempDir::new().unwrap(), Arc::new(Counting::default()), ManualClock::at(NOW));
        let files = FilesAuthority::new(dir.path().to_owned(), Arc::clone(&custody) as _, Arc::new(clock.clone()));
        Self { dir, custody, clock, files }
    }

    pub(super) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join(name), content).unwrap();
    }

    /// Istio's form: the signer, its chain without the signer, and the roots.
    pub(super) fn put_set(&self, signer: &Ca, chain: &[&Ca], roots: &[&Ca]) {
        write(self.dir.path(), signer, Encoding::Pkcs8, chain, roots);
    }

    pub(super) async fn offer(&self) -> Offer {
        self.files.offer().await.unwrap().unwrap()
    }

    pub(super) async fn refused(&self) -> String {
        match self.files.offer().await {
            Err(error) => error.to_string(),
            Ok(offer) => panic!("accepted: {offer:?}"),
        }
    }

    /// A leaf signed by what is offered, with its chain, judged by OpenSSL under `roots`.
    pub(super) async fn check_signs(&self, offer: &Offer, roots: &[&Ca]) {
        let key = self.custody.open(offer.given().unwrap().key.as_ref().unwrap()).await.unwrap();
        let authority = NativeAuthority::new(key, offer.given().unwrap()).unwrap();
        let chain = leaf_of(&authority, NOW).await;
        let leaf = Facts::read(chain.leaf()).unwrap();
        let signer = Facts::read(&offer.given().unwrap().certificate).unwrap();
        let own = signer.subject_key_id.clone().unwrap_or_else(|| signer.key_id());
        assert_eq!(leaf.authority_key_id, Some(own), "the key identifier of the certificate, not ours");
        assert_eq!(leaf.issuer_der, signer.subject_der);
        for certificate in chain.intermediates() {
            let facts = Facts::read(certificate).unwrap();
            assert_ne!(facts.subject_der, facts.issuer_der, "a root is never part of a chain");
        }
        for root in roots {
            openssl_accepts(&chain, &[&root.der], NOW);
        }
    }

    /// The same under all of `roots` at once, by OpenSSL and by Signet's own check before the release of a certificate.
    pub(super) async fn check_signs_in_one_bundle(&self, offer: &Offer, roots: &[&Ca]) {
        let key = self.custody.open(offer.given().unwrap().key.as_ref().unwrap()).await.unwrap();
        let authority = NativeAuthority::new(key, offer.given().unwrap()).unwrap();
        let domain = TrustDomain::parse("cluster.local").unwrap();
        let bundle = TrustBundle::new(domain, 1, roots.iter().map(|root| root.der.clone()).collect()).unwrap();
        let request = request_of(&authority, NOW);
        let chain = authority.sign(&request).await.unwrap();
        openssl_accepts(&chain, &roots.iter().map(|root| &root.der[..]).collect::<Vec<_>>(), NOW);
        let path = VerifiedPath::check(chain.intermediates(), &offer.given().unwrap().certificate, &bundle).unwrap();
        check_issued(request, chain, &path, Signer::Elsewhere).unwrap();
    }
}
