//! Keys of lost races go, and none that anybody needs or comes to need.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use signet_core::authority::KeyId;
use signet_core::rotation::Authorities;
use signet_core::seams::store::{AuthorityJournal, JournalVersion, SealedKeys};
use time::OffsetDateTime;

use super::admitting;

const START: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

const AFTER: Duration = Duration::from_secs(900);

/// Runs the cases of this file. `forget_history` removes what is kept of former journals behind the back of a store.
pub(in crate::store) async fn every_case<S>(make: impl AsyncFn() -> [Arc<S>; 2], forget_history: impl AsyncFn(&Arc<S>))
where
    S: AuthorityJournal + SealedKeys,
{
    a_key_is_kept_once_and_replaced_only_by_who_knows_it(make().await).await;
    the_key_of_a_lost_race_goes_after_a_while_and_everything_that_is_named_stays(make().await).await;
    a_step_that_slept_through_the_removal_of_its_key_is_not_taken(make().await).await;
    a_key_that_comes_to_be_named_begins_anew_and_a_clock_that_was_ahead_shortens_nothing(make().await, forget_history)
        .await;
}

fn id(name: &str) -> KeyId {
    KeyId::parse(name).unwrap()
}

/// The journal with this key as that of its first root.
fn naming(name: &str) -> Authorities {
    let mut authorities = admitting();
    authorities.roots[0].ca.key = Some(id(name));
    authorities
}

async fn replace(store: &impl AuthorityJournal, authorities: &Authorities) -> Option<JournalVersion> {
    store.replace(store.version().await.unwrap(), authorities).await.unwrap()
}

async fn names(store: &impl SealedKeys) -> Vec<String> {
    store.all().await.unwrap().into_iter().map(|(id, _)| id.to_string()).collect()
}

async fn insert(store: &impl SealedKeys, keys: &[&str]) {
    for key in keys {
        assert!(store.insert(&id(key), b"sealed").await.unwrap());
    }
}

async fn forget(store: &impl SealedKeys, at: OffsetDateTime) -> Vec<String> {
    store.forget_unused(at, AFTER).await.unwrap().iter().map(ToString::to_string).collect()
}

async fn a_key_is_kept_once_and_replaced_only_by_who_knows_it<S: SealedKeys>([one, other]: [Arc<S>; 2]) {
    insert(&*one, &["root-a"]).await;
    assert!(!other.insert(&id("root-a"), b"thief").await.unwrap());
    assert!(!other.reseal(&id("root-a"), b"thief", b"again").await.unwrap());
    assert!(!other.reseal(&id("root-b"), b"sealed", b"again").await.unwrap());
    assert_eq!(one.fetch(&id("root-a")).await.unwrap().as_deref(), Some(&b"sealed"[..]));
    assert!(other.reseal(&id("root-a"), b"sealed", b"again").await.unwrap());
    assert_eq!(one.all().await.unwrap(), [(id("root-a"), b"again".to_vec())]);
}

async fn the_key_of_a_lost_race_goes_after_a_while_and_everything_that_is_named_stays<S>([one, other]: [Arc<S>; 2])
where
    S: AuthorityJournal + SealedKeys,
{
    insert(&*one, &["root-former", "root-lost", "root-won", "files-ab"]).await;
    replace(&*one, &naming("root-former")).await.unwrap();
    replace(&*one, &naming("root-won")).await.unwrap();
    // Any replica looks, at any time.
    for (store, seconds, removed) in
        [(&one, 0, vec![]), (&other, 899, vec![]), (&one, 900, vec!["root-lost".to_owned()]), (&other, 2000, vec![])]
    {
        assert_eq!(forget(&**store, START + Duration::from_secs(seconds)).await, removed, "{seconds}");
    }
    assert_eq!(names(&*other).await, ["files-ab", "root-former", "root-won"]);
    assert_eq!(other.fetch(&id("root-lost")).await.unwrap(), None);
}

async fn a_step_that_slept_through_the_removal_of_its_key_is_not_taken<S>([one, other]: [Arc<S>; 2])
where
    S: AuthorityJournal + SealedKeys,
{
    insert(&*one, &["root-slow"]).await;
    let version = other.version().await.unwrap();
    assert!(forget(&*one, START).await.is_empty());
    assert_eq!(forget(&*one, START + AFTER).await, ["root-slow"]);
    // It wakes up. Nobody has changed the journal, and still its key is gone.
    assert_eq!(other.replace(version, &naming("root-slow")).await.unwrap(), None);
    assert_eq!(other.version().await.unwrap(), version);
    // What is decided anew has a key of its own; and a key of that name may come back.
    assert!(replace(&*other, &naming("root-new")).await.is_some());
    assert!(other.insert(&id("root-slow"), b"again").await.unwrap());
    assert!(replace(&*other, &naming("root-slow")).await.is_some());
}

async fn a_key_that_comes_to_be_named_begins_anew_and_a_clock_that_was_ahead_shortens_nothing<S>(
    [one, other]: [Arc<S>; 2],
    forget_history: impl AsyncFn(&Arc<S>),
) where
    S: AuthorityJournal + SealedKeys,
{
    insert(&*one, &["root-a"]).await;
    let at = |seconds: u64| START + Duration::from_secs(seconds);
    assert!(forget(&*one, at(1_000_000)).await.is_empty(), "ahead");
    assert!(forget(&*other, at(0)).await.is_empty());
    assert!(forget(&*other, at(899)).await.is_empty());
    replace(&*one, &naming("root-a")).await.unwrap();
    assert!(forget(&*other, at(5000)).await.is_empty());
    assert_eq!(names(&*one).await, ["root-a"]);
    // Named by the history alone, which in the end is cut.
    replace(&*one, &admitting()).await.unwrap();
    assert!(forget(&*other, at(10_000)).await.is_empty());
    forget_history(&one).await;
    assert!(forget(&*other, at(20_000)).await.is_empty(), "only from now on");
    assert_eq!(forget(&*other, at(20_900)).await, ["root-a"]);
}
