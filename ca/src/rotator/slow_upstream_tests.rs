//! A backend that takes its time keeps a replica from no news.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::authority::Root;
use signet_core::clock::ManualClock;
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::{KeyCustody, SigningKey};
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::source::{Offer, RevokedBy};
use signet_plugins::authority::SelfSignedRoot;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::signing_state;
use crate::world_tests::{DAY, NOW, World};

/// Certifies nobody, and never says so.
#[derive(Default)]
struct Slow {
    asked: Notify,
}

#[async_trait]
impl UpstreamAuthority for Slow {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Here
    }

    async fn prepare_root(&self, _generation: u64, _now: OffsetDateTime) -> Result<Root, SignError> {
        std::future::pending().await
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        Ok(None)
    }

    async fn certify(
        &self,
        _root: &Root,
        _key: &dyn SigningKey,
        _ttl: Duration,
        _now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        self.asked.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_others_have_done_is_published_while_a_step_waits_for_its_backend() {
    let (world, backend) = (World::new().await, Arc::new(Slow::default()));
    let slow = world.another_on(Arc::clone(&backend) as _);
    slow.rotator.turn().await.unwrap();
    world.clock.set(NOW + 15 * DAY);
    let followed = async {
        backend.asked.notified().await;
        world.rotator.turn().await.unwrap();
        let newest = signing_state::current(&world.state).unwrap();
        let mut state = slow.state.clone();
        let known = state.wait_for(|state| state.as_ref().is_some_and(|state| state.authorities == newest.authorities));
        known.await.unwrap();
        let issuing = signing_state::current(&slow.state).unwrap().authority.limits().authority.clone();
        assert_eq!(issuing, newest.authority.limits().authority);
    };
    tokio::select! {
        turned = slow.rotator.turn() => panic!("it did not wait: {turned:?}"),
        () = followed => {}
    }
}

/// Certifies after an hour, from the middle of it on.
struct Late {
    inner: SelfSignedRoot,
    clock: ManualClock,
}

#[async_trait]
impl UpstreamAuthority for Late {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Here
    }

    async fn prepare_root(&self, generation: u64, now: OffsetDateTime) -> Result<Root, SignError> {
        self.inner.prepare_root(generation, now).await
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        Ok(None)
    }

    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        self.clock.set(now + DAY / 24);
        self.inner.certify(root, key, ttl, now + DAY / 48).await
    }
}

#[tokio::test]
async fn an_issuing_ca_is_judged_at_the_time_when_it_has_come_and_not_when_it_was_wanted() {
    let world = World::new().await;
    let custody: Arc<dyn KeyCustody> = Arc::clone(&world.store) as _;
    let trust_domain = TrustDomain::parse("cluster.local").unwrap();
    let inner = SelfSignedRoot::new(trust_domain, custody, KeyType::EcP256, 365 * DAY);
    let late = world.another_on(Arc::new(Late { inner, clock: world.clock.clone() }));
    late.rotator.turn().await.unwrap();
    let before = signing_state::current(&late.state).unwrap().authority.limits().authority.clone();
    world.clock.set(NOW + 15 * DAY);
    late.rotator.turn().await.unwrap();
    let after = signing_state::current(&late.state).unwrap().authority.limits().authority.clone();
    assert_ne!(before, after);
}
