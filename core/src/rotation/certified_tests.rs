//! Tests of a source that brings its roots and certifies issuing CAs of ours under them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use time::OffsetDateTime;

use super::test_authorities::{DAY, START, Seen, id, offer, rules, take};
use super::{Authorities, AuthorityState, Command, Needs, Refused, Step, judge, needs, next_step};
use crate::authority::{IssuingCa, KeyId};
use crate::revocation::{RevocationList, RevocationReason, Revoked};
use crate::source::{Offer, OfferedCa, RevokedBy};
use crate::unknown_fields::Unknown;

/// A root of somebody else's, under which issuing CAs of ours are certified that last until then.
fn certified(root: &str, until: OffsetDateTime) -> Offer {
    Offer { issuing: OfferedCa::Certified { until }, ..offer(root, root) }
}

fn has(offer: &Offer, authorities: &Authorities) -> Seen {
    Seen::holders(&[(authorities.bundle_sequence, 1)]).has(Some(offer.clone()), authorities)
}

/// The first authority is the root "v1", made at [`START`].
fn first(offer: &Offer) -> Authorities {
    let empty = Authorities::default();
    take(&Step::CreateRoot, &empty, &has(offer, &empty), START, "first")
}

#[test]
fn the_first_authority_is_an_issuing_ca_of_ours_under_the_root_that_is_offered() {
    let offer = certified("v1", START + 100 * DAY);
    let empty = Authorities::default();
    let seen = has(&offer, &empty);
    assert_eq!(needs(&Step::CreateRoot, &empty, &seen.view(), START), Needs::IssuingUnder(offer.roots[0].clone()));
    let authorities = first(&offer);
    let active = authorities.active().unwrap();
    assert_eq!((&active.id, active.pinned, active.issuing.len()), (&id("v1"), true, 1));
    assert_eq!(active.issuing[0].id, id("first-issuing"));
    assert_eq!(authorities.adopted, vec![offer.fingerprint].into());
}

#[test]
fn its_issuing_ca_is_renewed_at_half_of_its_life_or_by_command_unless_a_new_one_could_not_last_longer() {
    let offer = certified("v1", START + 100 * DAY);
    let authorities = first(&offer);
    let at = |now, offer: &Offer| next_step(now, &authorities, &has(offer, &authorities).view(), &rules());
    assert!(matches!(at(START + 14 * DAY, &offer), Step::WaitUntil(_)));
    assert_eq!(at(START + 15 * DAY, &offer), Step::CertifyIssuing(id("v1")));
    // What is above it ends with it.
    let ending = Offer { issuing: OfferedCa::Certified { until: START + 30 * DAY }, ..offer.clone() };
    assert!(matches!(at(START + 15 * DAY, &ending), Step::WaitUntil(_)));
    // Nobody answers: what the journal holds goes on as it is.
    let held = Offer { issuing: OfferedCa::Given(authorities.roots[0].issuing[0].ca.clone()), ..offer.clone() };
    assert!(matches!(at(START + 15 * DAY, &held), Step::WaitUntil(_)));

    let ask = |offer: &Offer, command| judge(START, &authorities, &has(offer, &authorities).view(), &rules(), &command);
    let step = Step::CertifyIssuing(id("v1"));
    assert_eq!(ask(&offer, Command::RenewIssuing), Ok(Some(step.clone())));
    assert_eq!(ask(&held, Command::RenewIssuing), Err(Refused::Foreign));
    for command in [Command::Prepare, Command::Rollback] {
        assert_eq!(ask(&offer, command), Err(Refused::Foreign), "its roots are not ours");
    }
    let next = take(&step, &authorities, &has(&offer, &authorities), START + 15 * DAY, "second");
    assert_eq!(next.active_issuer(START + 15 * DAY).unwrap().id, id("second-issuing"));
    assert_eq!(next.bundle_sequence, authorities.bundle_sequence);
}

#[test]
fn another_root_is_published_first_and_an_issuing_ca_is_certified_under_it_once_it_is_covered() {
    let authorities = first(&certified("v1", START + 100 * DAY));
    let other = certified("v2", START + 90 * DAY);
    let seen = has(&other, &authorities);
    assert_eq!(next_step(START, &authorities, &seen.view(), &rules()), Step::AdoptRoots);
    let adopted = take(&Step::AdoptRoots, &authorities, &seen, START, "x");
    assert_eq!(adopted.bundle_sequence, authorities.bundle_sequence + 1);
    let (seen, now) = (has(&other, &adopted), START + rules().propagation);
    assert!(matches!(next_step(START, &adopted, &seen.view(), &rules()), Step::WaitUntil(_)), "it propagates");
    // Who certifies under the new root does not under the old one.
    let renewed = judge(START, &adopted, &seen.view(), &rules(), &Command::RenewIssuing);
    assert_eq!(renewed, Err(Refused::Foreign));
    assert_eq!(needs(&Step::CertifyIssuing(id("v1")), &adopted, &seen.view(), START), Needs::Nothing);
    let due = next_step(now, &adopted, &seen.view(), &rules());
    assert_eq!(due, Step::Activate(id("v2")));
    assert_eq!(needs(&due, &adopted, &seen.view(), now), Needs::Issuing(id("v2")));
    let activated = take(&due, &adopted, &seen, now, "next");
    let states: Vec<_> = activated.roots.iter().map(|root| (root.id.clone(), root.state, root.pinned)).collect();
    assert_eq!(states, [(id("v1"), AuthorityState::OLD, false), (id("v2"), AuthorityState::Active, true)]);
    assert_eq!(activated.active_issuer(now).unwrap().id, id("next-issuing"));
}

#[test]
fn a_root_under_which_nothing_can_be_certified_now_signs_not_even_when_that_is_forced() {
    let authorities = first(&certified("v1", START + 100 * DAY));
    let other = certified("v2", START + 90 * DAY);
    let adopted = take(&Step::AdoptRoots, &authorities, &has(&other, &authorities), START, "x");
    let command = Command::Activate { id: id("v2"), force: true };
    let ask = |offer: &Offer| judge(START, &adopted, &has(offer, &adopted).view(), &rules(), &command);
    assert_eq!(ask(&other), Ok(Some(Step::Activate(id("v2")))));
    // What the journal holds stands for a source that does not answer.
    let given = OfferedCa::Given(adopted.active().unwrap().issuing[0].ca.clone());
    let held = Offer { issuing: given, fingerprint: other.fingerprint.clone(), ..certified("v1", START) };
    assert_eq!(ask(&held), Err(Refused::NoFiles));
}

#[test]
fn while_lists_are_in_use_the_list_of_an_issuing_ca_under_another_root_travels_before_that_signs() {
    let lists = |names: &[&str]| names.iter().map(|name| list(name)).collect::<Vec<_>>();
    let on_demand = |root: &str, names: &[&str]| Offer {
        revocation_lists: lists(names),
        lists_on_demand: true,
        ..certified(root, START + 90 * DAY)
    };
    let mut authorities = first(&on_demand("v1", &["v1"]));
    authorities.revocations.lists = lists(&["v1", "first-issuing"]);
    let other = on_demand("v2", &["v1", "v2"]);
    let seen = has(&other, &authorities);
    let mut adopted = take(&Step::AdoptRoots, &authorities, &seen, START, "x");
    adopted.revocations.lists = lists(&["v1", "first-issuing", "v2"]);
    adopted.revocations.entries = vec![revoked("v1")];
    let (seen, now) = (has(&other, &adopted), START + rules().propagation);
    let due = next_step(now, &adopted, &seen.view(), &rules());
    assert_eq!(due, Step::CertifyIssuing(id("v2")));
    let mut waits = take(&due, &adopted, &seen, now, "next");
    waits.revocations.lists.push(list("next-issuing"));
    waits.bundle_sequence += 1;
    let behind = Seen::holders(&[(waits.bundle_sequence - 1, 1)]).has(Some(other.clone()), &waits);
    assert!(matches!(next_step(now, &waits, &behind.view(), &rules()), Step::WaitUntil(_)), "its list travels");
    let used = next_step(now, &waits, &has(&other, &waits).view(), &rules());
    assert_eq!(used, Step::UseIssuing(id("next-issuing")));
    let usable = take(&used, &waits, &has(&other, &waits), now, "x");
    assert_eq!(next_step(now, &usable, &has(&other, &usable).view(), &rules()), Step::Activate(id("v2")));
}

fn list(name: &str) -> RevocationList {
    let next_update = (START + rules().list_ttl).unix_timestamp();
    RevocationList { issuer: id(name), der: name.as_bytes().to_vec().into(), next_update, unknown: Unknown::default() }
}

fn revoked(issuer: &str) -> Revoked {
    let (at, not_after) = (START.unix_timestamp(), (START + 50 * DAY).unix_timestamp());
    let (serial, reason) = ("ab".to_owned(), RevocationReason::KeyCompromise);
    Revoked { serial, issuer: id(issuer), reason, at, not_after, unknown: Unknown::default() }
}

#[test]
fn something_can_be_revoked_when_whoever_certifies_has_a_list_for_each_ca_above_ours() {
    let offer = certified("v1", START + 100 * DAY);
    let authorities = first(&offer);
    let ask = |authorities: &Authorities, offer: &Offer| {
        super::lists_possible(authorities, &has(offer, authorities).view(), START)
    };
    let impossible = Err(Refused::ListsImpossible(id("v1")));
    let given = Offer { revocation_lists: vec![list("v1")], ..offer.clone() };
    let on_demand = Offer { lists_on_demand: true, ..given.clone() };
    let without = Offer { revocation_lists: Vec::new(), ..on_demand.clone() };
    assert_eq!(ask(&authorities, &given), impossible, "an operator's own");
    assert_eq!(ask(&authorities, &without), impossible);
    assert_eq!(ask(&authorities, &on_demand), Ok(()));
    // The list in use is enough while it is good.
    let mut listed = authorities.clone();
    listed.revocations.lists = vec![list("v1")];
    assert_eq!(ask(&listed, &without), Ok(()));
    // Not for an operator's root that was left.
    listed.roots[0].issuing[0].ca.key = KeyId::parse("files-key");
    assert_eq!(ask(&listed, &without), impossible);
}

#[test]
fn an_issuing_ca_can_be_revoked_by_who_has_certified_it_whether_that_answers_or_not() {
    let (offer, now) = (certified("v1", START + 100 * DAY), START + 15 * DAY);
    let authorities = first(&offer);
    let step = Step::CertifyIssuing(id("v1"));
    let mut authorities = take(&step, &authorities, &has(&offer, &authorities), now, "second");
    let command = Command::Revoke { id: id("first-issuing"), force: false };
    let ask = |authorities: &Authorities, offer: &Offer, revoked_by| {
        let mut seen = has(offer, authorities);
        seen.source.revoked_by = revoked_by;
        judge(now, authorities, &seen.view(), &rules(), &command)
    };
    let impossible = Err(Refused::ListsImpossible(id("v1")));
    let revoke = Ok(Some(Step::RevokeIssuing(id("first-issuing"))));
    let held = Offer { issuing: OfferedCa::Given(authorities.roots[0].issuing[1].ca.clone()), ..offer.clone() };
    for offer in [&offer, &held] {
        for by in [RevokedBy::Here, RevokedBy::Owner, RevokedBy::Nobody] {
            assert_eq!(ask(&authorities, offer, by), impossible, "{by:?}");
        }
        assert_eq!(ask(&authorities, offer, RevokedBy::Upstream), revoke);
    }
    // One of an operator's was certified by somebody else, whatever the backend is now.
    authorities.roots[0].issuing[0].ca.key = KeyId::parse("files-key");
    assert_eq!(ask(&authorities, &offer, RevokedBy::Upstream), impossible);
}

/// A backend that signed leaves itself certifies issuing CAs of ours from now on, or the other way round: the root stays.
#[test]
fn under_a_root_that_stays_leaves_of_the_backend_and_issuing_cas_of_ours_take_turns_at_once() {
    let offer = certified("v1", START + 100 * DAY);
    let ours = first(&offer);
    let certificate = vec![9].into();
    let theirs = IssuingCa { id: id("theirs"), key: None, certificate, ..ours.roots[0].issuing[0].ca.clone() };
    let leaves = Offer { issuing: OfferedCa::Given(theirs.clone()), ..offer.clone() };
    let (step, now) = (Step::CertifyIssuing(id("v1")), START);
    assert_eq!(next_step(now, &ours, &has(&leaves, &ours).view(), &rules()), step);
    assert_eq!(needs(&step, &ours, &has(&leaves, &ours).view(), now), Needs::Nothing, "it is there already");
    let there = take(&step, &ours, &has(&leaves, &ours), now, "x");
    let signs = there.active_issuer(now).unwrap();
    assert_eq!((&signs.id, &signs.key, there.bundle_sequence), (&theirs.id, &None, ours.bundle_sequence));
    assert!(matches!(next_step(now, &there, &has(&leaves, &there).view(), &rules()), Step::WaitUntil(_)));
    // Nobody is told to revoke it: it is said what can be done there.
    let mut seen = has(&leaves, &there);
    seen.source.revoked_by = RevokedBy::Upstream;
    let revoke = Command::Revoke { id: theirs.id.clone(), force: true };
    let refused = judge(now, &there, &seen.view(), &rules(), &revoke).unwrap_err();
    assert_eq!(refused, Refused::BackendsOwn { id: theirs.id.clone(), root: id("v1") });
    assert!(refused.to_string().contains("bao write -f pki/issuer/NAME/revoke"), "{refused}");
    // What only a backend in that mode can sign with is of no use to one that certifies.
    let mut only = there.clone();
    only.roots[0].issuing.retain(|one| one.key.is_none());
    assert_eq!(next_step(now, &only, &has(&offer, &only).view(), &rules()), step);
    let seen = has(&offer, &only);
    assert!(super::usable_issuer(&only, &only.roots[0], &seen.view(), now).is_none());
    assert_eq!(needs(&step, &only, &seen.view(), now), Needs::Issuing(id("v1")));
    let back = take(&step, &only, &seen, now, "again");
    assert_eq!(back.active_issuer(now).unwrap().id, id("again-issuing"));
    // Programs of before could not read it; this one knows what it is by its format.
    let text = there.encode().unwrap();
    assert!(text.contains(r#""format":3"#) && ours.encode().unwrap().contains(r#""format":2"#), "{text}");
    assert_eq!(Authorities::decode(&text).unwrap(), there);
}
