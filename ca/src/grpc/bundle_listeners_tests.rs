//! How many streams of whom may be open.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::bundle_feed::BundleFeed;
use signet_core::clock::SystemClock;
use signet_core::holder::HolderKey;
use signet_runtime::metrics::Metrics;
use std::time::Duration;

fn listeners(per_identity: usize) -> Listeners {
    let clock: SharedClock = Arc::new(SystemClock);
    let metrics = Arc::new(CaMetrics::new(&Metrics::new(), Arc::clone(&clock)).unwrap());
    let (_writer, state) = tokio::sync::watch::channel(None);
    let feed = BundleFeed::new(state, Duration::from_secs(60), crate::storage_age::test_proofs());
    Listeners::new(Acknowledgements::default(), feed.sequences(), clock, metrics, per_identity)
}

fn pod(spiffe_id: &str, instance: usize) -> Acknowledger {
    Acknowledger::Holder(HolderKey { spiffe_id: spiffe_id.to_owned(), instance: instance.to_string() })
}

fn certificate(spiffe_id: &str, serial: usize) -> Acknowledger {
    Acknowledger::Certificate { spiffe_id: spiffe_id.to_owned(), serial: serial.to_string() }
}

#[test]
fn an_identity_has_its_limit_over_tokens_instances_and_certificates_and_others_have_theirs() {
    let listeners = listeners(20);
    // What nobody can choose freely and what everybody can: it makes no difference.
    let many = (0..10).flat_map(|number| [pod("a", number), certificate("a", number)]);
    let mut held: Vec<_> = many.map(|from| listeners.enter(from).unwrap()).collect();
    for from in [pod("a", 99), certificate("a", 99), pod("a", 0)] {
        let refused = listeners.enter(from).err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("bundle_streams_per_identity"), "{refused}");
    }
    let others: Vec<_> = (0..20).map(|number| listeners.enter(pod("b", number)).unwrap()).collect();
    assert_eq!(listeners.metrics.rotation.streams.get(), 40);
    // A place is free as soon as a stream has ended, and a refused attempt holds none.
    held.pop();
    held.push(listeners.enter(certificate("a", 99)).unwrap());
    assert!(listeners.enter(pod("a", 99)).is_err());
    drop((held, others));
    let open = listeners.open.lock().unwrap();
    assert!(open.holders.is_empty() && open.identities.is_empty());
    assert_eq!(listeners.metrics.rotation.streams.get(), 0);
}

#[test]
fn one_holder_cannot_take_the_places_of_the_other_pods_of_its_identity() {
    let listeners = listeners(1000);
    for from in [pod("a", 1), certificate("a", 1)] {
        let held: Vec<_> = (0..PER_HOLDER).map(|_| listeners.enter(from.clone()).unwrap()).collect();
        assert!(listeners.enter(from.clone()).err().unwrap().message().contains("this holder"));
        assert!(listeners.enter(pod("a", 2)).is_ok());
        drop(held);
        assert!(listeners.enter(from).is_ok());
    }
}
