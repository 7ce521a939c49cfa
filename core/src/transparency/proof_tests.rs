//! Proof files, as they are written, read, and refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;
use crate::audit::leaf_hash;
use crate::transparency::{NoteKey, node};

fn proof(key: &NoteKey) -> (Proof, Hash) {
    let leaves = [b"a", b"b", b"c"].map(|entry| leaf_hash(entry));
    let root = node(&node(&leaves[0], &leaves[1]), &leaves[2]);
    let text = Checkpoint { origin: "log".to_owned(), size: 3, root, extensions: Vec::new() }.to_string();
    let signatures = vec![key.sign(&text)];
    let checkpoint = Note { text, signatures };
    (Proof { extra: Some(b"b".to_vec()), index: 1, path: vec![leaves[0], leaves[2]], checkpoint }, leaves[1])
}

fn key() -> NoteKey {
    NoteKey::new("log", &NoteKey::generate(&SystemRandom::new()).unwrap()).unwrap()
}

#[test]
fn a_proof_is_read_as_it_was_written_and_holds_for_its_entry_alone() {
    let key = key();
    let (proof, leaf) = proof(&key);
    let text = proof.to_string();
    assert!(
        text.starts_with("c2sp.org/tlog-proof@v1\nextra Yg==\nindex 1\n") && text.contains("\n\nlog\n3\n"),
        "{text}"
    );
    assert_eq!(Proof::parse(text.as_bytes()).as_ref(), Ok(&proof));
    let without = Proof { extra: None, ..proof.clone() };
    assert_eq!(Proof::parse(without.to_string().as_bytes()).as_ref(), Ok(&without));
    let keys = [key.verifier().clone()];
    assert_eq!(proof.verify(&leaf, "log", &keys).unwrap().size, 3);
    assert_eq!(proof.verify(&leaf_hash(b"x"), "log", &keys), Err(ProofError::False { index: 1, size: 3 }));
    assert!(matches!(proof.verify(&leaf, "other", &keys), Err(ProofError::Origin(origin)) if origin == "log"));
    let strangers = [NoteKey::new("log", &NoteKey::generate(&SystemRandom::new()).unwrap()).unwrap()];
    let strangers = strangers.map(|key| key.verifier().clone());
    assert!(
        matches!(proof.verify(&leaf, "log", &strangers), Err(ProofError::Checkpoint(text)) if text.contains("nobody"))
    );
    let moved = Proof { index: 0, ..proof.clone() };
    assert!(moved.verify(&leaf, "log", &keys).is_err());
    let mut shorter = proof;
    shorter.path.pop();
    assert!(shorter.verify(&leaf, "log", &keys).is_err());
}

#[test]
fn what_is_no_proof_file_is_refused_with_what_is_wrong() {
    let (proof, _) = proof(&key());
    let text = proof.to_string();
    let hash = STANDARD.encode(proof.path[0]);
    for (changed, words) in [
        (text.replace("@v1", "@v2"), "first line"),
        (text.replace("extra Yg==", "extra !"), "base64"),
        (text.replace("index 1", "index 01"), "which entry"),
        (text.replace("index 1\n", ""), "which entry"),
        (text.replace(&hash, "AAAA"), "hashes"),
        (text.replace(&hash, &[hash.as_str(); 64].join("\n")), "hashes"),
        (text.replace("\n\n", "\n"), "empty line"),
        (text.replace("— ", "- "), "no signature"),
        (String::new(), "empty line"),
    ] {
        let error = Proof::parse(changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{changed}: {error}");
    }
    assert!(Proof::parse(b"\xff").unwrap_err().to_string().contains("UTF-8"));
}

proptest! {
    #[test]
    fn nothing_panics_whatever_the_text(head in "(?s).{0,60}", index: u64) {
        let _either = Proof::parse(head.as_bytes());
        let _either = Proof::parse(format!("{FIRST_LINE}\nindex {index}\n{head}\n\n{head}\n\n— a AAAAAAA=\n").as_bytes());
    }
}
