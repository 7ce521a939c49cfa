//! Tests of whose files count: by what the journal says, and by what a replica has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::Authorities;
use super::test_authorities::{DAY, START, Seen, first, id, offer, offer_with, root_ca, rules, take};
use super::{Activation, AuthorityState, Command, Refused, Step, judge, next_step};
use crate::authority::{AuthorityId, IssuingCa};
use crate::certificate::Facts;
use crate::revocation::{GivenLists, ListKey, ListNeed, RevocationList, RevocationReason, Revoked};
use crate::source::{Offer, OfferedCa, ReplicaSource, SourceFingerprint, SourceStanding};
use crate::unknown_fields::Unknown;

#[test]
fn what_cannot_be_used_is_neither_adopted_nor_a_reason_to_step_back() {
    let seen = Seen::nobody();
    let unusable = ReplicaSource::default();
    let mut view = seen.view();
    view.source = &unusable;
    let refused = judge(START, &first(), &view, &rules(), &Command::Adopt);
    assert_eq!(refused, Err(Refused::NoFiles));
}

#[test]
fn nothing_is_adopted_by_itself_while_nobody_could_sign_until_it_is_known_unless_somebody_says_so() {
    let (theirs, own) = (Some(offer("o1", "s1")), None);
    let start = Authorities::default();
    let authorities = take(&Step::CreateRoot, &start, &has(&theirs, &start), START, "x");
    let mut seen = has(&own, &authorities);
    assert_eq!(next_step(START, &authorities, &seen.view(), &rules()), Step::AdoptRoots);
    seen.source.lacks_signer = true;
    assert!(matches!(next_step(START, &authorities, &seen.view(), &rules()), Step::WaitUntil(_)));
    let told = judge(START, &authorities, &seen.view(), &rules(), &Command::Adopt);
    assert_eq!(told, Ok(Some(Step::AdoptRoots)));
    // What was adopted goes on.
    let authorities = take(&Step::AdoptRoots, &authorities, &seen, START, "x");
    let mut seen = has(&own, &authorities);
    seen.source.lacks_signer = true;
    let next = next_step(START, &authorities, &seen.view(), &rules());
    assert_eq!(next, Step::PrepareRoot(Activation::WhenCovered));
}

fn has(offer: &Option<Offer>, authorities: &Authorities) -> Seen {
    Seen::holders(&[(authorities.bundle_sequence, 1)]).has(offer.clone(), authorities)
}

#[test]
fn replicas_with_different_files_end_with_the_newest_and_only_adopt_on_the_late_one_changes_that() {
    let (old, new) = (Some(offer("o1", "s1")), Some(offer("o2", "s2")));
    let start = Authorities::default();
    let mut authorities = take(&Step::CreateRoot, &start, &has(&old, &start), START, "x");
    assert_eq!(authorities.adopted, vec![old.as_ref().unwrap().fingerprint.clone()].into());
    let step = |authorities: &Authorities, mine: &Option<Offer>| {
        let seen = has(mine, authorities);
        (next_step(START, authorities, &seen.view(), &rules()), seen)
    };
    let (due, seen) = step(&authorities, &new);
    assert_eq!(due, Step::AdoptRoots);
    authorities = take(&due, &authorities, &seen, START, "x");
    assert_eq!((authorities.roots.len(), authorities.bundle_sequence), (2, 2));
    assert!(matches!(step(&authorities, &old).0, Step::WaitUntil(_)), "it steps back");
    assert!(matches!(step(&authorities, &new).0, Step::WaitUntil(_)), "and this one waits for coverage");
    // Commands to the late one: only those that make nothing, and the one that says that its files are meant.
    let ask = |command| {
        let seen = has(&old, &authorities);
        judge(START, &authorities, &seen.view(), &rules(), &command)
    };
    let o2 = || id("o2");
    for command in [
        Command::Prepare,
        Command::Rotate,
        Command::RenewIssuing,
        Command::Rollback,
        Command::Activate { id: o2(), force: false },
        Command::Activate { id: o2(), force: true },
        Command::Taint { id: id("o1"), force: true },
    ] {
        assert_eq!(ask(command.clone()), Err(Refused::Superseded), "{command:?}");
    }
    assert_eq!(ask(Command::Taint { id: o2(), force: false }), Ok(Some(Step::Taint(o2()))));
    assert!(matches!(ask(Command::Revoke { id: o2(), force: false }), Err(Refused::State { .. })));
    assert_eq!(ask(Command::Adopt), Ok(Some(Step::AdoptRoots)));
    let back = take(&Step::AdoptRoots, &authorities, &has(&old, &authorities), START, "x");
    assert_eq!(back.roots.iter().map(|root| root.pinned).collect::<Vec<_>>(), [true, false]);
    let again = judge(START, &back, &has(&old, &back).view(), &rules(), &Command::Adopt);
    assert_eq!(again, Ok(None), "whoever got no answer may ask again");
    assert!(matches!(step(&back, &new).0, Step::WaitUntil(_)), "now the other one is late");
    assert_eq!(step(&back, &old).0, Step::DropPrepared(o2(), false));
}

#[test]
fn a_change_that_touches_no_root_is_noted_before_it_is_used() {
    let (first, renewed) = (Some(offer("o1", "s1")), Some(offer("o1", "s2")));
    let start = Authorities::default();
    let authorities = take(&Step::CreateRoot, &start, &has(&first, &start), START, "x");
    let seen = has(&renewed, &authorities);
    let due = next_step(START, &authorities, &seen.view(), &rules());
    let noted = take(&due, &authorities, &seen, START, "x");
    assert_eq!((due, noted.bundle_sequence), (Step::AdoptRoots, 1));
    let adopted: Vec<_> = [first, renewed.clone()].into_iter().flatten().map(|one| one.fingerprint).collect();
    assert_eq!(noted.adopted, adopted.into());
    let seen = has(&renewed, &noted);
    assert_eq!(next_step(START, &noted, &seen.view(), &rules()), Step::CertifyIssuing(id("o1")));
}

#[test]
fn a_backend_that_is_switched_back_waits_for_adopt_which_also_ends_a_pause() {
    let (native, files) = (None, Some(offer("o1", "s1")));
    let mut authorities = first();
    assert_eq!(authorities.adopted, vec![SourceFingerprint::own()].into());
    authorities = take(&Step::AdoptRoots, &authorities, &has(&files, &authorities), START, "x");
    authorities.paused = true;
    let seen = has(&native, &authorities);
    assert!(matches!(next_step(START, &authorities, &seen.view(), &rules()), Step::WaitUntil(_)));
    assert_eq!(judge(START, &authorities, &seen.view(), &rules(), &Command::Prepare), Err(Refused::Superseded));
    let step = judge(START, &authorities, &seen.view(), &rules(), &Command::Adopt).unwrap().unwrap();
    let back = take(&step, &authorities, &seen, START, "x");
    assert!(!back.paused && back.roots.iter().all(|root| !root.pinned));
    let seen = has(&native, &back);
    assert_eq!(seen.source.standing, SourceStanding::Newest);
    // The root of the files has never signed: it goes, and our own goes on.
    assert_eq!(next_step(START, &back, &seen.view(), &rules()), Step::DropPrepared(id("o1"), false));
    // Had it signed, another one of our own would follow.
    let mut signs = take(&Step::Activate(id("o1")), &authorities, &has(&files, &authorities), START, "x");
    signs = take(&Step::AdoptRoots, &signs, &has(&native, &signs), START, "x");
    let due = next_step(START, &signs, &has(&native, &signs).view(), &rules());
    assert_eq!(due, Step::PrepareRoot(Activation::WhenCovered));
}

#[test]
fn a_root_about_to_end_is_not_put_back_by_a_replica_whose_clock_is_behind() {
    let ending = root_ca("short", START, DAY);
    let with = Some(offer_with(vec![root_ca("o1", START, 100 * DAY), ending], "s1", vec![]));
    let mut without = with.clone();
    without.as_mut().unwrap().roots.pop();
    let start = Authorities::default();
    let both = take(&Step::CreateRoot, &start, &has(&with, &start), START, "x");
    let end = START + DAY;
    let due = next_step(end, &both, &has(&without, &both).view(), &rules());
    assert_eq!(due, Step::AdoptRoots, "where it has ended, it goes");
    let gone = take(&due, &both, &has(&without, &both), end, "x");
    let behind = end - std::time::Duration::from_secs(60);
    assert_eq!(next_step(behind, &gone, &has(&with, &gone).view(), &rules()), Step::Leave(id("short")));
    let long_before = next_step(START, &gone, &has(&with, &gone).view(), &rules());
    assert_eq!(long_before, Step::AdoptRoots, "a root that is missing for another reason is put back");
}

#[test]
fn a_root_that_was_about_to_be_dropped_stays_when_it_is_listed_again() {
    let (one, two) = (offer("o1", "s1"), offer("o2", "s2"));
    let start = Authorities::default();
    let authorities = take(&Step::CreateRoot, &start, &has(&Some(one.clone()), &start), START, "x");
    let authorities = take(&Step::AdoptRoots, &authorities, &has(&Some(two.clone()), &authorities), START, "x");
    let signs = take(&Step::Activate(id("o2")), &authorities, &has(&Some(two.clone()), &authorities), START, "x");
    let left = take(&Step::Leave(id("o1")), &signs, &has(&Some(two.clone()), &signs), START, "x");
    assert_eq!(left.root(&id("o1")).unwrap().leaving_since(), Some(START));
    let mut both = two;
    both.roots.extend(one.roots);
    let listed = take(&Step::AdoptRoots, &left, &has(&Some(both), &left), START, "x");
    let root = listed.root(&id("o1")).unwrap();
    assert_eq!((root.state, root.pinned), (AuthorityState::OLD, true));
}

/// What an operator's files say about lists, with and without any in them.
#[test]
fn files_without_lists_say_that_nothing_is_revoked_unless_there_are_some_that_cannot_be_used() {
    let list = RevocationList { issuer: id("o1"), der: vec![1].into(), next_update: 0, unknown: Unknown::default() };
    let (none, mut bad, with) = (offer("o1", "s1"), offer("o1", "s1"), vec![list]);
    bad.fingerprint = bad.fingerprint.with_unusable_lists();
    let some = Offer { revocation_lists: with.clone(), ..none.clone() };
    assert_eq!(none.given_lists(), GivenLists::NothingRevoked);
    assert_eq!(bad.given_lists(), GivenLists::Unknown);
    assert_eq!(some.given_lists(), GivenLists::Lists(&with));
}

#[test]
fn lists_are_signed_for_our_own_cas_and_for_signers_of_somebody_elses_and_renewed_for_our_own() {
    let (own, files) = (first(), offer("o1", "s1"));
    let mut signs_itself = offer("o2", "o2");
    signs_itself.issuing = OfferedCa::Given(IssuingCa { id: id("o2"), ..signs_itself.given().unwrap().clone() });
    let mut authorities = own;
    for offer in [files, signs_itself] {
        let signer = offer.signer.clone();
        let seen = has(&Some(offer), &authorities);
        authorities = take(&Step::AdoptRoots, &authorities, &seen, START, "x");
        authorities = take(&Step::Activate(signer), &authorities, &seen, START, "x");
    }
    let lists = authorities.lists_of(START);
    assert_eq!(lists.required(), authorities.list_issuers(START));
    for (name, expected) in [
        ("r1", ListKey::Own),
        ("r1-issuing", ListKey::Own),
        ("o1", ListKey::Elsewhere),
        ("s1", ListKey::Foreign),
        ("o2", ListKey::Foreign),
        ("nobody", ListKey::Elsewhere),
    ] {
        assert_eq!((lists.key(&id(name)), lists.renews(&id(name))), (expected, expected == ListKey::Own), "{name}");
    }
    // Also of one that needs no list any more.
    let later = authorities.lists_of(START + 400 * DAY);
    assert!(!later.required().contains(&id("r1-issuing")));
    assert_eq!((later.key(&id("r1-issuing")), later.key(&id("s1"))), (ListKey::Own, ListKey::Foreign));
}

#[test]
fn lists_are_complete_only_with_those_of_the_cas_between_as_long_as_something_may_chain_through_them() {
    let params = rcgen::CertificateParams::new(vec!["between".to_owned()]).unwrap();
    let between = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let middle = AuthorityId::of(&Facts::read(between.der()).unwrap());
    let mut authorities = first();
    assert_eq!(authorities.list_issuers(START).len(), 2, "the root and its issuing CA");
    authorities.roots[0].issuing[0].ca.intermediates = vec![between.der().clone()];
    let issuers = authorities.lists_of(START);
    assert!(issuers.required().contains(&middle) && issuers.required().len() == 3, "{issuers:?}");
    // Its list can be made by nobody here, so that there can be none at all.
    let list =
        RevocationList { issuer: middle.clone(), der: vec![1].into(), next_update: 0, unknown: Unknown::default() };
    authorities.revocations.entries = vec![Revoked {
        serial: "ab".to_owned(),
        issuer: id("r1-issuing"),
        reason: RevocationReason::KeyCompromise,
        at: START.unix_timestamp(),
        not_after: (START + DAY).unix_timestamp(),
        unknown: Unknown::default(),
    }];
    let need = |given: GivenLists<'_>| authorities.revocations.need(&issuers, given, START);
    assert_eq!(need(GivenLists::Unknown), ListNeed::Impossible(middle.clone()));
    assert_eq!(need(GivenLists::Lists(&[list])), ListNeed::Wanted);
    let ended = authorities.roots[0].issuing[0].not_after;
    assert!(!authorities.list_issuers(ended).contains(&middle));
}

#[test]
fn lists_are_not_left_to_end_although_this_replica_leaves_everything_to_others() {
    let list = RevocationList { issuer: id("x"), der: vec![1].into(), next_update: 0, unknown: Unknown::default() };
    let mut authorities = first();
    authorities.adopted.note(&offer("o1", "s1").fingerprint);
    authorities.revocations.lists = vec![list];
    let end = START + DAY;
    authorities.revocations.lists[0].next_update = end.unix_timestamp();
    let step = |at| next_step(at, &authorities, &has(&None, &authorities).view(), &rules());
    let margin = std::time::Duration::from_secs(60);
    assert_eq!(step(end - margin), Step::RefreshLists(false));
    assert_eq!(step(end - margin * 2), Step::WaitUntil(end - margin));
}
