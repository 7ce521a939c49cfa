//! What people read about what the API has numbers and times for.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_proto::admin::v1alpha1 as wire;
use wire::{done, next};

use super::*;

const ID: &str = "5a1b2c3d5a1b2c3d5a1b2c3d5a1b2c3d5a1b2c3d";

#[test]
fn names_are_those_that_programs_know_and_what_is_newer_is_a_number() {
    let described = [
        phase(Phase::None.into()),
        phase(Phase::Emergency.into()),
        kind(AuthorityKind::Issuing.into()),
        state(AuthorityState::Revoked.into()),
        check_state(CheckState::Degraded.into()),
        learns_by(LearnsBy::Acknowledged.into()),
        limit(wire::Limit::ConcurrentRequests.into()),
        phase(99),
        state(0),
        limit(99),
    ];
    let expected = [
        "none",
        "emergency",
        "issuing",
        "revoked",
        "degraded",
        "acknowledged",
        "limit_concurrency",
        "unknown (99)",
        "unknown",
        "unknown (99)",
    ];
    assert_eq!(described, expected);
    assert_eq!(phase_with_meaning(99), "unknown (99): the CA is newer than this command");
    for known in Limit::ALL {
        assert_eq!(limit(values::limit(known).into()), known.label());
    }
}

#[test]
fn what_comes_next_says_who_has_to_act_and_on_what() {
    let at = Some(Timestamp { seconds: 1_772_366_400, nanos: 5 });
    let step = |step: next::Step, holders, at| Next {
        step: step.into(),
        authorities: vec![ID.to_owned()],
        holders,
        at,
        static_files: false,
        refusing: 0,
        publishers: Vec::new(),
    };
    for (what, expected) in [
        (step(next::Step::Activate, 0, None), "root 5a1b2c3d is activated when its propagation time is over"),
        (
            step(next::Step::Activate, 0, at),
            "root 5a1b2c3d is activated when its propagation time is over, at 2026-03-01T12:00:00Z",
        ),
        (step(next::Step::Activate, 1, None), "root 5a1b2c3d is activated when 1 more holder has received it"),
        (
            step(next::Step::Activate, 1, at),
            "root 5a1b2c3d is activated when 1 more holder has received it, or its certificate has ended (at \
             2026-03-01T12:00:00Z)",
        ),
        (
            Next { refusing: 1, ..step(next::Step::Activate, 2, None) },
            "root 5a1b2c3d is activated when 2 more holders have received it; 1 holder has refused a bundle, which takes \
             somebody to look",
        ),
        (
            Next { publishers: vec!["config-map/a".into(), "file/b".into()], ..step(next::Step::Activate, 0, None) },
            "root 5a1b2c3d is activated when it is published by config-map/a, file/b (`status` says what is missing)",
        ),
        (
            Next { publishers: vec!["config-map/a".into()], ..step(next::Step::Publish, 0, None) },
            "the trust bundle is published by config-map/a where it is missing (`status` says why it is)",
        ),
        (
            step(next::Step::RenewCutOff, 2, None),
            "each of 2 certificates is renewed by its agent, or ends: nobody accepts it until then; `holders list \
             --cut-off` names whose it is",
        ),
        (
            step(next::Step::Accept, 1, None),
            "1 holder has refused a bundle; `holders list` says which and why, and it is sent again when that is mended",
        ),
        (
            step(next::Step::RevokeElsewhere, 0, None),
            "the backend revokes the leaves that are revoked here; `status` says why it has not yet",
        ),
        (step(next::Step::Follow, 0, None), "this replica gets the CA files, or the backend, that others have adopted"),
        (
            step(next::Step::ActivateByCommand, 2, None),
            "`authority activate 5a1b2c3d`, or `authority rotate`, lets the prepared root sign when 2 more holders have \
             received it",
        ),
        (
            step(next::Step::ActivateNotBefore, 0, at),
            "root 5a1b2c3d is activated from 2026-03-01T12:00:00Z on, once every holder has received it",
        ),
        (
            step(next::Step::Renew, 1, None),
            "1 holder still uses a certificate of the compromised authority; agents renew now, and a pod whose kubelet keeps it has to be replaced",
        ),
        (
            step(next::Step::RetireByCommand, 0, None),
            "no certificate chains to root 5a1b2c3d any more: `authority retire 5a1b2c3d` lets it go",
        ),
        (
            step(next::Step::RetireByCommand, 0, at),
            "the last certificate under root 5a1b2c3d ends at 2026-03-01T12:00:00Z; then `authority retire 5a1b2c3d` lets \
             it go",
        ),
        (step(next::Step::Prepare, 0, at), "the next root is prepared at 2026-03-01T12:00:00Z"),
        (Next { step: 99, ..Next::default() }, "unknown (99): the CA is newer than this command"),
    ] {
        assert_eq!(next(&what, short), expected);
    }
    let drains = Next { static_files: true, ..step(next::Step::Retire, 0, None) };
    assert!(next(&drains, short).contains("has ended; by the time the old root is retired, static files"));
    assert!(next(&step(next::Step::Activate, 1, None), whole).contains(ID), "programs get whole ids");
}

#[test]
fn every_step_of_the_api_has_words_of_its_own() {
    let known = |name: fn(i32) -> Option<&'static str>| (1..).map_while(move |number| Some((number, name(number)?)));
    let steps = known(|number| next::Step::try_from(number).ok().map(|step| step.as_str_name()));
    let words: Vec<String> = steps.map(|(step, _)| next(&Next { step, ..Next::default() }, short)).collect();
    let different: std::collections::BTreeSet<&String> = words.iter().collect();
    assert!(words.len() >= 17 && different.len() == words.len(), "{words:#?}");
    let steps = known(|number| done::Step::try_from(number).ok().map(|step| step.as_str_name()));
    let words: Vec<String> = steps.map(|(step, _)| done(&WireDone { step, ..WireDone::default() }, short)).collect();
    let different: std::collections::BTreeSet<&String> = words.iter().collect();
    assert!(words.len() >= 17 && different.len() == words.len(), "{words:#?}");
}

#[test]
fn what_was_done_names_its_authority_and_who_is_cut_off() {
    let revoked = |step: done::Step, holders| WireDone {
        step: step.into(),
        authority: ID.to_owned(),
        holders,
        ..WireDone::default()
    };
    for (what, expected) in [
        (revoked(done::Step::Revoked, 0), "root 5a1b2c3d is in no bundle any more"),
        (
            revoked(done::Step::IssuingRevoked, 2),
            "issuing CA 5a1b2c3d is on the revocation list of its root; 2 holders are refused until they have renewed, see \
             `holders list --cut-off`",
        ),
        (revoked(done::Step::Unspecified, 0), "done"),
        (WireDone { step: 99, ..WireDone::default() }, "unknown (99): the CA is newer than this command"),
    ] {
        assert_eq!(done(&what, short), expected);
    }
}
