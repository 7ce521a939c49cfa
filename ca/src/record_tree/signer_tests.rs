//! What is signed continues what was signed before, whoever signs, and nothing is signed of a record that does not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::audit::leaf_hash;
use signet_core::transparency::{Checkpoint, Edge, Note, verify_consistency};

use super::proofs::consistency_path;
use super::test_tree::{Content, ORIGIN, TestKeys, TestTree, cover, leaf, named, signed, signer};
use super::{ProveError, Refused, Signer, Step, prove};

/// Why nothing is signed: of a record that is no continuation.
async fn forked(signer: &mut Signer) -> String {
    match signer.step().await {
        Err(Refused::Forked(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn read(note: &str) -> Checkpoint {
    Checkpoint::parse(&Note::parse(note.as_bytes()).unwrap().text).unwrap()
}

#[tokio::test]
async fn every_checkpoint_covers_all_events_and_continues_the_one_before() {
    let (tree, keys) = (TestTree::of(0), TestKeys::new());
    let mut signer = signer(&tree, &keys, None);
    assert_eq!(signer.step().await.unwrap(), Step::Covered(0));
    assert!(tree.change(|content| content.checkpoint.is_none()), "there is nothing to be signed");
    let mut before: Option<Checkpoint> = None;
    for more in [1, 1, 254, 1, 700, 3, 70_000, 1] {
        tree.append(more, 0);
        cover(&mut signer).await;
        let note = tree.note();
        assert!(Note::parse(note.as_bytes()).unwrap().verify(&keys.verifiers()).is_ok());
        let now = read(&note);
        let (mut edge, leaves) = (Edge::default(), tree.change(|content| content.leaves.clone()));
        leaves.iter().for_each(|leaf| edge.append(leaf_hash(leaf.body.as_ref().unwrap()), &mut Vec::new()));
        assert_eq!((now.origin.as_str(), now.size, now.root), (ORIGIN, edge.size(), edge.root()));
        if let Some(before) = &before {
            let path = consistency_path(&*tree, &edge, before.size).await.unwrap().unwrap();
            assert!(verify_consistency((before.size, &before.root), (now.size, &now.root), &path), "{}", now.size);
        }
        before = Some(now);
        let unchanged = tree.note();
        assert_eq!(signer.step().await.unwrap(), Step::Covered(edge.size()));
        assert_eq!(tree.note(), unchanged);
    }
    assert_eq!(tree.change(|content| content.tiles.len()), 70_961 / 256 + 1);
}

#[tokio::test]
async fn what_a_first_start_finds_is_signed_piece_by_piece() {
    let tree = TestTree::of(40_000);
    let mut signer = signer(&tree, &TestKeys::new(), None);
    let mut steps = Vec::new();
    for _ in 0..4 {
        steps.push(signer.step().await.unwrap());
    }
    assert_eq!(steps, [Step::More(16_384), Step::More(32_768), Step::Covered(40_000), Step::Covered(40_000)]);
}

#[tokio::test]
async fn replicas_take_turns_on_one_log_and_one_that_was_overtaken_goes_on_from_there() {
    let (tree, keys) = (TestTree::of(300), TestKeys::new());
    let mut replicas = [signer(&tree, &keys, None), signer(&tree, &keys, None), signer(&tree, &keys, None)];
    for round in 0..30_u64 {
        let number = (round * 7 % 3) as usize;
        cover(&mut replicas[number]).await;
        tree.append(round * 13 + 1, 0);
    }
    for replica in &mut replicas {
        assert_eq!(cover(replica).await, tree.change(|content| content.leaves.len() as u64));
    }
    // Asleep between reading and writing: another one has signed meanwhile.
    let before = tree.change(|content| content.checkpoint.clone());
    tree.append(10, 0);
    cover(&mut replicas[0]).await;
    let newest = tree.change(|content| std::mem::replace(&mut content.checkpoint, before));
    let stale = Arc::new(TestTree::default());
    stale.change(|content| *content = tree.change(|content| content.clone()));
    tree.change(|content| content.checkpoint = newest);
    assert_eq!(cover(&mut replicas[1]).await, tree.change(|content| content.leaves.len() as u64));
}

#[tokio::test]
async fn a_storage_that_was_set_back_or_changed_under_a_running_ca_is_not_signed() {
    type Meddle = fn(&mut Content, &Content);
    let meddle: [(&str, Meddle); 5] = [
        ("is not in storage any more", |now, _| now.checkpoint = None),
        ("was of 700 events, and is of 300", |now, old| *now = old.clone()),
        ("covers 700 events, and there are 699", |now, _| drop(now.leaves.pop())),
        ("counts for nothing: this is no signed note", |now, _| now.checkpoint.as_mut().unwrap().note = "x\n".into()),
        ("and the hashes kept with it are of 300", |now, old| {
            now.checkpoint.as_mut().unwrap().note.push_str("\u{2014} x AAAAAAAA\n");
            now.checkpoint.as_mut().unwrap().edge = old.checkpoint.as_ref().unwrap().edge.clone();
        }),
    ];
    for (words, meddle) in meddle {
        let (tree, keys) = signed(300).await;
        let old = tree.change(|content| content.clone());
        tree.append(400, 0);
        let mut signer = signer(&tree, &keys, None);
        cover(&mut signer).await;
        tree.change(|content| meddle(content, &old));
        let after = tree.change(|content| content.checkpoint.clone());
        for _ in 0..2 {
            let why = forked(&mut signer).await;
            assert!(why.contains(words), "{words}: {why}");
        }
        assert_eq!(tree.change(|content| content.checkpoint.clone()), after, "nothing was signed");
    }
}

#[tokio::test]
async fn a_checkpoint_of_another_replica_that_is_not_of_these_events_is_not_followed() {
    let (tree, keys) = signed(300).await;
    let mut signer = signer(&tree, &keys, None);
    cover(&mut signer).await;
    let other = TestTree::of(0);
    other.append(400, 1);
    cover(&mut super::test_tree::signer(&other, &keys, None)).await;
    tree.append(100, 0);
    tree.change(|content| content.checkpoint = other.change(|other| other.checkpoint.clone()));
    let why = forked(&mut signer).await;
    assert!(why.contains("is of 400 events with the root") && why.contains("the events there have the root"), "{why}");
}

#[tokio::test]
async fn the_file_outside_follows_and_finds_out_a_storage_that_does_not_continue_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let (tree, keys) = (TestTree::of(300), TestKeys::new());
    cover(&mut signer(&tree, &keys, Some(path.clone()))).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), tree.note());
    let backup = tree.change(|content| content.clone());
    tree.append(500, 0);
    // Another replica signs, this one follows.
    cover(&mut signer(&tree, &keys, None)).await;
    let mut running = signer(&tree, &keys, Some(path.clone()));
    assert_eq!(running.step().await.unwrap(), Step::Covered(800));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), tree.note());
    let (outside, root) = (tree.note(), read(&tree.note()).root);
    let base64 = |root: [u8; 32]| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(root)
    };

    // A backup is restored: fewer events than were signed.
    tree.change(|content| *content = backup.clone());
    let why = forked(&mut signer(&tree, &keys, Some(path.clone()))).await;
    for words in ["a checkpoint of 800 events with the root", &base64(root), "there are 300 in storage", "set back"] {
        assert!(why.contains(words), "{words}: {why}");
    }
    // The same, after a CA without the file has gone on from there.
    tree.append(900, 5);
    cover(&mut signer(&tree, &keys, None)).await;
    let why = forked(&mut signer(&tree, &keys, Some(path.clone()))).await;
    assert!(why.contains("the first 800 events in storage have the root"), "{why}");
    // The same, before anybody has signed what came after it.
    tree.change(|content| *content = backup.clone());
    tree.append(900, 5);
    let why = forked(&mut signer(&tree, &keys, Some(path.clone()))).await;
    assert!(why.contains("the first 800 events in storage have the root"), "{why}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), outside, "the witness stays as it is");
    assert_eq!(tree.change(|content| content.checkpoint.clone()), backup.checkpoint, "nothing was signed");

    // The events that were lost come back: the checkpoint of them is what is lost, and is made again.
    tree.change(|content| *content = backup.clone());
    tree.append(600, 0);
    assert_eq!(cover(&mut signer(&tree, &keys, Some(path.clone()))).await, 900);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), tree.note());
}

#[tokio::test]
async fn a_file_outside_that_cannot_be_read_or_says_nothing_that_counts_is_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let (tree, keys) = (TestTree::of(3), TestKeys::new());
    let (other, others) = signed(3).await;
    for content in [String::new(), "x".to_owned(), other.note()] {
        std::fs::write(&path, content).unwrap();
        let refused = signer(&tree, &keys, Some(path.clone())).step().await;
        let Err(Refused::Outside(error)) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains("audit.checkpoint_file: ") && error.to_string().contains("checkpoint"));
        assert!(tree.change(|content| content.checkpoint.is_none()));
    }
    drop(others);
    std::fs::remove_file(&path).unwrap();
    // None of these was ever the file of this log.
    assert_eq!(cover(&mut signer(&tree, &keys, Some(path.clone()))).await, 3);
    // What cannot be written is told, and tried again; what is signed stays so.
    tree.append(1, 0);
    tree.change(|content| content.notes.clear());
    let nowhere = directory.path().join("gone/checkpoint");
    let mut signer = signer(&tree, &keys, Some(nowhere.clone()));
    for _ in 0..2 {
        assert!(matches!(signer.step().await, Err(Refused::Outside(_))));
    }
    assert_eq!(read(&tree.note()).size, 4);
    std::fs::create_dir(nowhere.parent().unwrap()).unwrap();
    assert_eq!(signer.step().await.unwrap(), Step::Covered(4));
    assert!(nowhere.exists());
}

#[tokio::test]
async fn a_new_key_signs_beside_the_one_before_and_a_new_name_begins_where_the_log_is() {
    let (tree, keys) = signed(3).await;
    let first = keys.verifiers();
    keys.replace();
    tree.append(1, 0);
    cover(&mut signer(&tree, &keys, None)).await;
    let note = Note::parse(tree.note().as_bytes()).unwrap();
    let both = keys.verifiers();
    assert_eq!(note.signatures.len(), 2);
    assert!(note.verify(&first).is_ok() && note.verify(&both[..1]).is_ok());
    keys.replace();
    tree.append(1, 0);
    cover(&mut signer(&tree, &keys, None)).await;
    let note = Note::parse(tree.note().as_bytes()).unwrap();
    assert!(note.verify(&first).is_err() && note.verify(&both[..1]).is_ok());
    let kept = tree.change(|content| content.checkpoint.as_ref().unwrap().keys.clone());
    assert_eq!(kept.lines().count(), 2);

    // Also when nothing has happened since.
    let mut renamed = named(&tree, &keys, None, "cluster.local/record-2");
    assert_eq!(cover(&mut renamed).await, 5);
    let now = read(&tree.note());
    assert_eq!((now.origin.as_str(), now.size), ("cluster.local/record-2", 5));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    std::fs::write(&path, tree.note()).unwrap();
    let refused = signer(&tree, &keys, Some(path)).step().await;
    assert!(matches!(refused, Err(Refused::Outside(_))), "a file of another log: {refused:?}");
}

#[tokio::test]
async fn every_event_that_is_covered_is_proven_and_no_other() {
    let (tree, keys) = signed(70_000).await;
    tree.append(1, 0);
    for index in (0..70_000).step_by(1777).chain([1, 255, 256, 65_535, 65_536, 69_999]) {
        let proof = prove(&*tree, index).await.unwrap();
        let body = proof.extra.clone().unwrap();
        assert_eq!(body, leaf(index, index).body.unwrap());
        let checkpoint = proof.verify(&leaf_hash(&body), ORIGIN, &keys.verifiers()).unwrap();
        assert_eq!(checkpoint.size, 70_000);
        assert!(proof.verify(&leaf_hash(b"other"), ORIGIN, &keys.verifiers()).is_err());
    }
    assert!(matches!(prove(&*tree, 70_000).await, Err(ProveError::NotCovered { index: 70_000, size: 70_000 })));
    tree.change(|content| content.leaves[7].body = None);
    assert!(matches!(prove(&*tree, 7).await, Err(ProveError::Gone(7))));
    assert!(prove(&*tree, 8).await.is_ok());
}

/// Why nothing is signed: a file that was there is gone.
async fn missing(signer: &mut Signer) -> String {
    match signer.step().await {
        Err(refused @ Refused::Missing { .. }) => refused.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_outside_that_is_gone_is_told_and_not_taken_for_a_first_use() {
    let directory = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (directory.path().join("checkpoint"), directory.path().join("moved"));
    let (tree, keys) = (TestTree::of(300), TestKeys::new());
    let before = tree.change(|content| content.clone());
    let mut running = signer(&tree, &keys, Some(path.clone()));
    cover(&mut running).await;
    let backup = tree.change(|content| content.clone());
    tree.append(500, 0);
    cover(&mut running).await;
    let kept = std::fs::read_to_string(&path).unwrap();

    // It is removed under a running CA, or before a restart; on the storage as it is, or on an older one.
    std::fs::remove_file(&path).unwrap();
    tree.append(1, 0);
    let now = tree.change(|content| content.checkpoint.clone());
    for _ in 0..2 {
        let why = missing(&mut running).await;
        let words =
            ["checkpoint is not there", "of cluster.local/record", "since there were 300 events", "--write-file"];
        assert!(words.iter().all(|words| why.contains(words)), "{why}");
    }
    let mut restarted = signer(&tree, &keys, Some(path.clone()));
    missing(&mut restarted).await;
    assert_eq!(tree.change(|content| content.checkpoint.clone()), now, "nothing was signed");
    assert!(!path.exists(), "and nothing was written");
    tree.change(|content| *content = backup);
    missing(&mut signer(&tree, &keys, Some(path.clone()))).await;
    // A file elsewhere is the same file: it has to be taken along.
    missing(&mut signer(&tree, &keys, Some(elsewhere.clone()))).await;

    // It is put back, there or elsewhere.
    tree.append(501, 0);
    for path in [&path, &elsewhere] {
        std::fs::write(path, &kept).unwrap();
        assert_eq!(cover(&mut signer(&tree, &keys, Some(path.clone()))).await, 801);
        assert_eq!(std::fs::read_to_string(path).unwrap(), tree.note());
    }
    assert_eq!(running.step().await.unwrap(), Step::Covered(801));

    // Another log, and a storage from before there was a file, know of none: nobody can tell that one was there.
    std::fs::remove_file(&path).unwrap();
    let renamed = named(&tree, &keys, Some(path.clone()), "cluster.local/record-2").step().await;
    assert_eq!(renamed.unwrap(), Step::Covered(801));
    std::fs::remove_file(&path).unwrap();
    tree.change(|content| *content = before);
    assert_eq!(cover(&mut signer(&tree, &keys, Some(path.clone()))).await, 300);
}

#[tokio::test]
async fn a_storage_of_a_version_that_noted_no_file_notes_the_one_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let (tree, keys) = signed(300).await;
    std::fs::write(&path, tree.note()).unwrap();
    assert!(tree.change(|content| content.notes.is_empty()));
    assert_eq!(signer(&tree, &keys, Some(path.clone())).step().await.unwrap(), Step::Covered(300));
    std::fs::remove_file(&path).unwrap();
    missing(&mut signer(&tree, &keys, Some(path))).await;
}
