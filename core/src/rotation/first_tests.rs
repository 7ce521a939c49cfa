//! Tests of how an installation begins.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::Phase;
use super::super::test_authorities::{START, Seen, first, id, offer, rules};
use super::*;

#[test]
fn an_empty_journal_makes_no_root_by_itself_whatever_the_backend_brings() {
    let empty = Authorities::default();
    for seen in [None, Some(offer("o1", "s1"))].map(|offer| Seen::nobody().has(offer, &empty)) {
        assert!(matches!(next_step(START, &empty, &seen.view(), &rules()), Step::WaitUntil(at) if at > START));
    }
}

#[test]
fn the_first_root_signs_at_once() {
    let authorities = first();
    assert_eq!(authorities.active().unwrap().id, id("r1"));
    assert_eq!((authorities.bundle_sequence, authorities.active().unwrap().generation), (1, 1));
    assert_eq!(authorities.active_issuer(START).unwrap().id, id("r1-issuing"));
    assert_eq!(Phase::of(&authorities), Phase::Settled);
}
