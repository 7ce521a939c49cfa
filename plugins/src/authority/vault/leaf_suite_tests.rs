//! A real OpenBao that signs leaves, in the suite of backends that do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::large_futures, reason = "tests")]

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use signet_core::authority::IssuingCa;
use signet_core::source::Offer;
use signet_test_servers::OpenBao;

use super::super::test_suite::leaves::{Leaves, every_point};
use super::suite_tests::Real;
use super::*;

/// The role that the page documents.
const MESH: &str = include_str!("../../../../deploy/vault/role-mesh.json");

struct Signing {
    real: Real,
    issuing: IssuingCa,
    root: CertificateDer<'static>,
    leaves: Arc<dyn CertificateAuthority>,
}

impl Signing {
    async fn new(bao: &Arc<OpenBao>) -> Self {
        let (workloads, serving) = ("signet-mesh".to_owned(), "signet-mesh".to_owned());
        let real = Real::with(bao, Some(LeafRoles { workloads, serving, at_once: 8 })).await;
        let role: Value = serde_json::from_str(MESH).unwrap();
        real.bao.put(&format!("{}/roles/signet-mesh", real.mount), role).await.unwrap();
        let path = format!("{}/issuer/+/sign/signet-mesh", real.mount);
        real.policy(&format!("path \"{path}\" {{ capabilities = [\"update\"] }}")).await;
        let Offer { roots, issuing, .. } = real.vault.offer().await.unwrap().unwrap();
        let signet_core::source::OfferedCa::Given(issuing) = issuing else { panic!("{issuing:?}") };
        let leaves = Arc::clone(&real.vault).signer(&issuing).unwrap();
        Self { real, issuing, root: roots[0].certificate.clone(), leaves }
    }
}

#[async_trait(?Send)]
impl Leaves for Signing {
    fn authority(&self) -> Arc<dyn CertificateAuthority> {
        Arc::clone(&self.leaves)
    }

    fn path(&self) -> (CertificateDer<'static>, CertificateDer<'static>) {
        (self.root.clone(), self.issuing.certificate.clone())
    }

    fn now(&self) -> OffsetDateTime {
        self.real.vault.clock.now()
    }

    async fn away(&self, is_away: bool) -> Option<()> {
        if is_away {
            self.real.bao.seal().await.unwrap()
        } else {
            self.real.bao.unseal().await.unwrap()
        }
        Some(())
    }
}

#[tokio::test]
async fn a_real_openbao_that_signs_leaves_passes() {
    let bao = Arc::new(OpenBao::start().await.unwrap());
    every_point(&Signing::new(&bao).await).await;
}
