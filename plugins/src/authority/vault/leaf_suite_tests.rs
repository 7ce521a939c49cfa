//! A Vault that signs leaves, in the suite of backends that do: one that says what a test wants, and a real OpenBao.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::large_futures, reason = "tests")]

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use signet_core::authority::IssuingCa;
use signet_core::source::Offer;
use signet_test_servers::OpenBao;
use time::format_description::well_known::Rfc3339;

use super::super::test_pki::{Ca, NOW};
use super::super::test_suite::leaves::{Leaves, every_point};
use super::suite_tests::Real;
use super::test_server::{Answer, Asked, Vault, World};
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

/// One that says what a test wants.
struct Scripted {
    world: World,
    root: Ca,
    middle: Ca,
    leaves: Arc<dyn CertificateAuthority>,
}

/// What a Vault with the documented role answers to a leaf.
fn leaf_of(issuer: &Ca, asked: &Asked) -> Answer {
    let text = |name: &str| asked.body[name].as_str().unwrap().to_owned();
    let until = OffsetDateTime::parse(&text("not_after"), &Rfc3339).unwrap();
    let leaf = issuer.certifies(&text("csr"), Duration::from_secs(60), |params| {
        params.subject_alt_names = vec![rcgen::SanType::URI(text("uri_sans").try_into().unwrap())];
        params.not_after = until;
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature, rcgen::KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    Answer::Json(200, json!({ "data": { "certificate": leaf.pem(), "issuing_ca": issuer.pem() } }))
}

impl Scripted {
    async fn new() -> Self {
        let root = Ca::root("root");
        let middle = root.below("middle", |_| {});
        let vault = Vault::of(&middle, &[&root]);
        let world = World::with(vault, |settings| {
            settings.leaves = Some(LeafRoles { workloads: "mesh".into(), serving: "own".into(), at_once: 8 });
            // A hundred are made by the same machine, in turn.
            settings.timeout = Duration::from_secs(60);
        })
        .await;
        let offer = world.vault.offer().await.unwrap().unwrap();
        let leaves = Arc::clone(&world.vault).signer(offer.given().unwrap()).unwrap();
        let scripted = Self { world, root, middle, leaves };
        scripted.away(false).await;
        scripted
    }
}

#[async_trait(?Send)]
impl Leaves for Scripted {
    fn authority(&self) -> Arc<dyn CertificateAuthority> {
        Arc::clone(&self.leaves)
    }

    fn path(&self) -> (CertificateDer<'static>, CertificateDer<'static>) {
        (self.root.der.clone(), self.middle.der.clone())
    }

    fn now(&self) -> OffsetDateTime {
        NOW
    }

    async fn away(&self, is_away: bool) -> Option<()> {
        let (vault, signer) = (Vault::of(&self.middle, &[&self.root]), self.middle.clone());
        self.world.server.says(move |asked| match asked.path.contains("/sign/") && asked.body["csr"] != "" {
            _ if is_away => Answer::Reset,
            true => leaf_of(&signer, asked),
            false => vault.answer(asked),
        });
        Some(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_signs_leaves_passes_and_revokes_them() {
    let scripted = Scripted::new().await;
    every_point(&scripted).await;
    assert!(scripted.leaves.revokes_leaves());
}

#[tokio::test]
async fn a_real_openbao_that_signs_leaves_passes() {
    let bao = Arc::new(OpenBao::start().await.unwrap());
    every_point(&Signing::new(&bao).await).await;
}
