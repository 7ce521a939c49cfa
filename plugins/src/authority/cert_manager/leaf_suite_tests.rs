//! A cert-manager that signs leaves and does what a test wants, in the suite of backends that sign leaves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::large_futures, reason = "tests")]

use std::sync::Arc;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::clock::{Clock as _, SystemClock};
use signet_core::source::OfferedCa;

use super::super::test_pki::Ca;
use super::super::test_suite::leaves::{Leaves, every_point};
use super::test_server::{Does, World};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

struct Scripted {
    world: World,
    root: Ca,
    issuing: IssuingCa,
    leaves: Arc<dyn CertificateAuthority>,
}

impl Scripted {
    /// With an issuer below the root, or the root itself.
    async fn new(is_below: bool) -> Self {
        let now = SystemClock.now();
        let root = Ca::root_with("root", |params| {
            (params.not_before, params.not_after) = (now - 24 * HOUR, now + 9000 * HOUR)
        });
        let middle = root.below("middle", |params| {
            (params.not_before, params.not_after) = (now - HOUR, now + 900 * HOUR);
        });
        let signer = if is_below { middle } else { root.clone() };
        let script = vec![Does::Signs(Box::new(signer))];
        let world = World::with(&[&root], script, |settings| settings.leaves = true).await;
        let offer = world.authority.offer().await.unwrap().unwrap();
        let OfferedCa::Given(issuing) = offer.issuing else { panic!("{:?}", offer.issuing) };
        let leaves = Arc::clone(&world.authority).signer(&issuing).unwrap();
        Self { world, root, issuing, leaves }
    }
}

#[async_trait(?Send)]
impl Leaves for Scripted {
    fn authority(&self) -> Arc<dyn CertificateAuthority> {
        Arc::clone(&self.leaves)
    }

    fn path(&self) -> (CertificateDer<'static>, CertificateDer<'static>) {
        (self.root.der.clone(), self.issuing.certificate.clone())
    }

    fn now(&self) -> OffsetDateTime {
        SystemClock.now()
    }

    async fn away(&self, is_away: bool) -> Option<()> {
        self.world.inner().broken = is_away.then_some(0);
        Some(())
    }
}

#[tokio::test]
async fn a_cert_manager_that_signs_leaves_passes_and_revokes_none() {
    for is_below in [true, false] {
        let scripted = Scripted::new(is_below).await;
        every_point(&scripted).await;
        assert!(!scripted.leaves.revokes_leaves());
    }
}
