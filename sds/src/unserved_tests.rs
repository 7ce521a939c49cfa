//! Names that are not served: who asks for them, and what they are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

#[tokio::test]
async fn a_fetch_is_told_whether_a_secret_is_to_come_or_is_never_served() {
    let world = World::start(1);
    let mut client = world.client().await;
    let (soon, never) = (tonic::Code::Unavailable, tonic::Code::NotFound);
    for (wanted, code) in [
        (&["default"][..], soon),
        (&["default", "ROOTCA"], soon),
        (&["defualt", "default"], soon),
        (&[], soon),
        (&["*", "defualt"], soon),
        (&["defualt"], never),
        (&["defualt", "rootca", ""], never),
    ] {
        assert_eq!(client.fetch_secrets(ask(wanted)).await.unwrap_err().code(), code, "{wanted:?}");
    }
    assert_eq!(world.counts.unserved.load(Ordering::SeqCst), 5);
    world.publish(&[("default", "1")]);
    let told = client.fetch_secrets(ask(&["defualt"])).await.unwrap_err();
    assert_eq!(told.message(), "no secret is called \"defualt\" here; served are: ROOTCA, a, b, default");
    // One name that is never served does not stand in the way of others (rule 19).
    assert_eq!(names(client.fetch_secrets(ask(&["defualt", "default"])).await.unwrap().get_ref()), ["default"]);
    assert_eq!(client.fetch_secrets(ask(&["ROOTCA"])).await.unwrap_err().code(), soon);
}

#[tokio::test]
async fn a_stream_shows_which_of_its_names_are_never_served_and_each_is_counted_once() {
    let world = World::start(1);
    let mut client = world.client().await;
    let shown = || world.ledger.views().first().map(|view| view.unserved.clone()).unwrap_or_default();
    let counted = || world.counts.unserved.load(Ordering::SeqCst);
    // Before anything is there.
    let asked = ["ROOTCA", "default", "defualt", "kubernetes://x"];
    let mut talk = Conversation::open(&mut client, ask(&asked)).await.unwrap();
    until(|| counted() == 2).await;
    assert_eq!(shown(), ["defualt", "kubernetes://x"].map(Name::from));
    world.publish(&[("default", "1"), ("ROOTCA", "1")]);
    let first = talk.next().await;
    assert_eq!(names(&first), ["ROOTCA", "default"]);
    talk.answer(&asked, &first, None).await;
    until(|| world.counts.acked.load(Ordering::SeqCst) == 1).await;
    assert_eq!((shown().len(), counted()), (2, 2), "an acknowledgement asks for nothing new");
    talk.answer(&["defualt", "other"], &first, None).await;
    until(|| counted() == 3).await;
    assert_eq!(shown(), ["defualt", "other"].map(Name::from));
    talk.answer(&["default"], &first, None).await;
    until(|| shown().is_empty()).await;
    assert_eq!(counted(), 3);
}

#[tokio::test]
async fn a_stream_that_asks_for_everything_asks_for_nothing_in_vain() {
    let world = World::start(2);
    world.publish(&[("default", "1")]);
    let mut client = world.client().await;
    for asked in [&[][..], &["*", "defualt"]] {
        let mut talk = Conversation::open(&mut client, ask(asked)).await.unwrap();
        assert_eq!(names(&talk.next().await), ["default"]);
    }
    assert_eq!(world.counts.unserved.load(Ordering::SeqCst), 0);
}
