//! Documents of other versions of this program: what was written before formats had numbers, and what is written later.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::test_authorities::{START, Seen, draining, issuing, root, rules};
use super::super::{AuthorityState, Fence, Step, next_step};
use super::*;
use crate::source::SourceStanding;

/// A native root that drains, and an operator's CA with one certificate in between, with revocation lists: written by the
/// last program that knew no formats.
const FORMAT_1: &str = include_str!("testdata/journal_of_format_1.json");

const MADE: OffsetDateTime = time::macros::datetime!(2026-11-29 06:19:47 UTC);

fn edited(change: impl FnOnce(&mut Value)) -> String {
    let mut document = serde_json::to_value(draining()).unwrap();
    change(&mut document);
    document.to_string()
}

#[test]
fn a_document_of_format_1_is_read_with_the_ids_that_records_name_its_authorities_by() {
    let raw: Value = serde_json::from_str(FORMAT_1).unwrap();
    let read = Authorities::decode(FORMAT_1).unwrap();
    assert_eq!(read.version, Version::default());
    for (root, raw) in read.roots.iter().zip(raw["roots"].as_array().unwrap()) {
        assert_eq!(root.id.as_str(), raw["id"]);
        assert_eq!(root.issuing[0].id.as_str(), raw["issuing"][0]["id"]);
    }
    // What holders, ends of certificates and the fence go by is as it was.
    let signs = &read.active().unwrap().issuing[0].id;
    assert_eq!(Fence::of(&read).workloads, std::slice::from_ref(signs));
    let mut seen = Seen::nobody();
    seen.coverage.by_authority.insert(read.roots[0].issuing[0].id.clone(), 3);
    assert_eq!((seen.view().holders_of(&read.roots[0]), seen.view().holders_of(&read.roots[1])), (3, 0));
    // Each list is found by the id of its issuer, also that of the one in between, which has no entry.
    let issuers = read.list_issuers(MADE);
    let mut listed: Vec<_> = read.revocations.lists.iter().map(|list| list.issuer.clone()).collect();
    listed.sort();
    assert_eq!((issuers.len(), &issuers), (5, &listed));
    let between = Facts::read(&read.roots[1].issuing[0].intermediates[0]).unwrap();
    assert!(listed.contains(&AuthorityId::of(&between)) && !FORMAT_1.contains(AuthorityId::of(&between).as_str()));
    // The files that were in use then are no news now.
    let root = read.active().unwrap();
    let lists: Vec<_> = read
        .revocations
        .lists
        .iter()
        .filter(|list| {
            let issuers = [&root.id, &root.issuing[0].id, &AuthorityId::of(&between)];
            issuers.contains(&&list.issuer)
        })
        .cloned()
        .collect();
    let files =
        SourceFingerprint::of_set(&root.issuing[0].certificate, &root.issuing[0].intermediates, [&root.certificate]);
    assert_eq!((lists.len(), read.adopted.standing(&files.with_lists(&lists))), (3, SourceStanding::Newest));
    // Read once more after it was written, it is the same.
    let text = read.encode().unwrap();
    assert_eq!(Authorities::decode(&text).unwrap(), read);
    assert!(text.contains(r#""format":2"#), "{text}");
}

#[test]
fn an_authority_of_before_is_found_by_name_and_key_and_by_nothing_less() {
    let read = Authorities::decode(FORMAT_1).unwrap();
    let former = read.former_ids();
    let facts = Facts::read(&read.roots[1].certificate).unwrap();
    let (known, now) = (&read.roots[1].id, AuthorityId::of(&facts));
    assert_ne!(*known, now);
    assert_eq!(former.known(now.clone()), *known, "renewed");
    let renamed = AuthorityId::new(b"another name", &facts.spki_der);
    assert_eq!(former.known(renamed.clone()), renamed, "one key and two names are two authorities");
    assert_eq!(former.made(known), [now]);
    let new = Authorities { roots: vec![read.roots[1].clone()], ..draining() };
    assert_eq!(new.former_ids().0.len(), 2, "stand-ins and authorities of today have none");
}

#[test]
fn a_document_from_before_anything_was_noted_as_adopted_has_our_own_roots_or_waits_for_the_first_to_look() {
    let files = SourceFingerprint::of_set(&vec![1].into(), [], []);
    for (pinned, own) in [(false, SourceStanding::Newest), (true, SourceStanding::New)] {
        let text = edited(|document| {
            document
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !["format", "oldest_writer", "followed"].contains(&key.as_str()));
            document["roots"][0]["pinned"] = pinned.into();
        });
        let mut read = Authorities::decode(&text).unwrap();
        assert_eq!(
            (read.adopted.standing(&SourceFingerprint::own()), read.adopted.standing(&files)),
            (own, SourceStanding::New)
        );
        read.adopted.note(&files);
        assert_eq!(read.adopted.standing(&SourceFingerprint::own()) == SourceStanding::Superseded, !pinned);
    }
}

#[test]
fn what_a_newer_program_has_added_is_written_again_as_it_was_read() {
    let added = json!({"deep": [1, {"er": null}], "number": -7});
    let text = edited(|document| {
        document["roots"][0]["revoked_by"] = "added below".into();
        let entry = json!({"serial": "0a", "issuer": "bb", "reason": "superseded", "at": 1, "not_after": 2, "more": 1});
        let list = json!({"issuer": "bb", "der": "AQ==", "next_update": 5, "shard": 3});
        document["revocations"] = json!({"number": 1, "entries": [entry], "lists": [list], "more": added});
        document["orders"] = json!([{"authorities": ["aa"], "since": 1, "until": 2, "urgent": true, "more": 4}]);
        document["roots"][1]["more"] = added.clone();
        document["roots"][1]["issuing"][0]["more"] = added.clone();
        document["more"] = added.clone();
        document["format"] = 3.into();
    });
    let mut read = Authorities::decode(&text).unwrap();
    assert_eq!(read.may_change(), Ok(()));
    // A change by this program, which knows none of it.
    read.bundle_sequence += 1;
    let mut expected: Value = serde_json::from_str(&text).unwrap();
    expected["bundle_sequence"] = read.bundle_sequence.into();
    expected["revocations"]["failed_at"] = 0.into();
    let written: Value = serde_json::from_str(&read.encode().unwrap()).unwrap();
    assert_eq!(written, expected);
}

#[test]
fn a_document_that_only_newer_programs_may_change_is_read_and_signs_and_is_not_written() {
    for (what, text, expected) in [
        (
            "a number",
            edited(|document| (document["format"], document["oldest_writer"]) = (9.into(), 8.into())),
            FormatError::Newer { format: 9, oldest_writer: 8 },
        ),
        (
            "a state",
            edited(|document| document["roots"][0]["state"] = "quarantined".into()),
            FormatError::UnknownValues(2),
        ),
        (
            "what a root waits for",
            edited(|document| document["roots"][0]["activation"] = json!({"when": {"the": "moon is full"}})),
            FormatError::UnknownValues(2),
        ),
        (
            "a reason",
            edited(|document| {
                let entry = json!({"serial": "0a", "issuer": "bb", "reason": "boredom", "at": 1, "not_after": 2});
                document["revocations"] = json!({"number": 1, "entries": [entry], "lists": []});
            }),
            FormatError::UnknownValues(2),
        ),
    ] {
        let read = Authorities::decode(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(read.active_issuer(START), draining().active_issuer(START), "{what}");
        assert_eq!(Fence::of(&read).workloads, Fence::of(&draining()).workloads, "{what}");
        assert_eq!((read.may_change(), read.encode()), (Err(expected.clone()), Err(expected.clone())), "{what}");
        let version = if what == "a number" { "format 9" } else { "format 2" };
        assert!(expected.to_string().contains(version) && expected.to_string().contains("upgrade"), "{expected}");
    }
}

#[test]
fn what_is_unreadable_names_the_format_if_a_newer_program_wrote_it() {
    let newer = edited(|document| (document["format"], document["roots"]) = (7.into(), "elsewhere".into()));
    assert_eq!(Authorities::decode(&newer), Err(FormatError::Foreign(7)));
    for text in ["", "{}", "[]", &edited(|document| document["roots"] = "elsewhere".into())] {
        assert!(matches!(Authorities::decode(text), Err(FormatError::Damaged(_))), "{text}");
    }
}

#[test]
fn a_root_in_an_unknown_state_stays_in_the_bundle_and_is_left_alone() {
    let mut authorities = draining();
    authorities.roots[0].state = AuthorityState::Unknown;
    let later = START + std::time::Duration::from_secs(400 * 86_400);
    authorities.roots[1] = root("r2", START, std::time::Duration::from_secs(900 * 86_400));
    authorities.roots[1].state = AuthorityState::Active;
    authorities.roots[1].issuing.push(issuing("i", later, std::time::Duration::from_secs(9 * 86_400)));
    let due = next_step(later, &authorities, &Seen::nobody().view(), &rules());
    assert!(matches!(due, Step::WaitUntil(_)), "{due:?}");
}
