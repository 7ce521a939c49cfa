//! Golden documents, one for every state, as programs of format 2 have written them since its beginning: each is read as what
//! it says, and written again to the byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::rotation::{Authorities, FormatError};

const SINCE: i64 = 1_800_000_000;

fn at(seconds: i64) -> Option<OffsetDateTime> {
    Some(OffsetDateTime::from_unix_timestamp(seconds).unwrap())
}

/// A document with one root in this state; `rest` are the fields that follow on when it entered it.
fn document(state: &str, rest: &str) -> String {
    let issuing = [
        r#"{"id":"1a","key":"issuing-1","certificate":"AgM=","not_before":1790000000,"not_after":1810000000}"#,
        r#"{"id":"1b","key":"files-2","certificate":"BA==","not_before":1790000000,"not_after":1810000000,"intermediates":["BQ==","BgcI"],"after_sequence":6,"newer":[1]}"#,
    ];
    let root = format!(
        r#"{{"id":"0a","generation":3,"state":"{state}","key":"root-3","certificate":"AQ==","not_before":1780000000,"not_after":1880000000,"issuing":[{}],"published":4,"since":{SINCE},{rest}}}"#,
        issuing.join(",")
    );
    format!(
        r#"{{"format":2,"oldest_writer":2,"bundle_sequence":7,"roots":[{root}],"last_generation":3,"followed":["own","ab+cd"]}}"#
    )
}

#[test]
fn a_golden_document_of_every_state_is_read_as_what_it_says_and_written_again_to_the_byte() {
    let (prepared, old) = (AuthorityState::Prepared, |since| AuthorityState::Old { leaving_since: since });
    for (name, rest, state, tainted_at, pinned) in [
        ("prepared", r#""activation":"on_command""#, prepared(Activation::OnCommand), None, false),
        ("prepared", r#""activation":"when_covered""#, prepared(Activation::WhenCovered), None, false),
        ("prepared", r#""activation":{"not_before":1801}"#, prepared(Activation::NotBefore(1801)), None, false),
        (
            "prepared",
            r#""activation":"when_covered","tainted_at":1802,"pinned":true"#,
            prepared(Activation::WhenCovered),
            at(1802),
            true,
        ),
        ("active", r#""activation":"when_covered""#, AuthorityState::Active, None, false),
        ("active", r#""activation":{"not_before":1801},"tainted_at":1802"#, AuthorityState::Active, at(1802), false),
        ("old", r#""activation":"on_command""#, AuthorityState::OLD, None, false),
        ("old", r#""activation":"when_covered","leaving_since":1803"#, old(at(1803)), None, false),
        ("old", r#""activation":"when_covered","tainted_at":1802,"pinned":true"#, AuthorityState::OLD, at(1802), true),
        ("tainted", r#""activation":"when_covered","tainted_at":1802"#, AuthorityState::Tainted, at(1802), false),
        ("tainted", r#""activation":"when_covered","newer":{"a":null}"#, AuthorityState::Tainted, None, false),
    ] {
        let text = document(name, rest);
        let read = Authorities::decode(&text).unwrap();
        let root = &read.roots[0];
        assert_eq!((root.state, root.state.as_str()), (state, name), "{rest}");
        assert_eq!((root.tainted_at, root.pinned, Some(root.since)), (tainted_at, pinned, at(SINCE)), "{rest}");
        assert_eq!((root.id.as_str(), root.generation, root.published), ("0a", 3, 4));
        assert_eq!((root.issuing[0].after_sequence, root.issuing[1].after_sequence), (0, 6));
        assert_eq!(root.issuing[1].intermediates, [vec![5].into(), vec![6, 7, 8].into()]);
        assert_eq!(read.encode().unwrap(), text);
    }
}

#[test]
fn a_root_that_changes_its_state_leaves_nothing_of_the_former_one_for_others_to_read() {
    for (name, rest, enters, expected) in [
        (
            "prepared",
            r#""activation":{"not_before":1801}"#,
            AuthorityState::Active,
            document("active", r#""activation":"on_command""#),
        ),
        (
            "old",
            r#""activation":"on_command","leaving_since":1803"#,
            AuthorityState::Tainted,
            document("tainted", r#""activation":"on_command""#),
        ),
        (
            "old",
            r#""activation":"when_covered""#,
            AuthorityState::Prepared(Activation::OnCommand),
            document("prepared", r#""activation":"on_command""#),
        ),
    ] {
        let mut read = Authorities::decode(&document(name, rest)).unwrap();
        read.roots[0].enter(enters, at(SINCE).unwrap());
        let text = read.encode().unwrap();
        assert_eq!(text, expected, "{name}");
        assert_eq!(Authorities::decode(&text).unwrap(), read, "{name}: what is read is what was written");
    }
}

#[test]
fn a_state_and_an_activation_that_are_not_known_are_read_and_never_written() {
    for (name, rest) in [
        ("quarantined", r#""activation":"when_covered""#),
        ("prepared", r#""activation":{"when":"the moon is full"}"#),
        ("active", r#""activation":["a","b"]"#),
        ("old", r#""activation":7"#),
        ("tainted", r#""activation":"later","tainted_at":1802"#),
    ] {
        let read = Authorities::decode(&document(name, rest)).unwrap();
        assert_eq!(read.encode(), Err(FormatError::UnknownValues(2)), "{name} {rest}");
    }
}
