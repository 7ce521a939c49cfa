//! What is in the file, and what is told of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use signet_plugins::store::memory::MemoryStore;

use super::*;
use crate::publishing::tests::{beside, clock};
use crate::world_tests::World;

#[test]
fn each_file_of_each_host_has_a_name_that_storage_takes() {
    assert_eq!(publisher(Path::new("/run/roots.pem"), "ca-1"), "file/ca-1//run/roots.pem");
    let long = publisher(Path::new(&"/päth".repeat(500)), "ca-1");
    assert!(long.len() <= MAX_NAME && long.len() > MAX_NAME - 4);
}

#[tokio::test]
async fn what_is_in_the_file_is_reported_and_put_back_and_what_cannot_be_written_is_told() {
    use signet_core::seams::store::PublicationStore as _;
    use signet_runtime::readiness::{Readiness, State};

    let (world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    let (path, stop) = (directory.path().join("roots.pem"), CancellationToken::new());
    let store: std::sync::Arc<MemoryStore> = std::sync::Arc::default();
    let around = beside(&store, "one", clock());
    let (readiness, name) = (Readiness::new(), publisher(&path, "ca-1"));
    let condition = readiness.condition("bundle file");
    let (reporter, state) = (around.reporter(&name), world.state.clone());
    let told = async |state: State| readiness.wait_for(|now| now.checks.iter().any(|check| check.state == state)).await;
    let checks = async {
        told(State::Ready).await;
        around.wake_up.notified().await;
        let all = store.publications().await.unwrap();
        let one = all.all().first().unwrap();
        let bundle = signing_state::current(&world.state).unwrap();
        assert_eq!((one.publisher.as_str(), one.sequence()), (name.as_str(), bundle.bundle().sequence()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), bundle.bundle().pem());
        std::fs::write(&path, "somebody's").unwrap();
        tokio::time::pause();
        tokio::time::advance(LOOK + Duration::from_secs(1)).await;
        let begun = std::time::Instant::now();
        while std::fs::read_to_string(&path).unwrap() != bundle.bundle().pem() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it was not put back");
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
        stop.cancel();
    };
    let (kept, ()) = tokio::join!(keep(path.clone(), state.clone(), condition, reporter, stop.clone()), checks);
    kept.unwrap();
    let (nowhere, stop) = (directory.path().join("no/such/roots.pem"), CancellationToken::new());
    let (condition, reporter) = (readiness.condition("bundle file"), around.reporter("file/ca-1/nowhere"));
    let checks = async {
        told(State::Degraded).await;
        loop {
            let all = store.publications().await.unwrap();
            if let Some(one) = all.all().iter().find(|one| one.publisher == "file/ca-1/nowhere") {
                assert!(one.in_place == 0 && one.problem.as_ref().unwrap().starts_with("bundle_file: "), "{one:?}");
                break;
            }
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (kept, ()) = tokio::join!(keep(nowhere, state, condition, reporter, stop.clone()), checks);
    kept.unwrap();
}

#[test]
fn only_another_content_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roots.pem");
    write(&path, "one").unwrap();
    let first = std::fs::metadata(&path).unwrap().modified().unwrap();
    write(&path, "one").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), first);
    write(&path, "two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert!(write(&directory.path().join("no/such/place"), "x").is_err());
}
