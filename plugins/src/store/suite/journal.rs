//! The journal of authorities and the sealed keys.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::authority::KeyId;
use signet_core::rotation::Authorities;
use signet_core::seams::store::{AuthorityJournal, JournalVersion, SealedKeys};
use tokio::task::JoinSet;

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuthorityJournal + SealedKeys + 'static,
{
    of_two_replacements_one_wins(&*make().await[0]).await;
    of_many_writers_one_wins_each_version(make().await).await;
    a_sealed_key_is_never_overwritten(&*make().await[0]).await;
}

/// A journal entry told apart by its number.
fn authorities(bundle_sequence: u64) -> Authorities {
    Authorities { bundle_sequence, ..Authorities::default() }
}

async fn of_two_replacements_one_wins(store: &impl AuthorityJournal) {
    let (none, first, second) = (JournalVersion(0), JournalVersion(1), JournalVersion(2));
    assert_eq!(store.replace(first, &authorities(9)).await.unwrap(), None, "there is no version 1 yet");
    assert_eq!(store.replace(none, &authorities(1)).await.unwrap(), Some(first));
    assert_eq!(store.replace(none, &authorities(2)).await.unwrap(), None);
    let (one_entry, other_entry) = (authorities(10), authorities(11));
    let (one, other) = tokio::join!(store.replace(first, &one_entry), store.replace(first, &other_entry));
    let (one, other) = (one.unwrap(), other.unwrap());
    let winner = match (one, other) {
        (Some(version), None) if version == second => one_entry,
        (None, Some(version)) if version == second => other_entry,
        result => panic!("not exactly one won: {result:?}"),
    };
    assert_eq!(store.load().await.unwrap(), Some((second, winner)));
    assert_eq!(store.version().await.unwrap(), second);
}

/// Writers on both handles race for each version. Whoever loses reads again, as rotation does.
async fn of_many_writers_one_wins_each_version<S: AuthorityJournal + 'static>(handles: [Arc<S>; 2]) {
    const WRITERS: u64 = 8;
    const WINS: u64 = 6;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&handles[(writer % 2) as usize]);
        writers.spawn(async move {
            let mut won = Vec::new();
            while won.len() < WINS as usize {
                let expected = store.version().await.unwrap();
                // Version and entry go together: this entry says who made which version.
                let entry = authorities(writer * 1000 + expected.0 + 1);
                if let Some(version) = store.replace(expected, &entry).await.unwrap() {
                    assert_eq!(version.0, expected.0 + 1);
                    won.push((version.0, entry.bundle_sequence));
                }
            }
            won
        });
    }
    let mut won: Vec<(u64, u64)> = writers.join_all().await.into_iter().flatten().collect();
    won.sort_unstable();
    let versions: Vec<u64> = won.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=WRITERS * WINS).collect::<Vec<u64>>(), "each version has one winner");
    for store in &handles {
        let (version, entry) = store.load().await.unwrap().unwrap();
        assert_eq!(Some(&(version.0, entry.bundle_sequence)), won.last());
        assert_eq!(store.version().await.unwrap(), version);
    }
}

async fn a_sealed_key_is_never_overwritten(store: &impl SealedKeys) {
    let (one, other) = (KeyId::parse("root-1").unwrap(), KeyId::parse("root-2").unwrap());
    assert!(store.insert(&one, b"first").await.unwrap());
    assert!(!store.insert(&one, b"second").await.unwrap());
    assert!(store.insert(&other, b"").await.unwrap());
    assert_eq!(store.fetch(&one).await.unwrap().as_deref(), Some(b"first".as_slice()));
    assert_eq!(store.fetch(&other).await.unwrap().as_deref(), Some(b"".as_slice()));
    // But it is replaced by whoever says what is there now.
    assert!(!store.reseal(&one, b"second", b"third").await.unwrap());
    assert!(!store.reseal(&KeyId::parse("root-3").unwrap(), b"", b"third").await.unwrap());
    assert!(store.reseal(&one, b"first", b"third").await.unwrap());
    assert!(!store.reseal(&one, b"first", b"fourth").await.unwrap());
    let mut all = store.all().await.unwrap();
    all.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    assert_eq!(all, [(one, b"third".to_vec()), (other, Vec::new())]);
}
