//! Tests of when there are lists, whose, and when they are made anew. What is in a list matters nowhere here.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use super::*;

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const TTL: Duration = Duration::from_secs(86_400);

fn id(name: &str) -> AuthorityId {
    AuthorityId::new(b"", name.as_bytes())
}

fn list(name: &str, end: OffsetDateTime) -> RevocationList {
    let der = name.as_bytes().to_vec().into();
    RevocationList { issuer: id(name), der, next_update: end.unix_timestamp(), unknown: Unknown::default() }
}

fn entry(end: OffsetDateTime) -> Revoked {
    Revoked {
        serial: "ab".to_owned(),
        issuer: id("own"),
        reason: RevocationReason::KeyCompromise,
        at: NOW.unix_timestamp(),
        not_after: end.unix_timestamp(),
        unknown: Unknown::default(),
    }
}

/// These need a list each. The key of "own" is that of a CA of our own, that of "foreign" of somebody else's.
fn issuers(required: &[&str]) -> ListIssuers {
    let keys = [(id("own"), ListKey::Own), (id("foreign"), ListKey::Foreign)];
    ListIssuers::new(required.iter().map(|name| id(name)).collect(), keys.into())
}

fn with(lists: Vec<RevocationList>, entries: Vec<Revoked>) -> Revocations {
    Revocations { lists, entries, ..Revocations::default() }
}

#[test]
fn lists_are_wanted_as_soon_as_something_is_revoked_and_only_if_each_authority_can_have_one() {
    let good = NOW + HOUR;
    let given = [list("elsewhere", good)];
    let revoked = || vec![entry(good)];
    for (what, required, revocations, given, expected) in [
        ("nothing", &["own"][..], with(vec![], vec![]), GivenLists::Unknown, ListNeed::Needless),
        ("an entry", &["own", "foreign"], with(vec![], revoked()), GivenLists::Unknown, ListNeed::Wanted),
        (
            "an entry, and a CA without a key",
            &["own", "elsewhere"],
            with(vec![], revoked()),
            GivenLists::Unknown,
            ListNeed::Impossible(id("elsewhere")),
        ),
        (
            "lists on demand",
            &["own", "elsewhere"],
            with(vec![], vec![]),
            GivenLists::OnDemand(&given),
            ListNeed::Needless,
        ),
        (
            "an entry, and a list on demand",
            &["own", "elsewhere"],
            with(vec![], revoked()),
            GivenLists::OnDemand(&given),
            ListNeed::Wanted,
        ),
        (
            "an entry, and none on demand",
            &["own", "elsewhere"],
            with(vec![], revoked()),
            GivenLists::OnDemand(&[]),
            ListNeed::Impossible(id("elsewhere")),
        ),
        (
            "a list in use that a newer one replaces when that is wanted",
            &["own", "elsewhere"],
            with(vec![list("elsewhere", good)], vec![]),
            GivenLists::OnDemand(&given),
            ListNeed::Needless,
        ),
        (
            "lists that are given",
            &["own", "elsewhere"],
            with(vec![], vec![]),
            GivenLists::Lists(&given),
            ListNeed::Wanted,
        ),
        (
            "a list in use of a CA without a key",
            &["own", "elsewhere"],
            with(vec![list("elsewhere", good)], vec![]),
            GivenLists::Unknown,
            ListNeed::Wanted,
        ),
        (
            "one that its owner has taken back",
            &["own", "elsewhere"],
            with(vec![list("elsewhere", good)], vec![]),
            GivenLists::NothingRevoked,
            ListNeed::Needless,
        ),
        (
            "one that ends within the margin",
            &["own", "elsewhere"],
            with(vec![list("elsewhere", NOW + LIST_MARGIN)], vec![]),
            GivenLists::Unknown,
            ListNeed::Needless,
        ),
        ("a list of our own", &["own"], with(vec![list("own", good)], vec![]), GivenLists::Unknown, ListNeed::Needless),
    ] {
        assert_eq!(revocations.need(&issuers(required), given, NOW), expected, "{what}");
    }
}

#[test]
fn what_an_owner_made_goes_on_for_as_long_as_it_is_good_and_our_own_is_made_anew() {
    let good = NOW + LIST_MARGIN + SECOND;
    for (name, end, given, kept) in [
        ("foreign", good, GivenLists::Unknown, true),
        ("elsewhere", good, GivenLists::Unknown, true),
        ("own", good, GivenLists::Unknown, false),
        ("foreign", NOW + LIST_MARGIN, GivenLists::Unknown, false),
        ("foreign", good, GivenLists::NothingRevoked, false),
    ] {
        let revocations = with(vec![list(name, end)], vec![]);
        let found = revocations.kept(&id(name), &issuers(&[name]), given, NOW);
        assert_eq!(found.is_some(), kept, "{name} {end} {given:?}");
    }
}

#[test]
fn lists_are_made_anew_when_one_is_due_missing_or_replaced_and_not_before() {
    let due = Some(NOW);
    let (ours, end) = (|end| with(vec![list("own", end)], vec![entry(end)]), NOW + HOUR * 13);
    let another = [RevocationList { der: vec![9].into(), ..list("own", end) }];
    let same = [list("own", end)];
    let strangers = [list("stranger", end)];
    let far = NOW + TTL * 9;
    for (what, revocations, required, given, expected) in [
        ("none", with(vec![], vec![]), &["own"][..], GivenLists::Unknown, None),
        ("wanted", with(vec![], vec![entry(far)]), &["own"], GivenLists::Unknown, due),
        ("needless", with(vec![list("own", end)], vec![]), &["own"], GivenLists::Unknown, due),
        ("in its first half", ours(end), &["own"], GivenLists::Unknown, Some(end - TTL / 2)),
        ("at half of its life", ours(NOW + TTL / 2), &["own"], GivenLists::Unknown, due),
        ("from the future", ours(NOW + TTL + MINUTE), &["own"], GivenLists::Unknown, due),
        ("one is missing", ours(end), &["own", "foreign"], GivenLists::Unknown, due),
        ("another one is given", ours(end), &["own"], GivenLists::Lists(&another), due),
        ("another one on demand", ours(end), &["own"], GivenLists::OnDemand(&another), due),
        ("one of a stranger on demand", ours(end), &["own"], GivenLists::OnDemand(&strangers), Some(end - TTL / 2)),
        ("the same one is given", ours(end), &["own"], GivenLists::Lists(&same), Some(end + HOUR)),
        (
            "somebody else's",
            with(vec![list("foreign", NOW + HOUR)], vec![entry(far)]),
            &["foreign"],
            GivenLists::Unknown,
            Some(NOW + HOUR - LIST_MARGIN),
        ),
        (
            "somebody else's that ends",
            with(vec![list("foreign", NOW + LIST_MARGIN)], vec![entry(far)]),
            &["foreign"],
            GivenLists::Unknown,
            due,
        ),
        (
            "an entry has ended",
            with(vec![list("own", end)], vec![entry(NOW - HOUR)]),
            &["own"],
            GivenLists::Unknown,
            due,
        ),
    ] {
        let at = revocations.refresh_at(&issuers(required), given, TTL, NOW, true);
        assert_eq!(at.map(|at| at.max(NOW)), expected, "{what}");
    }
}

#[test]
fn by_a_clock_that_may_be_wrong_only_what_has_ended_is_replaced_and_entries_do_not_count() {
    let ours = |end, entry_end| with(vec![list("own", end)], vec![entry(entry_end)]);
    let (end, far) = (NOW + HOUR, NOW + TTL * 9);
    for (what, revocations, expected) in [
        ("due", ours(end, far), Some(end)),
        ("ended", ours(NOW, far), Some(NOW)),
        ("an entry has ended", ours(end, NOW - HOUR * 2), Some(end)),
    ] {
        assert_eq!(
            revocations.refresh_at(&issuers(&["own"]), GivenLists::Unknown, TTL, NOW, false),
            expected,
            "{what}"
        );
    }
}

#[test]
fn lists_that_could_not_be_made_are_tried_again_after_a_minute_and_then_after_an_hour() {
    let mut revocations = with(vec![], vec![entry(NOW + TTL)]);
    let issuers = issuers(&["own"]);
    let mut now = NOW;
    for pause in [MINUTE, HOUR, HOUR] {
        let before = revocations.clone();
        revocations.note_failure(&before, now);
        let refresh = |at| revocations.refresh_at(&issuers, GivenLists::Unknown, TTL, at, true).unwrap().max(at);
        assert_eq!(refresh(now + SECOND), now + pause);
        assert_eq!(refresh(now + pause - SECOND), now + pause);
        assert_eq!(refresh(now + pause), now + pause);
        // By a clock that was ahead when it failed.
        assert_eq!(refresh(now - HOUR * 2), now - HOUR * 2);
        now += pause;
    }
}

#[test]
fn an_entry_is_entered_once_for_each_issuer_and_forgotten_an_hour_after_its_certificate_has_ended() {
    let mut revocations = with(vec![], vec![]);
    let other = Revoked { issuer: id("foreign"), ..entry(NOW + HOUR) };
    for entry in [entry(NOW), entry(NOW + TTL), other] {
        revocations.add(entry);
    }
    let ends: Vec<_> = revocations.entries.iter().map(|entry| entry.not_after - NOW.unix_timestamp()).collect();
    assert_eq!(ends, [0, 3600]);
    revocations.forget_ended(NOW + HOUR - SECOND);
    assert_eq!(revocations.entries.len(), 2);
    revocations.forget_ended(NOW + HOUR);
    assert_eq!(revocations.find("ab", &id("own")), None);
    assert!(revocations.find("ab", &id("foreign")).is_some());
    revocations.clear("ab");
    assert!(revocations.entries.is_empty());
}
