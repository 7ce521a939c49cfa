//! What a service hears of its streams, and when content counts as settled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use super::*;

#[tokio::test]
async fn a_listener_hears_of_each_secret_by_the_versions_of_the_snapshot() {
    let world = World::start(10);
    world.publish(&[("default", "1"), ("ROOTCA", "1")]);
    let version = |name: &str| world.snapshots.borrow().secret(name).unwrap().version();
    let (leaf, roots) = (version("default"), version("ROOTCA"));
    let mut client = world.client().await;
    let both = ["default", "ROOTCA"];
    let mut talk = Conversation::open(&mut client, ask(&both)).await.unwrap();
    let first = talk.next().await;
    talk.answer(&both, &first, None).await;
    until(|| world.told.0.lock().unwrap().len() == 2).await;
    // The roots are pushed, then the leaf before the answer about the roots is there.
    world.publish(&[("default", "1"), ("ROOTCA", "2")]);
    let second = talk.next().await;
    let new_roots = version("ROOTCA");
    world.publish(&[("default", "2"), ("ROOTCA", "2")]);
    let third = talk.next().await;
    talk.answer(&both, &second, Some("bad\nroot")).await;
    talk.answer(&both, &third, None).await;
    until(|| world.told.0.lock().unwrap().len() == 4).await;
    drop(talk);
    until(|| world.streams.views().is_empty()).await;
    let expected = [
        format!("ROOTCA applied {roots}"),
        format!("default applied {leaf}"),
        format!("ROOTCA refused {new_roots} bad root"),
        format!("default applied {}", version("default")),
        "closed".to_owned(),
    ];
    assert_eq!(*world.told.0.lock().unwrap(), expected);
    assert_eq!((world.counts.acked.load(Ordering::SeqCst), world.counts.nacked.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn content_is_settled_once_every_stream_that_asks_for_it_has_applied_it() {
    let world = World::start(10);
    world.publish(&[("default", "1"), ("ROOTCA", "1")]);
    let mut changes = world.streams.changes();
    let mut reached = async |expected: Settled| {
        let version = world.snapshots.borrow().secret("ROOTCA").unwrap().version();
        within(async {
            while world.streams.settled("ROOTCA", version).0 != expected {
                changes.changed().await.unwrap();
            }
        })
        .await;
    };
    reached(Settled::Yes).await;
    let mut client = world.client().await;
    let mut other = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    let mut one = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let mut all = Conversation::open(&mut client, ask(&[])).await.unwrap();
    let (_, first, everything) = (other.next().await, one.next().await, all.next().await);
    reached(Settled::Waiting(2)).await;
    one.answer(&["ROOTCA"], &first, None).await;
    reached(Settled::Waiting(1)).await;
    all.answer(&[], &everything, Some("no")).await;
    reached(Settled::Refused("no".into())).await;
    all.answer(&[], &everything, None).await;
    reached(Settled::Yes).await;
    // New content is unsettled from the moment it is published; a stream that ends is no longer waited for.
    world.publish(&[("default", "1"), ("ROOTCA", "2")]);
    reached(Settled::Waiting(2)).await;
    let second = one.next().await;
    one.answer(&["ROOTCA"], &second, None).await;
    reached(Settled::Waiting(1)).await;
    drop(all);
    reached(Settled::Yes).await;
    one.answer(&[], &second, None).await;
    until(|| world.streams.views().iter().all(|view| !view.names.contains(&"ROOTCA".into()))).await;
    world.publish(&[("default", "1"), ("ROOTCA", "3")]);
    reached(Settled::Yes).await;
}
