//! Tests of single steps; sequences of them are in `model_tests`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::super::test_authorities::{
    DAY, START, Seen, draining, first, id, issuing, offer, prepared, root_ca, rules, take,
};
use super::super::{Activation, AuthorityState, Command, Phase, Refused, SETTLE, judge};
use super::*;
use crate::revocation::{RevocationReason, Revoked};
use crate::source::OfferedCa;
use crate::unknown_fields::Unknown;

const SECOND: Duration = Duration::from_secs(1);

fn step(now: OffsetDateTime, authorities: &Authorities, seen: &Seen) -> Step {
    next_step(now, authorities, &seen.view(), &rules())
}

#[test]
fn an_issuing_ca_is_renewed_at_half_life_and_not_before_without_a_change_of_the_bundle() {
    let (authorities, seen) = (first(), Seen::nobody());
    assert_eq!(step(START + 14 * DAY, &authorities, &seen), Step::WaitUntil(START + 14 * DAY + 3600 * SECOND));
    assert_eq!(step(START + 15 * DAY - SECOND, &authorities, &seen), Step::WaitUntil(START + 15 * DAY));
    let due = step(START + 15 * DAY, &authorities, &seen);
    assert_eq!(due, Step::CertifyIssuing(id("r1")));
    let next = take(&due, &authorities, &seen, START + 15 * DAY, "r1-second");
    assert_eq!(next.bundle_sequence, authorities.bundle_sequence);
    assert_eq!(next.active_issuer(START + 15 * DAY).unwrap().id, id("r1-second-issuing"));
}

#[test]
fn an_issuing_ca_that_ends_with_its_root_is_not_renewed_in_a_loop() {
    let mut authorities = first();
    authorities.roots[0].issuing[0].ca.not_after = authorities.roots[0].not_after;
    authorities.paused = true;
    assert!(
        matches!(step(START + 99 * DAY, &authorities, &Seen::nobody()), Step::WaitUntil(at) if at > START + 99 * DAY)
    );
}

#[test]
fn the_root_is_prepared_and_activated_at_its_shares_of_life_unless_that_is_turned_off() {
    let mut authorities = first();
    authorities.roots[0].issuing[0].ca.not_before = START + 69 * DAY;
    authorities.roots[0].issuing[0].ca.not_after = START + 99 * DAY;
    let seen = Seen::holders(&[(1, 3)]);
    assert_eq!(step(START + 70 * DAY - SECOND, &authorities, &seen), Step::WaitUntil(START + 70 * DAY));
    let at = (START + 80 * DAY).unix_timestamp();
    let prepare = step(START + 70 * DAY, &authorities, &seen);
    assert_eq!(prepare, Step::PrepareRoot(Activation::NotBefore(at)));
    let off = Rules { automatic: false, ..rules() };
    assert!(matches!(next_step(START + 70 * DAY, &authorities, &seen.view(), &off), Step::WaitUntil(_)));
    let authorities = take(&prepare, &authorities, &seen, START + 70 * DAY, "r2");
    // Covered long before, yet not activated before its time; the issuing CA goes on meanwhile.
    let covered = Seen::holders(&[(2, 3)]);
    assert!(
        matches!(step(START + 80 * DAY - SECOND, &authorities, &covered), Step::WaitUntil(at) if at == START + 80 * DAY)
    );
    assert_eq!(step(START + 80 * DAY, &authorities, &covered), Step::Activate(id("r2")));
    assert!(matches!(step(START + 80 * DAY, &authorities, &seen), Step::WaitUntil(_)), "not covered");
}

#[test]
fn a_root_that_ended_unnoticed_is_replaced_without_an_operator() {
    let (authorities, seen, now) = (first(), Seen::nobody(), START + 101 * DAY);
    let prepare = step(now, &authorities, &seen);
    assert!(matches!(prepare, Step::PrepareRoot(_)));
    let authorities = take(&prepare, &authorities, &seen, now, "r2");
    assert_eq!(step(now, &authorities, &seen), Step::Activate(id("r2")));
}

#[test]
fn a_prepared_root_waits_for_its_propagation_time_for_every_holder_and_for_a_steady_clock() {
    let now = START + rules().propagation;
    let authorities = prepared(Activation::WhenCovered);
    for (seen, now, expected) in [
        (Seen::holders(&[(2, 3)]), now, true),
        (Seen::nobody(), now, true),
        (Seen::holders(&[(1, 1), (2, 1000)]), now, false),
        (Seen::holders(&[(2, 3)]), now - SECOND, false),
        (Seen { steady: false, ..Seen::holders(&[(2, 3)]) }, now, false),
    ] {
        let found = step(now, &authorities, &seen);
        assert_eq!(found == Step::Activate(id("r2")), expected, "{found:?}");
    }
    let waits = prepared(Activation::OnCommand);
    assert!(matches!(step(now + DAY, &waits, &Seen::holders(&[(2, 3)])), Step::WaitUntil(_)));
}

#[test]
fn exactly_one_root_signs_after_activation_and_the_other_one_drains_until_its_last_certificate_has_ended() {
    let authorities = draining();
    let active: Vec<_> = authorities.roots.iter().filter(|root| root.state == AuthorityState::Active).collect();
    assert_eq!((active.len(), &active[0].id, authorities.bundle_sequence), (1, &id("r2"), 2));
    assert_eq!(Phase::of(&authorities), Phase::Drain);
    let mut seen = Seen::nobody();
    let end = START + DAY;
    seen.ends.insert(id("r1-issuing"), end);
    assert_eq!(step(end - SECOND, &authorities, &seen), Step::WaitUntil(end));
    assert_eq!(step(end, &authorities, &seen), Step::Leave(id("r1")));
    let after = take(&Step::Retire(id("r1")), &authorities, &seen, end, "x");
    assert_eq!((after.roots.len(), after.bundle_sequence, Phase::of(&after)), (1, 3, Phase::Settled));
    // With a clock that has jumped, nothing is removed; and a root that has only just stopped stays a while.
    assert!(matches!(step(end + DAY, &authorities, &Seen { steady: false, ..seen }), Step::WaitUntil(_)));
    let leaving = take(&Step::Leave(id("r1")), &authorities, &Seen::nobody(), START, "x");
    assert!(matches!(step(START + SETTLE - SECOND, &leaving, &Seen::nobody()), Step::WaitUntil(_)));
}

#[test]
fn a_compromised_root_is_replaced_by_a_known_one_at_once_or_by_a_new_one_once_covered() {
    // In the drain phase the former root is known to everybody.
    let seen = Seen::holders(&[(2, 3)]);
    let tainted = take(&Step::Taint(id("r2")), &draining(), &seen, START, "x");
    assert_eq!(tainted.active().unwrap().id, id("r2"), "it signs until another one can");
    assert_eq!((step(START, &tainted, &seen), Phase::of(&tainted)), (Step::Activate(id("r1")), Phase::Emergency));
    let after = take(&Step::Activate(id("r1")), &tainted, &seen, START, "x");
    assert_eq!(after.root(&id("r2")).unwrap().state, AuthorityState::Tainted);
    assert_eq!(after.renewal_hints()[0].authorities, [id("r2-issuing").to_string()]);
    // Who has not renewed when it is removed is told all the same, and at once.
    let gone = take(&Step::Revoke(id("r2")), &after, &seen, START, "x");
    let hint = &gone.renewal_hints()[0];
    assert_eq!((&hint.authorities[0], hint.urgent), (&id("r2-issuing").to_string(), true));
    // Alone, a new one is prepared, and waits for nothing but coverage and replicas.
    let tainted = take(&Step::Taint(id("r1")), &first(), &seen, START, "x");
    assert_eq!(step(START, &tainted, &seen), Step::PrepareRoot(Activation::WhenCovered));
    let prepared = take(&Step::PrepareRoot(Activation::WhenCovered), &tainted, &seen, START, "r2");
    assert!(matches!(step(START + LAG, &prepared, &Seen::holders(&[(1, 1)])), Step::WaitUntil(_)));
    assert_eq!(step(START + LAG, &prepared, &seen), Step::Activate(id("r2")));
    assert!(prepared.renewal_hints().is_empty(), "nobody renews into the compromised root");
}

#[test]
fn holders_of_revoked_certificates_are_told_by_serial_number_the_newest_ones_first_until_that_is_cleared() {
    let entry = |serial: &str, at: i64| Revoked {
        serial: serial.to_owned(),
        issuer: id("r1-issuing"),
        reason: RevocationReason::KeyCompromise,
        at,
        not_after: at + 100,
        unknown: Unknown::default(),
    };
    let mut authorities = first();
    authorities.revocations.entries = vec![entry("0a", 10), entry("0c", 30), entry("0b", 20)];
    let hints = authorities.renewal_hints();
    assert_eq!(hints.len(), 1);
    assert_eq!(hints[0].serials, ["0c", "0b", "0a"]);
    assert_eq!((hints[0].since.unix_timestamp(), hints[0].urgent), (30, true), "peers refuse them already");
    authorities.revocations.entries = (0..5000_i64).map(|at| entry(&format!("{at:04x}"), at)).collect();
    let serials = &authorities.renewal_hints()[0].serials;
    assert_eq!((serials.len(), serials[0].as_str()), (4096, "1387"), "agents read no more");
    authorities.revocations.clear("1387");
    assert_eq!(authorities.renewal_hints()[0].serials[0], "1386");
    // With its root goes what was said against what is below it: nobody accepts that any more.
    let mut draining = draining();
    let of = |issuer: &str| Revoked { issuer: id(issuer), ..entry("0d", 40) };
    draining.revocations.entries = vec![of("r1-issuing"), of("r2-issuing"), of("r1"), of("r2")];
    draining.remove_root(&id("r1"));
    assert_eq!(draining.revocations.entries, [of("r2-issuing"), of("r2")]);
}

#[test]
fn an_issuing_ca_that_holders_are_to_leave_is_known_as_compromised_as_long_as_the_hint_stands() {
    let mut authorities = draining();
    let issuing = authorities.roots[1].issuing[0].clone();
    assert_eq!(authorities.issuing_tainted_at(&issuing), None);
    authorities.taint_issuing(&issuing.id, START);
    assert_eq!(authorities.issuing_tainted_at(&issuing), Some(START.unix_timestamp()));
    assert_eq!(authorities.issuing_tainted_at(&authorities.roots[0].issuing[0]), None);
}

#[test]
fn after_a_rollback_no_root_is_replaced_by_itself_until_an_operator_says_so() {
    let mut authorities = take(&Step::Reinstate(id("r1")), &draining(), &Seen::nobody(), START, "x");
    assert_eq!(authorities.active().unwrap().id, id("r1"));
    assert_eq!(authorities.root(&id("r2")).unwrap().state, AuthorityState::OLD);
    authorities.roots[0].issuing[0].ca.not_after = authorities.roots[0].not_after;
    let later = START + 75 * DAY;
    let after = take(&step(later, &authorities, &Seen::nobody()), &authorities, &Seen::nobody(), later, "x");
    assert!(matches!(step(later, &after, &Seen::nobody()), Step::WaitUntil(_)));
    let asked = judge(later, &after, &Seen::nobody().view(), &rules(), &Command::Rotate).unwrap();
    assert_eq!(asked, Some(Step::PrepareRoot(Activation::WhenCovered)));
    assert!(!take(&asked.unwrap(), &after, &Seen::nobody(), later, "r3").paused);
}

#[test]
fn while_lists_are_in_use_a_new_issuing_ca_signs_only_after_its_list_has_arrived() {
    let mut authorities = first();
    authorities.revocations.entries.push(Revoked {
        serial: "00".repeat(16),
        issuer: id("r1-issuing"),
        reason: RevocationReason::KeyCompromise,
        at: 0,
        not_after: (START + 50 * DAY).unix_timestamp(),
        unknown: Unknown::default(),
    });
    let seen = Seen::holders(&[(1, 2)]);
    assert_eq!(step(START, &authorities, &seen), Step::RefreshLists(true));
    with_lists(&mut authorities, &["r1", "r1-issuing"], 1, START);
    assert_eq!(authorities.bundle_sequence, 2);
    let now = START + 15 * DAY;
    with_lists(&mut authorities, &["r1", "r1-issuing"], 1, now);
    let seen = Seen::holders(&[(2, 2)]);
    let mut renewed = take(&step(now, &authorities, &seen), &authorities, &seen, now, "n");
    assert_eq!(step(now, &renewed, &seen), Step::RefreshLists(true), "one list for each authority, or none");
    with_lists(&mut renewed, &["r1", "r1-issuing", "n-issuing"], 2, now);
    assert_eq!(renewed.active_issuer(now).unwrap().id, id("r1-issuing"), "the old one signs meanwhile");
    assert!(matches!(step(now, &renewed, &seen), Step::WaitUntil(_)));
    let arrived = Seen::holders(&[(3, 2)]);
    assert_eq!(step(now, &renewed, &arrived), Step::UseIssuing(id("n-issuing")));
    let used = take(&Step::UseIssuing(id("n-issuing")), &renewed, &arrived, now, "x");
    assert_eq!(used.active_issuer(now).unwrap().id, id("n-issuing"));
    // Nobody may be left without certificates because one holder never answers.
    let late = START + 23 * DAY;
    with_lists(&mut renewed, &["r1", "r1-issuing", "n-issuing"], 2, late);
    assert_eq!(step(late, &renewed, &seen), Step::UseIssuing(id("n-issuing")));
}

/// Gives a document the lists of these authorities, made at `now`.
fn with_lists(authorities: &mut Authorities, names: &[&str], before: u64, now: OffsetDateTime) {
    let list = |name: &&str| crate::revocation::RevocationList {
        issuer: id(name),
        der: vec![1].into(),
        next_update: (now + rules().list_ttl).unix_timestamp(),
        unknown: Unknown::default(),
    };
    authorities.set_lists(names.iter().map(list).collect(), before);
}

#[test]
fn a_clock_that_has_jumped_neither_forgets_entries_nor_leaves_lists_from_the_future_behind() {
    let mut authorities = first();
    let entry = |serial: &str, end: OffsetDateTime| Revoked {
        serial: serial.to_owned(),
        issuer: id("r1-issuing"),
        reason: RevocationReason::KeyCompromise,
        at: 0,
        not_after: end.unix_timestamp(),
        unknown: Unknown::default(),
    };
    authorities.revocations.entries = vec![entry("01", START + 2 * DAY), entry("02", START + 20 * DAY)];
    with_lists(&mut authorities, &["r1", "r1-issuing"], 1, START);
    let (steady, jumped) = (Seen::nobody(), Seen { steady: false, ..Seen::nobody() });
    assert_eq!(step(START + DAY / 2, &authorities, &steady), Step::RefreshLists(true));
    assert!(matches!(step(START + DAY / 2, &authorities, &jumped), Step::WaitUntil(_)));
    // What has ended by a clock that may be wrong is made anew, but nothing is forgotten.
    let ahead = START + 5 * DAY;
    assert_eq!(step(ahead, &authorities, &jumped), Step::RefreshLists(false));
    let mut made = take(&Step::RefreshLists(false), &authorities, &jumped, ahead, "x");
    assert_eq!(made.revocations.entries.len(), 2);
    with_lists(&mut made, &["r1", "r1-issuing"], 2, ahead);
    // Back at the right time, nobody would accept those lists.
    assert_eq!(step(START, &made, &jumped), Step::RefreshLists(false));
    with_lists(&mut made, &["r1", "r1-issuing"], 3, START);
    assert!(matches!(step(START, &made, &jumped), Step::WaitUntil(_)));
    // And with a steady clock, ended entries do go.
    let end = START + 2 * DAY + Duration::from_secs(3600);
    with_lists(&mut made, &["r1", "r1-issuing"], 4, end);
    assert_eq!(take(&step(end, &made, &steady), &made, &steady, end, "x").revocations.entries.len(), 1);
}

#[test]
fn after_a_jump_far_ahead_and_back_certificates_are_issued_again_without_an_operator() {
    let (ahead, jumped) = (START + 40 * DAY, Seen { steady: false, ..Seen::nobody() });
    let mut authorities = first();
    authorities.paused = true;
    let renewed = take(&step(ahead, &authorities, &jumped), &authorities, &jumped, ahead, "ahead");
    assert_eq!(renewed.active_issuer(ahead).unwrap().id, id("ahead-issuing"));
    // The one that looked ended is still there, and signs.
    assert_eq!(renewed.active_issuer(START).unwrap().id, id("r1-issuing"));
    assert!(matches!(step(START, &renewed, &jumped), Step::WaitUntil(_)));
    let mut alone = renewed;
    alone.roots[0].issuing.retain(|issuing| issuing.id == id("ahead-issuing"));
    assert_eq!(step(START, &alone, &jumped), Step::CertifyIssuing(id("r1")));
}

#[test]
fn a_new_issuing_ca_signs_at_once_when_the_only_other_one_is_from_the_future_whatever_the_lists_and_the_clock() {
    let jumped = Seen { steady: false, ..Seen::holders(&[(1, 3)]) };
    let mut authorities = first();
    authorities.roots[0].issuing = vec![issuing("ahead", START + 40 * DAY, 30 * DAY)];
    authorities.revocations.entries = vec![Revoked {
        serial: "01".to_owned(),
        issuer: id("ahead"),
        reason: RevocationReason::KeyCompromise,
        at: 0,
        not_after: (START + 20 * DAY).unix_timestamp(),
        unknown: Unknown::default(),
    }];
    with_lists(&mut authorities, &["r1", "ahead"], 1, START);
    assert_eq!(step(START, &authorities, &jumped), Step::CertifyIssuing(id("r1")));
    let mut made = take(&Step::CertifyIssuing(id("r1")), &authorities, &jumped, START, "new");
    with_lists(&mut made, &["r1", "ahead", "new-issuing"], 1, START);
    assert_eq!(step(START, &made, &jumped), Step::UseIssuing(id("new-issuing")));
    let made = take(&Step::UseIssuing(id("new-issuing")), &made, &jumped, START, "x");
    assert_eq!(made.active_issuer(START).unwrap().id, id("new-issuing"));
}

#[test]
fn under_a_root_from_the_future_nothing_is_made_and_its_successor_needs_no_more_than_coverage() {
    let mut authorities = first();
    (authorities.roots[0].ca.not_before, authorities.roots[0].issuing) = (START + 2 * DAY, Vec::new());
    let seen = Seen::nobody();
    authorities.paused = true;
    assert!(matches!(step(START, &authorities, &seen), Step::WaitUntil(_)));
    let prepare = Step::PrepareRoot(Activation::WhenCovered);
    let mut next = take(&prepare, &authorities, &seen, START, "r2");
    assert_eq!(step(START + LAG, &next, &seen), Step::Activate(id("r2")));
    // One that is from the future itself has to wait.
    next.roots[1].ca.not_before = START + DAY;
    assert!(matches!(step(START + LAG, &next, &seen), Step::WaitUntil(_)));
    assert_eq!(step(START + DAY, &next, &seen), Step::Activate(id("r2")));
}

#[test]
fn an_operators_own_ca_is_published_first_and_signs_once_covered() {
    let with = |offer: Offer, counts: &[(u64, u64)]| Seen::holders(counts).offered(offer);
    // From nothing.
    let seen = with(offer("o1", "s1"), &[]);
    let authorities = take(&Step::CreateRoot, &Authorities::default(), &seen, START, "x");
    assert_eq!(authorities.active_issuer(START).unwrap().id, id("s1"));
    assert!(matches!(step(START, &authorities, &seen), Step::WaitUntil(_)));
    // A new signer under the same root needs no rotation.
    let seen = with(offer("o1", "s2"), &[(1, 3)]);
    let due = step(START, &authorities, &seen);
    assert_eq!(due, Step::CertifyIssuing(id("o1")));
    let authorities = take(&due, &authorities, &seen, START, "x");
    assert_eq!((authorities.active_issuer(START).unwrap().id.clone(), authorities.bundle_sequence), (id("s2"), 1));
    // So does a root that was renewed with the same key, but the bundle changes.
    let mut renewed = offer("o1", "s2");
    renewed.roots[0].certificate = vec![7, 7].into();
    let seen = with(renewed, &[(1, 3)]);
    assert_eq!(step(START, &authorities, &seen), Step::AdoptRoots);
    let mut authorities = take(&Step::AdoptRoots, &authorities, &seen, START, "x");
    assert_eq!((authorities.bundle_sequence, authorities.roots[0].certificate.as_ref()), (2, &[7, 7][..]));
    assert!(matches!(step(START, &authorities, &seen), Step::WaitUntil(_)));
    authorities.bundle_sequence = 1;
    // A new root is published, waits, and takes over; the old one drains though no file lists it any more.
    let seen = with(offer("o2", "s3"), &[(1, 3)]);
    assert_eq!(step(START, &authorities, &seen), Step::AdoptRoots);
    let authorities = take(&Step::AdoptRoots, &authorities, &seen, START, "x");
    assert_eq!(authorities.roots.iter().map(|root| root.pinned).collect::<Vec<_>>(), [false, true]);
    let now = START + rules().propagation;
    assert!(matches!(step(now, &authorities, &seen), Step::WaitUntil(_)));
    let seen = with(offer("o2", "s3"), &[(2, 3)]);
    assert_eq!(step(now, &authorities, &seen), Step::Activate(id("o2")));
    let authorities = take(&Step::Activate(id("o2")), &authorities, &seen, now, "x");
    assert_eq!(authorities.active_issuer(now).unwrap().id, id("s3"));
    assert_eq!(step(now, &authorities, &seen), Step::Leave(id("o1")));
    // A changed chain above the same signer is taken over too.
    let mut longer = offer("o2", "s3");
    let intermediates = vec![vec![8].into()];
    longer.issuing = OfferedCa::Given(IssuingCa { intermediates, ..longer.given().unwrap().clone() });
    assert_eq!(step(now, &authorities, &with(longer, &[(2, 3)])), Step::CertifyIssuing(id("o2")));
    // A root that is compromised before it has signed never signs.
    let next = with(offer("o3", "s4"), &[(2, 3)]);
    let waiting = take(&Step::AdoptRoots, &authorities, &next, now, "x");
    let tainted = take(&Step::Taint(id("o3")), &waiting, &next, now, "x");
    let known = with(offer("o3", "s4"), &[(9, 3)]);
    assert_eq!(step(now + DAY, &waiting, &known), Step::Activate(id("o3")));
    assert!(!matches!(step(now + DAY, &tainted, &known), Step::Activate(_)));
    let force = Command::Activate { id: id("o3"), force: true };
    assert!(matches!(judge(now, &tainted, &known.view(), &rules(), &force), Err(Refused::State { .. })));
    // One that was listed long before it is to sign still takes its time.
    let mut both = offer("o2", "s3");
    both.roots.push(root_ca("o4", START, 100 * DAY));
    let listed = take(&Step::AdoptRoots, &authorities, &with(both, &[(9, 3)]), now, "x");
    assert_eq!(listed.root(&id("o4")).unwrap().state, AuthorityState::OLD);
    let swapped = with(offer("o4", "s5"), &[(9, 3)]);
    let adopted = take(&step(now + DAY, &listed, &swapped), &listed, &swapped, now + DAY, "x");
    assert_eq!(
        (adopted.root(&id("o4")).unwrap().state, Phase::of(&adopted)),
        (AuthorityState::Prepared(Activation::WhenCovered), Phase::Propagate)
    );
    // Commands are for the files.
    for command in [Command::Prepare, Command::RenewIssuing, Command::Rollback] {
        assert_eq!(judge(now, &authorities, &seen.view(), &rules(), &command), Err(Refused::Foreign));
    }
    // Whoever waits for what is under way may say so; there is nothing to begin.
    assert_eq!(Phase::of(&authorities), Phase::Drain);
    assert_eq!(judge(now, &authorities, &seen.view(), &rules(), &Command::Rotate), Ok(None));
    // Back to our own: a root rotation like any other.
    let seen = Seen::holders(&[(2, 3)]);
    let authorities = take(&step(now, &authorities, &seen), &authorities, &seen, now, "x");
    assert!(authorities.roots.iter().all(|root| !root.pinned));
    assert_eq!(step(now, &authorities, &seen), Step::PrepareRoot(Activation::WhenCovered));
}

#[test]
fn the_record_survives_its_own_encoding_and_that_of_earlier_versions() {
    let mut record = prepared(Activation::NotBefore(5));
    record.roots[0].issuing[0].ca.intermediates = vec![vec![9].into()];
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Authorities>(&text).unwrap(), record);
    let old = r#"{"bundle_sequence":1,"roots":[{"id":"aa","generation":1,"state":"active","key":"k","certificate":"AQ==",
        "not_before":0,"not_after":9,"issuing":[{"id":"bb","key":"k2","certificate":"Ag==","not_before":0,"not_after":9}]}]}"#;
    let old: Authorities = serde_json::from_str(old).unwrap();
    assert_eq!((old.roots[0].published, old.next_generation(), old.paused), (0, 2, false));
}
