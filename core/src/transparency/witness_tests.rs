//! Submissions and answers as the specification of witnesses has them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// The line of the example in C2SP tlog-cosignature.
const EXAMPLE: &str = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

#[test]
fn a_submission_is_written_as_the_specification_says() {
    let signature = Signature { name: "log".to_owned(), id: 1, bytes: vec![2; 64] };
    let note = Note { text: "log\n7\nroot\n".to_owned(), signatures: vec![signature] };
    let text = submission(5, &[[0; 32], [255; 32]], &note);
    let hashes = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n//////////////////////////////////////////8=\n";
    assert_eq!(text, format!("old 5\n{hashes}\n{note}"));
    let first = submission(0, &[], &note);
    assert!(first.starts_with("old 0\n\nlog\n7\nroot\n\n\u{2014} log "), "{first}");
}

#[test]
fn each_answer_of_the_protocol_is_told_apart() {
    let line = EXAMPLE;
    let Answer::Cosigned(lines) = Answer::read(200, line.as_bytes()) else { unreachable!("{line}") };
    assert_eq!((lines.len(), lines[0].name.as_str()), (1, "witness.example.com/w1"));
    assert_eq!((lines[0].bytes.len(), lines[0].cosigned_at()), (72, Some(1_679_315_147)));
    let two = format!("{line}{line}");
    assert!(matches!(Answer::read(200, two.as_bytes()), Answer::Cosigned(lines) if lines.len() == 2));
    for bad in ["", "x", "\u{2014} w AAAA", "\u{2014} w AAAA\n", "\n"] {
        assert!(matches!(Answer::read(200, bad.as_bytes()), Answer::Wrong(_)), "{bad:?}");
    }
    assert!(matches!(Answer::read(200, &[0xff, b'\n']), Answer::Wrong(_)));
    assert_eq!(Answer::read(409, b"17\n"), Answer::Stands(17));
    for bad in ["17", "017\n", "+1\n", "", "x\n", "18446744073709551616\n", "1\n2\n"] {
        assert!(matches!(Answer::read(409, bad.as_bytes()), Answer::Wrong(_)), "{bad:?}");
    }
    for status in [400, 403, 404, 422] {
        let Answer::Refused(why) = Answer::read(status, b"whatever") else { unreachable!() };
        assert!(why.contains(&format!("({status})")), "{why}");
    }
    for status in [429, 500, 503] {
        assert_eq!(Answer::read(status, b""), Answer::Unable(status));
    }
    for status in [201, 204, 301, 401, 418] {
        assert!(matches!(Answer::read(status, line.as_bytes()), Answer::Wrong(_)), "{status}");
    }
}

proptest! {
    #[test]
    fn whatever_is_answered_is_read_without_a_panic(status: u16, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _read = Answer::read(status, &body);
    }
}
