//! When holders count that learn of roots from where these are published.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use signet_core::holder::HolderQuery;
use signet_core::publication::Report;
use signet_core::seams::store::{HolderStore, PublicationStore};
use signet_core::time_math::{after, before};

use crate::pod_certificates::tests::issue;
use crate::world_tests::{NOW, World};

const REFRESH: Duration = Duration::from_secs(120);

fn report(publisher: &str, sequence: u64, at: time::OffsetDateTime) -> Report {
    Report { publisher: publisher.into(), sequence: Some(sequence), wanted: 1, in_place: 1, problem: None, at }
}

async fn sequence(world: &World) -> u64 {
    let query = HolderQuery { now: NOW, behind: None, authorities: vec![], after: None, limit: 9 };
    let [holder] = <[_; 1]>::try_from(world.store.holders(&query).await.unwrap()).unwrap();
    holder.sequence
}

#[tokio::test]
async fn pods_of_a_kubelet_count_once_their_clusters_bundle_is_published_for_as_long_as_kubelets_take() {
    let world = World::new().await;
    let newest = world.state.borrow().as_ref().unwrap().bundle().sequence();
    issue(&world, "r").await;
    world.rotator.turn().await.unwrap();
    assert_eq!(sequence(&world).await, 0, "nothing is published");
    for other in [
        "config-map/Kubernetes/x",
        "cluster-trust-bundle/other/signet.internal:workload:root-cert",
        "cluster-trust-bundle/Kubernetes/signet.internal:other:root-cert",
    ] {
        world.store.report(&report(other, newest, before(NOW, REFRESH * 2))).await.unwrap();
    }
    world.rotator.turn().await.unwrap();
    assert_eq!(sequence(&world).await, 0, "what is published elsewhere is not theirs");
    world
        .store
        .report(&report("cluster-trust-bundle/Kubernetes/signet.internal:workload:root-cert", newest, NOW))
        .await
        .unwrap();
    for (wait, expected) in [(REFRESH - Duration::from_secs(1), 0), (REFRESH, newest)] {
        world.clock.set(after(NOW, wait));
        world.rotator.turn().await.unwrap();
        assert_eq!(sequence(&world).await, expected, "{wait:?}");
    }
    let observation = world.rotator.executor.observe().await.unwrap();
    assert_eq!((observation.coverage.live(), observation.coverage.covered(newest)), (1, 1));
}
