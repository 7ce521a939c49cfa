//! Whatever is changed in a record is found, and the event is named.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_core::audit::leaf_hash;
use signet_core::seams::record_tree::RecordTree;
use signet_core::transparency::{Finding, Tile};

use super::test_tree::{Content, TestKeys, TestTree, cover, leaf, signed, signer};
use super::{Against, Verified, VerifyError, verify};

async fn verified(tree: &dyn RecordTree) -> Verified {
    verify(tree, Against::default(), |_, _| ()).await.unwrap()
}

/// Gives every event the position that it stands at.
fn renumber(content: &mut Content) {
    (0..).zip(&mut content.leaves).for_each(|(sequence, leaf)| leaf.sequence = sequence);
}

#[tokio::test]
async fn a_record_that_was_left_alone_holds_whatever_its_size() {
    for events in [0, 1, 255, 256, 257, 3000, 70_000] {
        let (tree, _keys) = signed(events).await;
        tree.append(2, 0);
        let found = verified(&*tree).await;
        assert!(found.holds(), "{events}: {found:?}");
        assert_eq!((found.compared.agree, found.compared.after), (events, 2));
        assert_eq!(found.checkpoint.map(|checkpoint| checkpoint.size), (events > 0).then_some(events));
    }
}

#[tokio::test]
async fn every_change_of_an_event_is_named_in_full_tiles_and_behind_them() {
    for at in [0_usize, 255, 256, 700, 767, 768, 799] {
        let number = at as u64;
        type Meddle = fn(&mut Content, usize);
        let cases: [(Meddle, Vec<Finding>); 7] = [
            (|content, at| content.leaves[at].body.as_mut().unwrap()[0] ^= 1, vec![Finding::Changed(number)]),
            (|content, at| content.leaves[at] = leaf(at as u64, 1_000_000), vec![Finding::Changed(number)]),
            (|content, at| content.leaves[at].hash[5] ^= 1, vec![Finding::Disagrees(number)]),
            (|content, at| drop(content.leaves.remove(at)), vec![Finding::Removed(number)]),
            (
                |content, at| {
                    content.leaves.insert(at, leaf(0, 1_000_000));
                    renumber(content);
                },
                vec![Finding::Inserted(number), Finding::Shifted { from: number, to: number + 1 }],
            ),
            (
                |content, at| {
                    content.leaves.swap(at, 500);
                    renumber(content);
                },
                vec![
                    Finding::Moved { from: number.min(500), to: number.max(500) },
                    Finding::Moved { from: number.max(500), to: number.min(500) },
                ],
            ),
            // Retention leaves the hash, and that is what counts.
            (|content, at| content.leaves[at].body = None, vec![]),
        ];
        for (case, (meddle, expected)) in cases.into_iter().enumerate() {
            let (tree, _keys) = signed(800).await;
            tree.append(3, 0);
            tree.change(|content| meddle(content, at));
            let found = verified(&*tree).await;
            assert_eq!((&found.compared.findings, &found.problems), (&expected, &Vec::new()), "{at} {case}");
            assert_eq!(found.holds(), expected.is_empty());
        }
    }
}

#[tokio::test]
async fn what_was_changed_in_the_tree_as_well_is_found_from_the_signature_down() {
    let problems = async |meddle: fn(&mut Content)| {
        let (tree, _keys) = signed(70_000).await;
        tree.change(meddle);
        verified(&*tree).await
    };
    // An event, and its hash in the tile: whoever does that cannot sign.
    let found = problems(|content| {
        content.leaves[1000] = leaf(1000, 1_000_000);
        let hash = leaf_hash(content.leaves[1000].body.as_ref().unwrap());
        content.tiles.get_mut(&Tile { level: 0, index: 3 }).unwrap()[1000 - 768] = hash;
    });
    let found = found.await;
    assert!(found.compared.findings.is_empty());
    assert!(found.problems[0].contains("events 768 to 1023 are not those that the tree above"), "{found:?}");
    assert!(found.problems[1].contains("not the one that was signed"), "{found:?}");
    // The same, where the tree above is in no full tile.
    let found = problems(|content| {
        content.leaves[69_000] = leaf(69_000, 1_000_000);
        let hash = leaf_hash(content.leaves[69_000].body.as_ref().unwrap());
        content.tiles.get_mut(&Tile { level: 0, index: 269 }).unwrap()[69_000 - 68_864] = hash;
    });
    let found = found.await;
    assert!(found.problems.iter().any(|problem| problem.contains("events 68864 to 69119 are not")), "{found:?}");
    // A tile that is gone, of leaves and above.
    for (tile, words) in [((0, 3), "the tile of events 768 to 1023 is gone"), ((1, 0), "tile 1/000 is gone")] {
        let (tree, _keys) = signed(70_000).await;
        tree.change(|content| drop(content.tiles.remove(&Tile { level: tile.0, index: tile.1 })));
        let found = verified(&*tree).await;
        assert_eq!(found.problems, [words]);
    }
    // A checkpoint that nobody has signed.
    let found = problems(|content| {
        let kept = content.checkpoint.as_mut().unwrap();
        kept.note = kept.note.replacen("70000", "70001", 1);
    });
    assert!(found.await.problems[0].contains("counts for nothing: the signature of"));
}

#[tokio::test]
async fn a_checkpoint_that_was_kept_finds_out_a_record_that_was_made_anew() {
    let (tree, keys) = signed(900).await;
    let kept = tree.note();
    tree.append(500, 0);
    cover(&mut signer(&tree, &keys, None)).await;
    let verifiers = keys.verifiers();
    let hold = async |tree: &TestTree, note: &str| {
        let against = Against { keys: &verifiers, checkpoint: Some(note.as_bytes()), ..Against::default() };
        verify(tree, against, |_, _| ()).await
    };
    assert!(hold(&tree, &kept).await.unwrap().holds());
    assert!(hold(&tree, &tree.note()).await.unwrap().holds());
    // Somebody who has the key makes another record of as many events.
    let other = TestTree::of(10);
    other.append(1500, 7);
    cover(&mut signer(&other, &keys, None)).await;
    assert!(verified(&*other).await.holds(), "alone it is whole");
    let found = hold(&other, &kept).await.unwrap();
    assert_eq!(found.problems, ["the first 900 events are not those of the checkpoint that you have kept"]);
    let short = TestTree::of(300);
    cover(&mut signer(&short, &keys, None)).await;
    let found = hold(&short, &kept).await.unwrap();
    assert!(found.problems[0].contains("covers 900 events, the newest one in storage 300"), "{found:?}");
    // Somebody who has not.
    let forged = TestTree::of(900);
    cover(&mut signer(&forged, &TestKeys::new(), None)).await;
    assert!(verified(&*forged).await.holds(), "by the key that the storage names");
    let found = verify(&*forged, Against { keys: &verifiers, ..Against::default() }, |_, _| ()).await.unwrap();
    assert!(found.problems[0].contains("counts for nothing: nobody has signed it whose key was given"), "{found:?}");
    let wrong = hold(&tree, &forged.note()).await;
    assert!(matches!(wrong, Err(VerifyError::Against(_))), "{wrong:?}");
}
