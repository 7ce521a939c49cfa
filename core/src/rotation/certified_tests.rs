//! Tests of a source that brings its roots and certifies issuing CAs of ours under them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use time::OffsetDateTime;

use super::test_authorities::{DAY, START, Seen, id, offer, rules, take};
use super::{Authorities, AuthorityState, Command, Needs, Refused, Step, judge, needs, next_step};
use crate::source::{Offer, OfferedCa};

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
