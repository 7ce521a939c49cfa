//! Notes by the vectors of the specification and of golang.org/x/mod, and what is no note.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;

const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const SIGNED: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

fn key(name: &str) -> NoteKey {
    NoteKey::new(name, &NoteKey::generate(&SystemRandom::new()).unwrap()).unwrap()
}

#[test]
fn the_vector_of_the_specification_verifies_and_nothing_else_in_its_place() {
    let (known, note) = (VerifierKey::parse(KEY).unwrap(), Note::parse(SIGNED.as_bytes()).unwrap());
    assert_eq!((known.to_string().as_str(), known.id()), (KEY, 0x530d_903a));
    assert_eq!(note.to_string(), SIGNED);
    assert_eq!(note.verify(std::slice::from_ref(&known)), Ok(vec![&known]));
    let changed = Note::parse(SIGNED.replace("example m", "exemple m").as_bytes()).unwrap();
    assert_eq!(changed.verify(std::slice::from_ref(&known)), Err(NoteError::False("example.com/foo".to_owned())));
    let other = key("example.com/foo").verifier().clone();
    assert!(matches!(note.verify(&[other]), Err(NoteError::Unsigned(names)) if names == "example.com/foo"));
    let renamed = Note::parse(SIGNED.replace("— example.com/foo", "— example.com/bar").as_bytes()).unwrap();
    assert!(matches!(renamed.verify(&[known]), Err(NoteError::Unsigned(_))), "the id alone says nothing");
}

#[test]
fn several_sign_one_note_and_one_false_signature_spoils_it() {
    let (ours, theirs, stranger) = (key("log"), key("other"), key("stranger"));
    let text = "log\n1\nhash\n\nwith an empty line\n";
    let sign = |key: &NoteKey| key.sign(text);
    let note =
        Note { text: text.to_owned(), signatures: vec![sign(&stranger), sign(&ours), sign(&ours), sign(&theirs)] };
    let read = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(read, note);
    let keys = [ours.verifier().clone(), theirs.verifier().clone()];
    assert_eq!(read.verify(&keys).unwrap(), keys.iter().collect::<Vec<_>>());
    let mut spoiled = note;
    spoiled.signatures[3].bytes[0] ^= 1;
    assert_eq!(spoiled.verify(&keys), Err(NoteError::False("other".to_owned())));
    assert!(spoiled.verify(&keys[..1]).is_ok(), "whose key is not known counts for nothing");
}

#[test]
fn a_witness_signs_the_time_and_the_whole_note() {
    let secret = NoteKey::generate(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(secret.expose()).unwrap();
    let public = pair.public_key().as_ref().try_into().unwrap();
    let witness = VerifierKey { name: "witness.example/w".to_owned(), kind: ED25519_COSIGNATURE, public };
    let witness = VerifierKey::parse(&witness.to_string()).unwrap();
    let text = "log\n1\nhash\n";
    let by = |seconds: u64, message: String| {
        let bytes = [&seconds.to_be_bytes()[..], pair.sign(message.as_bytes()).as_ref()].concat();
        let signature = Signature { name: witness.name.clone(), id: witness.id(), bytes };
        Note { text: text.to_owned(), signatures: vec![signature] }.verify(std::slice::from_ref(&witness)).is_ok()
    };
    assert!(by(1_679_315_147, format!("cosignature/v1\ntime 1679315147\n{text}")));
    assert!(!by(1_679_315_148, format!("cosignature/v1\ntime 1679315147\n{text}")), "another time");
    assert!(!by(1_679_315_147, text.to_owned()), "no cosignature");
    assert!(!by(1 << 63, format!("cosignature/v1\ntime {}\n{text}", 1_u64 << 63)), "no time");
    let short = Signature { name: witness.name.clone(), id: witness.id(), bytes: vec![0; 7] };
    assert!(!witness.verifies(text, &short.bytes));
}

#[test]
fn what_is_no_note_or_no_key_is_refused_with_what_is_wrong() {
    let many = format!("a\n\n{}", "— a AAAAAAA=\n".repeat(65));
    for (text, words) in [
        ("", "no empty line"),
        ("a\n", "no empty line"),
        ("a\n\n", "does not end"),
        ("a\n\n— a AAAAAAA=", "does not end"),
        ("a\n\n- a AAAAAAA=\n", "no signature"),
        ("a\n\n— a b AAAAAAA=\n", "no signature"),
        ("a\n\n— a+b AAAAAAA=\n", "no signature"),
        ("a\n\n—  AAAAAAA=\n", "no signature"),
        ("a\n\n— a AAAAAA==\n", "no signature"),
        ("a\n\n— a !\n", "no signature"),
        ("a\n\n— a AAAAAAA=\n\n", "does not end"),
        ("a\r\n\n— a AAAAAAA=\n", "control characters"),
        (many.as_str(), "64 signatures"),
    ] {
        let error = Note::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{text:?}: {error}");
    }
    assert!(Note::parse(b"\xff\n\n").unwrap_err().to_string().contains("UTF-8"));
    assert!(Note::parse(&vec![b'a'; LONGEST + 1]).unwrap_err().to_string().contains("64 KiB"));
    for (text, words) in [
        ("a+b", "NAME+ID+KEY"),
        ("+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "name"),
        ("a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "name"),
        ("example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "id"),
        ("example.com/foo+530d903a+!", "base64"),
        ("example.com/foo+530d903a+AuQ=", "Ed25519"),
        ("example.com/foo+530d903a+AekyeQ==", "32 bytes"),
        ("example.com/foo+530d903a+", "Ed25519"),
    ] {
        let error = VerifierKey::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text:?}: {error}");
    }
    assert!(NoteKey::new("a b", &NoteKey::generate(&SystemRandom::new()).unwrap()).is_err());
    assert!(NoteKey::new("a", &Secret::new(b"no key".to_vec())).is_err());
    let shown = format!("{:?}", key("log"));
    assert!(shown.starts_with("NoteKey(log+"), "{shown}");
}

proptest! {
    #[test]
    fn a_note_that_is_read_is_written_again_as_it_was(text in "(?s).{0,80}", lines in "(— [a-z]{1,3} [A-Za-z0-9+/]{8}\n){0,3}") {
        for bytes in [text.clone(), format!("{text}\n\n{lines}")] {
            if let Ok(note) = Note::parse(bytes.as_bytes()) {
                prop_assert_eq!(note.to_string(), bytes);
            }
        }
    }
}
