//! Trust bundles for tests, and storage that tells of them when a test lets it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use signet_core::bundle::{TrustBundle, Validation};
use signet_core::identity::TrustDomain;
use signet_core::seams::publisher::PublishedTrust;
use signet_core::seams::store::StoreError;
use signet_test_servers::scripted::ScriptedApi;
use tokio::sync::Semaphore;

use crate::kubernetes::{ApiServer, Credentials, Files};

pub(crate) fn root() -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

/// A bundle of these roots, and lists that nobody reads.
pub(crate) fn validation(sequence: u64, roots: &[CertificateDer<'static>], lists: &[&[u8]]) -> Arc<Validation> {
    let bundle = TrustBundle::new(TrustDomain::parse("td").unwrap(), sequence, roots.to_vec()).unwrap();
    let revocation_lists = lists.iter().map(|list| list.to_vec().into()).collect();
    Arc::new(Validation { bundle, revocation_lists })
}

/// What storage says, once it is asked and lets go of the answer.
pub(crate) struct Told {
    now: Mutex<Result<Option<Arc<Validation>>, StoreError>>,
    /// Answers that may be given: they are as of the question.
    pub(crate) lets: Semaphore,
    /// Is told of each question.
    pub(crate) asked: Semaphore,
}

impl Told {
    pub(crate) fn new(now: Arc<Validation>) -> Self {
        Self { now: Mutex::new(Ok(Some(now))), lets: Semaphore::new(1 << 20), asked: Semaphore::new(0) }
    }

    pub(crate) fn set(&self, now: Result<Option<Arc<Validation>>, StoreError>) {
        *self.now.lock().unwrap() = now;
    }

    /// From now on, nobody is answered.
    pub(crate) async fn hold(&self) {
        self.lets.acquire_many(u32::try_from(self.lets.available_permits()).unwrap()).await.unwrap().forget();
    }
}

#[async_trait]
impl PublishedTrust for Told {
    async fn now(&self) -> Result<Option<Arc<Validation>>, StoreError> {
        let now = self.now.lock().unwrap().clone();
        self.asked.add_permits(1);
        self.lets.acquire().await.unwrap().forget();
        now
    }
}

/// A client of a scripted server.
pub(crate) async fn server(api: &ScriptedApi) -> Arc<ApiServer> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, api.kubeconfig()).unwrap();
    Arc::new(ApiServer::open(Credentials::Kubeconfig(file), Files::plain()).await.unwrap())
}
