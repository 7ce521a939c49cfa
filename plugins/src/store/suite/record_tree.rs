//! The tree over the record: made of what was stored, and advanced by one process at a time.

use std::sync::Arc;

use signet_core::audit::leaf_hash;
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, MAX_LEAVES, NoteChange, RecordTree};
use signet_core::seams::store::AuditStore;
use signet_core::transparency::{Edge, Hash, Tile};

use super::{START, issued};

pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuditStore + RecordTree + 'static,
{
    leaves_are_the_events_as_they_were_stored(make().await).await;
    a_checkpoint_is_replaced_with_its_tiles_by_who_knows_it(make().await).await;
    of_many_who_advance_at_once_one_does(make().await).await;
    notes_are_replaced_together_by_who_has_read_them(make().await).await;
}

async fn notes_are_replaced_together_by_who_has_read_them<S: RecordTree>([here, there]: [Arc<S>; 2]) {
    let kept = |name: &str, note: &str| KeptNote { name: name.to_owned(), note: note.to_owned() };
    let change = |name: &str, before: Option<&str>, note: &str| NoteChange {
        before: before.map(str::to_owned),
        next: kept(name, note),
    };
    assert_eq!(there.notes().await.unwrap(), []);
    assert!(!here.keep_notes(&[change("w", Some("none"), "1")]).await.unwrap(), "there is none to be replaced");
    assert!(here.keep_notes(&[change("w", None, "1"), change("quorum", None, "a")]).await.unwrap());
    assert_eq!(there.notes().await.unwrap(), [kept("quorum", "a"), kept("w", "1")]);
    assert!(!there.keep_notes(&[change("w", None, "2")]).await.unwrap(), "there is one");
    // All of them or none, whichever of them is another one by now.
    for changes in [
        [change("w", Some("1"), "2"), change("quorum", Some("b"), "c")],
        [change("quorum", Some("b"), "c"), change("w", Some("1"), "2")],
        [change("new", None, "n"), change("w", Some("2"), "3")],
    ] {
        assert!(!there.keep_notes(&changes).await.unwrap());
        assert_eq!(here.notes().await.unwrap(), [kept("quorum", "a"), kept("w", "1")]);
    }
    assert!(there.keep_notes(&[change("w", Some("1"), "2"), change("quorum", Some("a"), "b")]).await.unwrap());
    assert_eq!(here.notes().await.unwrap(), [kept("quorum", "b"), kept("w", "2")]);
    assert_eq!(there.checkpoint().await.unwrap(), None, "they are beside it");
}

async fn leaves_are_the_events_as_they_were_stored<S: AuditStore + RecordTree>([here, there]: [Arc<S>; 2]) {
    let (_, empty, none) = (there.checkpoint().await, there.events().await, there.leaf_hashes(0, 10).await);
    assert_eq!((empty.unwrap(), none.unwrap()), (0, Vec::new()));
    let events: Vec<_> = (0..5000).map(|n| issued("a", n, START + n as i64)).collect();
    let hashes: Vec<Hash> = events.iter().map(|event| leaf_hash(&event.encode())).collect();
    for batch in events.chunks(500) {
        here.append(batch.to_vec()).await.unwrap();
    }
    assert_eq!(there.events().await.unwrap(), 5000);
    assert_eq!(there.leaf_hashes(0, u32::MAX).await.unwrap(), hashes[..MAX_LEAVES as usize]);
    assert_eq!(there.leaf_hashes(4990, 7).await.unwrap(), hashes[4990..4997]);
    assert_eq!(there.leaf_hashes(4990, 100).await.unwrap(), hashes[4990..]);
    assert_eq!(there.leaf_hashes(5000, 100).await.unwrap(), [] as [Hash; 0]);
    let leaves = there.leaves(4998, 100).await.unwrap();
    assert_eq!(leaves.iter().map(|leaf| leaf.sequence).collect::<Vec<_>>(), [4998, 4999]);
    assert_eq!(leaves[1].hash, hashes[4999]);
    assert_eq!(leaves[1].body, Some(events[4999].encode()));
    assert_eq!(there.leaves(0, 3).await.unwrap().len(), 3);
}

fn kept(note: &str, edge: &Edge) -> KeptCheckpoint {
    KeptCheckpoint { note: note.to_owned(), keys: format!("keys of {note}"), edge: edge.clone() }
}

async fn a_checkpoint_is_replaced_with_its_tiles_by_who_knows_it<S: RecordTree>([here, there]: [Arc<S>; 2]) {
    assert_eq!(there.checkpoint().await.unwrap(), None);
    let (mut edge, mut full) = (Edge::default(), Vec::new());
    (0..10_u64).for_each(|n| edge.append(leaf_hash(&n.to_be_bytes()), &mut full));
    let first = kept("first", &edge);
    assert!(!here.advance(Some("none"), &first, &[]).await.unwrap(), "there is none to be replaced");
    assert!(here.advance(None, &first, &[]).await.unwrap());
    assert!(!there.advance(None, &kept("other", &edge), &[]).await.unwrap(), "there is one");
    assert_eq!(there.checkpoint().await.unwrap(), Some(first));
    (10..70_000_u64).for_each(|n| edge.append(leaf_hash(&n.to_be_bytes()), &mut full));
    assert_eq!(full.len(), 274);
    let second = kept("second", &edge);
    assert!(!there.advance(Some("other"), &second, &full).await.unwrap());
    assert_eq!(there.tile(full[0].0).await.unwrap(), None, "nothing of what was not done is kept");
    assert!(there.advance(Some("first"), &second, &full).await.unwrap());
    assert!(!here.advance(Some("first"), &kept("third", &edge), &full).await.unwrap());
    assert_eq!(here.checkpoint().await.unwrap(), Some(second));
    for (tile, hashes) in &full {
        assert_eq!(here.tile(*tile).await.unwrap().as_ref(), Some(hashes));
    }
    for (level, index) in [(0, 273), (1, 1), (2, 0)] {
        assert_eq!(here.tile(Tile { level, index }).await.unwrap(), None);
    }
}

async fn of_many_who_advance_at_once_one_does<S: RecordTree + 'static>(stores: [Arc<S>; 2]) {
    let mut before: Option<String> = None;
    for round in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        for (number, store) in stores.iter().chain(&stores).enumerate() {
            let (store, before) = (Arc::clone(store), before.clone());
            tasks.spawn(async move {
                let next = kept(&format!("{round}-{number}"), &Edge::default());
                store.advance(before.as_deref(), &next, &[]).await.unwrap().then_some(next)
            });
        }
        let advanced: Vec<KeptCheckpoint> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(advanced.len(), 1, "round {round}");
        assert_eq!(stores[1].checkpoint().await.unwrap().as_ref(), advanced.first());
        before = Some(advanced[0].note.clone());
    }
}
