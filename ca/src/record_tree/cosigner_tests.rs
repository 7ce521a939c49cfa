//! Witnesses cosign what continues what they have seen; whatever else one says, nothing is held back and the others go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::audit::leaf_hash;
use signet_runtime::metrics::Metrics;

use super::super::test_tree::{ORIGIN, TestKeys, TestTree, cover, named, signed, signer};
use super::super::test_witness::{AT, Lie, TestWitness};
use super::super::{Against, Signer, prove, verify};
use super::*;

struct Stage {
    tree: Arc<TestTree>,
    keys: Arc<TestKeys>,
    signer: Signer,
    witnesses: Vec<Arc<TestWitness>>,
    cosigner: Cosigner,
    metrics: Metrics,
}

fn cosigner(
    tree: &Arc<TestTree>,
    signer: &Signer,
    witnesses: &[Arc<TestWitness>],
    quorum: usize,
    origin: &str,
) -> (Cosigner, Metrics) {
    let metrics = Metrics::new();
    let watchers: Vec<Watcher> = witnesses.iter().map(TestWitness::watcher).collect();
    let measured = WitnessMetrics::new(&metrics, watchers.iter().map(|watcher| watcher.name.as_str())).unwrap();
    let tree = Arc::clone(tree) as _;
    (Cosigner::new(tree, origin.to_owned(), (watchers, quorum), measured, signer.ours()), metrics)
}

impl Stage {
    /// A record of 300 events with three witnesses, two of whom are enough.
    async fn new() -> Self {
        let (tree, keys) = (TestTree::of(300), TestKeys::new());
        let mut signer = signer(&tree, &keys, None);
        cover(&mut signer).await;
        let log = keys.verifiers().remove(0);
        let witnesses: Vec<_> = ["one", "two", "three"].iter().map(|name| TestWitness::new(name, &log)).collect();
        let (cosigner, metrics) = cosigner(&tree, &signer, &witnesses, 2, ORIGIN);
        Self { tree, keys, signer, witnesses, cosigner, metrics }
    }

    async fn grow(&mut self, events: u64) -> u64 {
        self.tree.append(events, 0);
        cover(&mut self.signer).await
    }

    fn went(&self, number: usize) -> String {
        self.cosigner.watched[number].went.problem().unwrap_or_default().to_owned()
    }

    fn measured(&self, line: &str) -> bool {
        let text = self.metrics.render().unwrap();
        text.lines().any(|one| one == line)
    }

    fn keys_of(&self) -> Vec<VerifierKey> {
        self.witnesses.iter().map(|witness| witness.key()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn each_checkpoint_is_cosigned_from_where_each_witness_stands_and_kept_with_all_signatures() {
    let mut stage = Stage::new().await;
    for (more, size) in [(0, 300), (1, 301), (700, 1001), (0, 1001)] {
        if more > 0 {
            stage.grow(more).await;
        }
        let kept = stage.cosigner.round().await.unwrap();
        let (note, checkpoint) = kept.quorum_note().unwrap();
        assert_eq!((checkpoint.size, note.signers(&stage.keys_of()).unwrap().len()), (size, 3));
        assert!(note.verify(&stage.keys.verifiers()).is_ok(), "the log's own line is there as well");
        for witness in &stage.witnesses {
            assert_eq!(kept.of(&witness.key()), Some((size, AT)));
        }
    }
    // The first time it does not know where they stand: at nothing. Nobody is asked about what they have cosigned.
    for witness in &stage.witnesses {
        assert_eq!(witness.requests(), [(0, 300), (300, 301), (301, 1001)]);
    }
    for line in [
        "signet_ca_record_witness_size{witness=\"two\"} 1001",
        "signet_ca_record_witness_cosigned_timestamp_seconds{witness=\"two\"} 1700000000",
        "signet_ca_record_witness_other_history{witness=\"two\"} 0",
        "signet_ca_record_witness_answers_total{answer=\"cosigned\",witness=\"two\"} 3",
        "signet_ca_record_witness_answers_total{answer=\"refused\",witness=\"two\"} 0",
        "signet_ca_record_cosigned_size 1001",
    ] {
        assert!(stage.measured(line), "{line}: {}", stage.metrics.render().unwrap());
    }
    // A restart goes on from what is kept.
    stage.grow(5).await;
    let (mut again, _) = cosigner(&stage.tree, &stage.signer, &stage.witnesses, 2, ORIGIN);
    again.round().await.unwrap();
    assert_eq!(stage.witnesses[0].requests(), [(1001, 1006)]);
    // One that has kept nothing asks, and is told.
    stage.tree.change(|content| content.notes.clear());
    stage.grow(5).await;
    let (mut lost, _) = cosigner(&stage.tree, &stage.signer, &stage.witnesses, 2, ORIGIN);
    assert_eq!(lost.round().await.unwrap().quorum().unwrap().size, 1011);
    assert_eq!(stage.witnesses[0].requests(), [(0, 1011), (1006, 1011)]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_down_is_left_alone_for_longer_each_time_and_catches_up() {
    let mut stage = Stage::new().await;
    stage.witnesses[2].lies(vec![Lie::Down; 4]);
    let begin = Instant::now();
    let mut rounds = 0;
    while stage.witnesses[2].stands() < 300 {
        stage.cosigner.round().await.unwrap();
        if stage.cosigner.watched[2].went != Went::Cosigned {
            assert_eq!(stage.went(2), "nobody is there");
        }
        rounds += 1;
        tokio::time::advance(PAUSE).await;
    }
    // After 1, 2, 4 and 8 seconds.
    assert_eq!((begin.elapsed().as_secs(), rounds), (16, 16));
    assert_eq!(stage.went(2), "");
    assert_eq!(stage.witnesses[0].requests(), [(0, 300)], "the others are not asked again");
    let kept = stage.cosigner.round().await.unwrap();
    let note = kept.quorum_note().unwrap().0;
    assert_eq!(note.signers(&stage.keys_of()).unwrap().len(), 3, "a late cosignature is added");
    assert!(stage.measured("signet_ca_record_witness_answers_total{answer=\"failed\",witness=\"three\"} 4"));
}

#[tokio::test(start_paused = true)]
async fn what_a_witness_says_that_is_no_cosignature_is_told_and_counts_for_nothing() {
    let says = |status: u16, body: &str| Lie::Says(status, body.to_owned());
    for (lies, words, label) in [
        (vec![Lie::OtherKey], "the signature of one is not of this text", "failed"),
        (vec![Lie::OtherText], "the signature of one is not of this text", "failed"),
        (vec![says(200, "\u{2014} who AAAAAAAA\n")], "by none of its keys that is known here", "failed"),
        (vec![says(200, "<html>")], "is not a line of one", "failed"),
        (vec![says(409, "x")], "does not say which", "failed"),
        (vec![says(409, "0\n")], "has cosigned other 0 events", "other_history"),
        (vec![says(409, "1\n"), says(409, "2\n"), says(409, "3\n")], "names another size each time", "failed"),
        (
            vec![says(409, "301\n")],
            "has cosigned 301 events of this log, and the newest checkpoint here is of 300",
            "other_history",
        ),
        (vec![says(400, "")], "(400)", "refused"),
        (vec![says(403, "")], "does not know the key of this log", "refused"),
        (vec![says(404, "")], "does not know this log", "refused"),
        (vec![says(422, "")], "does not continue the one that it has cosigned (422), of 0 events", "other_history"),
        (vec![says(429, "")], "cannot cosign now (429)", "failed"),
        (vec![says(503, "")], "cannot cosign now (503)", "failed"),
        (vec![says(301, "")], "none of the protocol", "failed"),
    ] {
        let mut stage = Stage::new().await;
        stage.witnesses[0].lies(lies);
        let kept = stage.cosigner.round().await.unwrap();
        assert!(stage.went(0).contains(words), "{words}: {}", stage.went(0));
        assert_eq!(kept.of(&stage.witnesses[0].key()), None, "{words}");
        let note = kept.quorum_note().unwrap().0;
        let by: Vec<&str> = note.signatures.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(by, [ORIGIN, "two", "three"], "{words}");
        let line = format!("signet_ca_record_witness_answers_total{{answer=\"{label}\",witness=\"one\"}} 1");
        assert!(stage.measured(&line), "{line}");
        let differs = u8::from(label == "other_history");
        assert!(stage.measured(&format!("signet_ca_record_witness_other_history{{witness=\"one\"}} {differs}")));
    }
    // Lines of people whom nobody knows are not kept.
    let mut stage = Stage::new().await;
    stage.witnesses[0].lies([Lie::Strangers]);
    let note = stage.cosigner.round().await.unwrap().quorum_note().unwrap().0;
    assert_eq!(note.signatures.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn two_replicas_send_what_each_has_signed_and_the_other_ones_only_when_that_is_overdue() {
    let mut stage = Stage::new().await;
    stage.cosigner.round().await.unwrap();
    let mut second = signer(&stage.tree, &stage.keys, None);
    cover(&mut second).await;
    let (mut other, _) = cosigner(&stage.tree, &second, &stage.witnesses, 2, ORIGIN);
    stage.witnesses.iter().for_each(|witness| drop(witness.requests()));
    // It has not signed this one, and it is cosigned.
    stage.grow(10).await;
    other.round().await.unwrap();
    assert_eq!(stage.witnesses[0].requests(), []);
    // The one that has signed it is gone.
    tokio::time::advance(OVERDUE - PAUSE).await;
    other.round().await.unwrap();
    assert_eq!(stage.witnesses[0].requests(), []);
    tokio::time::advance(PAUSE).await;
    other.round().await.unwrap();
    assert_eq!(stage.witnesses[0].requests(), [(300, 310)]);
    // Both are there, and the other one signs.
    stage.tree.append(10, 0);
    cover(&mut second).await;
    stage.cosigner.round().await.unwrap();
    assert_eq!(stage.witnesses[0].requests(), []);
    other.round().await.unwrap();
    assert_eq!(stage.witnesses[0].requests(), [(310, 320)]);

    // One reads the checkpoint; before it has asked, the other one has had a later one cosigned.
    let before = stage.tree.change(|content| content.clone());
    let target = before.checkpoint.clone().unwrap();
    let note = noted(&target.note, ORIGIN).unwrap().0;
    stage.tree.append(10, 0);
    cover(&mut second).await;
    other.round().await.unwrap();
    let target = Target { kept: &target, note: &note };
    let (went, cosigned) = ask_one(&*stage.tree, &stage.witnesses[0].watcher(), &target, 310).await;
    assert_eq!((went, cosigned), (Went::Overtaken, None));
    // What it has of an earlier one does not take the place of a later one.
    let late: Vec<_> = stage.witnesses.iter().map(|one| (one.key(), note.clone())).collect();
    let checkpoint = Checkpoint::parse(&note.text).unwrap();
    let kept = stage.cosigner.keep(&note, &checkpoint, &late).await.unwrap();
    assert_eq!((kept.quorum().unwrap().size, kept.of(&stage.witnesses[0].key())), (330, Some((330, AT))));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_was_cosigned_by_enough_is_not_when_more_or_others_are_wanted() {
    let mut stage = Stage::new().await;
    let (mut fewer, _) = cosigner(&stage.tree, &stage.signer, &stage.witnesses[..1], 1, ORIGIN);
    assert_eq!(fewer.round().await.unwrap().quorum().unwrap().size, 300);
    stage.witnesses[1].lies([Lie::Down]);
    stage.witnesses[2].lies([Lie::Down]);
    let kept = stage.cosigner.round().await.unwrap();
    assert_eq!(kept.quorum(), None, "one of two is not enough");
    assert!(stage.measured("signet_ca_record_cosigned_size 0"));
    tokio::time::advance(BACKOFF.0).await;
    assert_eq!(stage.cosigner.round().await.unwrap().quorum().unwrap().size, 300);
}

#[tokio::test(start_paused = true)]
async fn half_a_quorum_by_each_of_two_replicas_is_put_together() {
    let mut stage = Stage::new().await;
    stage.witnesses[1].lies([Lie::Down]);
    stage.witnesses[2].lies([Lie::Down]);
    let kept = stage.cosigner.round().await.unwrap();
    assert_eq!(kept.quorum(), None, "one of two is not enough");
    assert!(stage.measured("signet_ca_record_cosigned_size 0"));
    assert_eq!(kept.together(None)[0].0.signatures.len(), 2, "what there is of it is kept");
    // Another process asks the others.
    let (mut other, _) = cosigner(&stage.tree, &stage.signer, &stage.witnesses[1..], 2, ORIGIN);
    other.round().await.unwrap();
    tokio::time::advance(BACKOFF.0).await;
    stage.cosigner.round().await.unwrap();
    let kept = stage.cosigner.round().await.unwrap();
    assert_eq!(kept.quorum().unwrap().size, 300);
    let joined = kept.joined(&stage.tree.note());
    assert_eq!(Note::parse(joined.as_bytes()).unwrap().signers(&stage.keys_of()).unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_was_set_back_is_what_witnesses_find_without_any_file() {
    let mut stage = Stage::new().await;
    let backup = stage.tree.change(|content| content.clone());
    stage.grow(500).await;
    stage.cosigner.round().await.unwrap();
    for (events, words) in [
        (
            0,
            "it has cosigned 800 events of this log, and the newest checkpoint here is of 300: the storage was set back",
        ),
        (500, "has cosigned other 800 events of this log than those here"),
        (900, "this checkpoint does not continue the one that it has cosigned (422), of 800 events"),
    ] {
        stage.tree.change(|content| *content = backup.clone());
        stage.tree.append(events, 5);
        let mut restarted = signer(&stage.tree, &stage.keys, None);
        cover(&mut restarted).await;
        let (mut cosigner, _) = cosigner(&stage.tree, &restarted, &stage.witnesses, 2, ORIGIN);
        // What was signed before it was set back is nobody's own.
        tokio::time::advance(OVERDUE).await;
        cosigner.round().await.unwrap();
        tokio::time::advance(OVERDUE).await;
        cosigner.round().await.unwrap();
        // One whose checkpoint of the same size differs says so by 422, too.
        let went = cosigner.watched[0].went.problem().unwrap_or_default().to_owned();
        assert!(went.contains(words) || (events == 500 && went.contains("(422)")), "{events} {words}: {went}");
        assert!(matches!(cosigner.watched[0].went, Went::OtherHistory(_)));
    }
    // Under another name it is another log, which they do not know.
    let renamed = "cluster.local/record-2";
    let mut other = named(&stage.tree, &stage.keys, None, renamed);
    cover(&mut other).await;
    let (mut cosigner, _) = cosigner(&stage.tree, &other, &stage.witnesses, 2, renamed);
    let kept = cosigner.round().await.unwrap();
    assert_eq!(kept.quorum(), None, "what is kept of the other log is none of this one's");
    assert!(cosigner.watched[0].went.problem().unwrap().contains("does not know this log"));
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_of_the_cosigned_checkpoint_if_the_event_is_in_it() {
    let mut stage = Stage::new().await;
    stage.cosigner.round().await.unwrap();
    stage.grow(700).await;
    let logs = stage.keys.verifiers();
    for (index, size, by) in [(0, 300, 3), (299, 300, 3), (300, 1000, 0), (999, 1000, 0)] {
        let proof = prove(&*stage.tree, index).await.unwrap();
        let body = proof.extra.clone().unwrap();
        let checkpoint = proof.verify(&leaf_hash(&body), ORIGIN, &logs).unwrap();
        let keys = stage.keys_of();
        let signers = proof.checkpoint.signers(&keys).unwrap();
        assert_eq!((checkpoint.size, signers.len()), (size, by), "{index}");
    }
    stage.cosigner.round().await.unwrap();
    let proof = prove(&*stage.tree, 300).await.unwrap();
    assert_eq!(proof.checkpoint.signers(&stage.keys_of()).unwrap().len(), 3);
    // A note that somebody has put there, of a tree that is not this one, proves nothing and is not used.
    let (other, keys) = signed(200).await;
    stage.tree.change(|content| content.notes.insert(KeptNote::QUORUM.to_owned(), other.note()));
    let before = prove(&*stage.tree, 7).await.unwrap();
    assert_eq!(before.checkpoint.signers(&keys.verifiers()).unwrap().len(), 1, "the same events make the same tree");
    let different = TestTree::of(0);
    different.append(200, 9);
    cover(&mut signer(&different, &stage.keys, None)).await;
    stage.tree.change(|content| content.notes.insert(KeptNote::QUORUM.to_owned(), different.note()));
    let proof = prove(&*stage.tree, 7).await.unwrap();
    assert_eq!(proof.verify(&leaf_hash(&proof.extra.clone().unwrap()), ORIGIN, &logs).unwrap().size, 1000);
}

#[tokio::test(start_paused = true)]
async fn verifying_with_witnesses_takes_a_checkpoint_that_enough_of_them_have_cosigned() {
    let mut stage = Stage::new().await;
    stage.witnesses[2].lies(vec![Lie::Down; 9]);
    stage.cosigner.round().await.unwrap();
    stage.grow(10).await;
    let (keys, logs) = (stage.keys_of(), stage.keys.verifiers());
    let verified = async |tree: &TestTree, quorum: usize| {
        let against = Against { keys: &logs, checkpoint: None, witnesses: (&keys, quorum) };
        verify(tree, against, |_, _| ()).await.unwrap()
    };
    for quorum in [1, 2] {
        let found = verified(&stage.tree, quorum).await;
        assert!(found.holds(), "{found:?}");
        let (checkpoint, by) = found.cosigned.unwrap();
        assert_eq!((checkpoint.size, by), (300, vec!["one".to_owned(), "two".to_owned()]));
    }
    let found = verified(&stage.tree, 3).await;
    assert_eq!(
        found.problems,
        ["no checkpoint in storage is cosigned by 3 of the witnesses that were given: by 2 at most"]
    );
    // Somebody who has the log's key makes the record anew, and keeps what witnesses have cosigned.
    let notes = stage.tree.change(|content| content.notes.clone());
    let other = TestTree::of(100);
    other.append(210, 5);
    cover(&mut signer(&other, &stage.keys, None)).await;
    other.change(|content| content.notes = notes);
    let found = verified(&other, 2).await;
    assert_eq!(found.problems, ["the first 300 events are not those of the checkpoint that witnesses have cosigned"]);
    let short = TestTree::of(100);
    cover(&mut signer(&short, &stage.keys, None)).await;
    short.change(|content| content.notes = other.change(|other| other.notes.clone()));
    let found = verified(&short, 2).await;
    assert!(
        found.problems[0].contains("that witnesses have cosigned covers 300 events, the newest one in storage 100")
    );
}
