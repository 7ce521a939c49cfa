//! Under which root the serving certificate is, in every phase of a rotation.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::super::test_authorities::{DAY, START, Seen, draining, first, id, issuing, offer, prepared, rules, take};
use super::super::{Activation, Fence, next_step};
use super::*;
use crate::audit::EventKind;
use crate::authority::AuthorityId;

/// The root that the serving certificate is under. What the rule names, the fence lets out.
fn serves(authorities: &Authorities, now: OffsetDateTime) -> AuthorityId {
    for (_, issuing) in authorities.serving_issuers(now) {
        assert!(Fence::of(authorities).admits(EventKind::ServingCertificate, issuing.id.as_str(), 0), "{issuing:?}");
    }
    authorities.serving_issuers(now)[0].0.id.clone()
}

fn step(authorities: &Authorities, step: &Step) -> Authorities {
    take(step, authorities, &Seen::nobody(), START, "x")
}

/// Whether a client that trusts the roots of `bundle` accepts a server under this root.
fn knows(bundle: &Authorities, root: &AuthorityId) -> bool {
    bundle.root(root).is_some()
}

#[test]
fn it_stays_under_the_oldest_root_until_that_is_left_and_moves_at_once_when_that_is_compromised() {
    let (r1, r2) = (id("r1"), id("r2"));
    let leaving = step(&draining(), &Step::Leave(r1.clone()));
    let third = take(&Step::PrepareRoot(Activation::OnCommand), &draining(), &Seen::nobody(), START, "r3");
    let third = take(&Step::Activate(id("r3")), &third, &Seen::nobody(), START, "r3");
    let back = step(&draining(), &Step::Reinstate(r1.clone()));
    let tainted = step(&first(), &Step::Taint(r1.clone()));
    let successor = take(&Step::PrepareRoot(Activation::WhenCovered), &tainted, &Seen::nobody(), START, "r2");
    let replaced = take(&Step::Activate(r2.clone()), &successor, &Seen::nobody(), START, "r2");
    for (name, authorities, expected) in [
        ("first", first(), &r1),
        ("prepared", prepared(Activation::WhenCovered), &r1),
        ("draining", draining(), &r1),
        ("leaving", leaving.clone(), &r2),
        ("retired", step(&leaving, &Step::Retire(r1.clone())), &r2),
        ("a second rotation before the first has drained", third.clone(), &r1),
        ("of those, the first is over", step(&step(&third, &Step::Leave(r1.clone())), &Step::Retire(r1.clone())), &r2),
        ("rolled back", back.clone(), &r1),
        ("rolled back while leaving", step(&leaving, &Step::Reinstate(r1.clone())), &r1),
        ("what was taken back leaves", step(&back, &Step::Leave(r2.clone())), &r1),
        ("the old one is compromised", step(&draining(), &Step::Taint(r1.clone())), &r2),
        ("compromised while leaving", step(&leaving, &Step::Taint(r1.clone())), &r2),
        ("compromised, and nothing else signs", tainted, &r1),
        ("compromised, and its successor is on its way", successor, &r1),
        ("compromised and replaced", replaced, &r2),
        ("the new one is compromised", step(&draining(), &Step::Taint(r2.clone())), &r1),
    ] {
        assert_eq!(serves(&authorities, START), *expected, "{name}");
    }
}

/// Each change of the journal beside the one before it: a replica that has not looked since serves as before, a client
/// that has not heard since knows what was before, and they must find each other. Also with the roots of the start alone,
/// as a static file has them, until their root is left.
#[test]
fn between_any_two_steps_servers_and_clients_of_before_and_after_understand_each_other() {
    let (r1, r2) = (id("r1"), id("r2"));
    let planned = [
        Step::PrepareRoot(Activation::WhenCovered),
        Step::Activate(r2.clone()),
        Step::Leave(r1.clone()),
        Step::Retire(r1.clone()),
    ];
    let compromised = [
        Step::Taint(r1.clone()),
        Step::PrepareRoot(Activation::WhenCovered),
        Step::Activate(r2),
        Step::Revoke(r1.clone()),
    ];
    for (name, steps, moves) in [("planned", planned, 2), ("compromised", compromised, 2)] {
        let file = first();
        let mut before = file.clone();
        for (index, next) in steps.iter().enumerate() {
            let after = take(next, &before, &Seen::nobody(), START, "r2");
            for server in [&before, &after] {
                let root = serves(server, START);
                // Dropped, it is served by no replica any more: time has passed since it was left.
                let clients = if server.root(&r1) == after.root(&r1) { vec![&before, &after] } else { vec![&before] };
                assert!(clients.iter().all(|client| knows(client, &root)), "{name}: {next:?}");
            }
            assert_eq!(knows(&file, &serves(&after, START)), index < moves, "{name}: {next:?}");
            before = after;
        }
    }
}

#[test]
fn only_an_issuing_ca_that_can_still_be_had_serves_and_another_root_takes_over_in_time() {
    let end = START + 30 * DAY;
    let ends = |at: OffsetDateTime| {
        let mut authorities = draining();
        authorities.roots[0].issuing[0].ca.not_after = at;
        authorities
    };
    let mut revoked = draining();
    revoked.roots[0].issuing[0].after_sequence = 3;
    let left = step(&draining(), &Step::TaintIssuing(id("r1-issuing")));
    let mut without = draining();
    without.roots[0].issuing.clear();
    let mut future = draining();
    future.roots[0].issuing[0].ca.not_before = START + DAY;
    for (name, authorities, now, expected) in [
        ("good", ends(end), end - MARGIN - Duration::from_secs(1), "r1"),
        ("about to end", ends(end), end - MARGIN, "r2"),
        ("short, and good", ends(START + Duration::from_secs(80)), START + Duration::from_secs(69), "r1"),
        ("short, and about to end", ends(START + Duration::from_secs(80)), START + Duration::from_secs(70), "r2"),
        ("its list is on its way", revoked, START, "r2"),
        ("compromised itself", left, START, "r2"),
        ("never had one", without, START, "r2"),
        ("from the future", future, START, "r2"),
    ] {
        assert_eq!(serves(&authorities, now), id(expected), "{name}");
    }
}

fn due(now: OffsetDateTime, authorities: &Authorities, seen: &Seen, retirement: Retirement) -> Step {
    next_step(now, authorities, &seen.view(), &Rules { retirement, ..rules() })
}

#[test]
fn under_a_former_root_of_ours_that_stays_the_issuing_ca_is_renewed_in_the_last_quarter_of_its_life() {
    let authorities = {
        let mut authorities = draining();
        // The one of the root that signs is not due.
        authorities.roots[1].issuing[0].ca.not_after = START + 99 * DAY;
        authorities
    };
    let mut seen = Seen::nobody();
    seen.ends.insert(id("r1-issuing"), START + DAY);
    let quarter = START + DAY * 45 / 2;
    let certify = Step::CertifyIssuing(id("r1"));
    let (manual, automatic) = (Retirement::Manual, Retirement::Automatic);
    assert!(matches!(due(quarter - DAY, &authorities, &seen, manual), Step::WaitUntil(_)));
    assert_eq!(due(quarter, &authorities, &seen, manual), certify);
    // A root that goes before needs none.
    seen.ends.insert(id("r1-issuing"), START + 30 * DAY - MARGIN);
    assert!(matches!(due(quarter, &authorities, &seen, automatic), Step::WaitUntil(_)));
    seen.ends.insert(id("r1-issuing"), START + 30 * DAY);
    assert_eq!(due(quarter, &authorities, &seen, automatic), certify);
    let renewed = take(&certify, &authorities, &seen, quarter, "more");
    assert_eq!(renewed.serving_issuers(quarter)[0].1.id, id("more-issuing"));
    assert_eq!(renewed.active_issuer(quarter).unwrap().id, id("r2-issuing"), "workloads are not concerned");
    assert!(matches!(due(quarter, &renewed, &seen, manual), Step::WaitUntil(_)), "once");
    // And one that was left behind on purpose, or has ended unnoticed, gets one at once.
    let left = step(&authorities, &Step::TaintIssuing(id("r1-issuing")));
    assert_eq!(due(START, &left, &seen, manual), certify);
    assert_eq!(due(START + 40 * DAY, &authorities, &seen, manual), certify);
}

#[test]
fn no_issuing_ca_is_made_for_serving_where_none_is_wanted_or_possible() {
    let now = START + 25 * DAY;
    let manual = |authorities: &Authorities, seen: &Seen| {
        let step = due(now, authorities, seen, Retirement::Manual);
        assert!(!matches!(&step, Step::CertifyIssuing(root) if *root == id("r1")), "{step:?}");
    };
    let seen = Seen::nobody();
    manual(&step(&draining(), &Step::Leave(id("r1"))), &seen);
    manual(&step(&draining(), &Step::Taint(id("r1"))), &seen);
    manual(&draining(), &Seen { steady: false, ..Seen::nobody() });
    manual(&draining(), &Seen::nobody().offered(offer("o", "s")));
    let changed = |change: &dyn Fn(&mut RootAuthority)| {
        let mut authorities = draining();
        change(&mut authorities.roots[0]);
        authorities
    };
    let one = |root: &mut RootAuthority, new: IssuingAuthority| root.issuing.push(new);
    manual(&changed(&|root| root.ca.key = None), &seen);
    manual(&changed(&|root| root.ca.not_after = now), &seen);
    manual(&changed(&|root| root.issuing[0].ca.not_after = root.not_after), &seen);
    manual(&changed(&|root| root.issuing.clear()), &seen);
    let travelling = |root: &mut RootAuthority| {
        one(root, IssuingAuthority { after_sequence: 9, ..issuing("next", START, 60 * DAY) });
    };
    manual(&changed(&travelling), &Seen::holders(&[(1, 1)]));
    // An older root that serves is enough.
    let mut third = take(&Step::PrepareRoot(Activation::OnCommand), &draining(), &seen, START, "r3");
    third = take(&Step::Activate(id("r3")), &third, &seen, START, "r3");
    third.roots[0].issuing = vec![issuing("long", START, 90 * DAY)];
    manual(&third, &seen);
    let step = due(now, &third, &seen, Retirement::Manual);
    assert!(!matches!(&step, Step::CertifyIssuing(root) if *root == id("r2")), "{step:?}");
}
