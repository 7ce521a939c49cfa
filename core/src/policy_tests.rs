//! Tests of the decision: who gets which names for how long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const DAY: Duration = Duration::from_secs(86_400);

fn policy() -> LeafPolicy {
    LeafPolicy {
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        default_ttl: DAY,
        max_ttl: 90 * DAY,
        csr_names: CsrNames::Strict,
    }
}

fn issuer() -> IssuerLimits {
    let (authority, takes) = (AuthorityId::new(b"", b"issuer"), CsrUse::Key);
    IssuerLimits { authority, not_before: NOW - DAY, not_after: NOW + 30 * DAY, takes }
}

fn workload() -> WorkloadId {
    WorkloadId::parse("spiffe://cluster.local/ns/default/sa/web").unwrap()
}

fn csr(uris: &[&str]) -> CertificateRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    CertificateRequest::parse(&pem).unwrap()
}

fn decided(asked_ttl: Option<i64>) -> Result<SigningRequest, Refusal> {
    decide(&policy(), workload(), csr(&[]), asked_ttl, &issuer(), Serial::new(NOW, [1; 16]), NOW)
}

#[test]
fn lifetimes_are_default_asked_for_or_refused_but_never_silently_wrong() {
    let life = |asked| decided(asked).map(|request| (request.not_after() - NOW).whole_seconds());
    assert_eq!(life(None), Ok(86_400));
    assert_eq!(life(Some(60)), Ok(60));
    assert_eq!(life(Some(0)), Err(Refusal::TtlZero));
    assert_eq!(life(Some(-1)), Err(Refusal::TtlNegative(-1)));
    assert_eq!(life(Some(i64::MIN)), Err(Refusal::TtlNegative(i64::MIN)));
    let maximum = 90 * 86_400;
    assert_eq!(life(Some(maximum)), Ok(30 * 86_400), "the longest that may be asked for; its issuer ends before");
    for absurd in [i64::MAX, i64::MAX / 1_000_000_000 + 1, maximum + 1] {
        assert_eq!(life(Some(absurd)), Err(Refusal::TtlTooLong { asked: absurd, maximum: 7_776_000 }));
    }
}

#[test]
fn each_refusal_has_its_own_constant_name() {
    let refusals = [
        (Refusal::NamesNotAllowed { asked: "a".into(), identity: "b".into() }, "csr_names_not_allowed"),
        (Refusal::TtlZero, "ttl_zero"),
        (Refusal::TtlNegative(-1), "ttl_negative"),
        (Refusal::TtlTooLong { asked: 2, maximum: 1 }, "ttl_too_long"),
        (Refusal::ForeignTrustDomain("td".into()), "foreign_trust_domain"),
        (Refusal::IssuerExpired(NOW), "issuer_expired"),
        (Refusal::ClockBeforeIssuer(NOW), "clock_before_issuer"),
    ];
    for (refusal, label) in refusals {
        assert_eq!(refusal.label(), label);
    }
}

#[test]
fn a_leaf_never_outlives_its_issuer_and_says_that_it_was_cut() {
    let request = decided(Some(60 * 86_400)).unwrap();
    assert_eq!(request.not_after(), NOW + 30 * DAY);
    assert!(request.clamped());
    assert!(!decided(None).unwrap().clamped());
}

#[test]
fn a_leaf_is_backdated_by_a_tenth_of_what_is_left_two_minutes_at_most_and_never_to_before_its_issuer() {
    let seconds = time::Duration::seconds;
    for (issuer_started, issuer_left, asked, backdate) in [
        (86_400, 86_400, 86_400, 120),
        (86_400, 86_400, 1_200, 120),
        (86_400, 86_400, 1_190, 119),
        (86_400, 86_400, 60, 6),
        // Cut at the issuer's end: a tenth of what that leaves, not of what was asked for.
        (86_400, 100, 86_400, 10),
        (86_400, 9, 86_400, 0),
        // The issuer has just started.
        (30, 86_400, 86_400, 30),
        (0, 86_400, 86_400, 0),
    ] {
        let limits = IssuerLimits {
            not_before: NOW - seconds(issuer_started),
            not_after: NOW + seconds(issuer_left),
            ..issuer()
        };
        let serial = Serial::new(NOW, [1; 16]);
        let request = decide(&policy(), workload(), csr(&[]), Some(asked), &limits, serial, NOW).unwrap();
        assert_eq!(NOW - request.not_before(), seconds(backdate), "{issuer_started} {issuer_left} {asked}");
    }
}

#[test]
fn an_ended_issuer_or_a_clock_set_back_refuses() {
    let at = |now| decide(&policy(), workload(), csr(&[]), None, &issuer(), Serial::new(NOW, [1; 16]), now).map(drop);
    assert_eq!(at(NOW + 30 * DAY), Err(Refusal::IssuerExpired(NOW + 30 * DAY)));
    assert_eq!(at(NOW - 2 * DAY), Err(Refusal::ClockBeforeIssuer(NOW - DAY)));
}

#[test]
fn a_csr_may_ask_for_the_decided_identity_or_nothing() {
    let ask = |uris: &[&str]| {
        decide(&policy(), workload(), csr(uris), None, &issuer(), Serial::new(NOW, [1; 16]), NOW).map(drop)
    };
    let own = "spiffe://cluster.local/ns/default/sa/web";
    assert_eq!(ask(&[]), Ok(()));
    assert_eq!(ask(&[own]), Ok(()));
    for uris in
        [&["spiffe://cluster.local/ns/default/sa/admin"][..], &[own, "spiffe://cluster.local/ns/x/sa/y"], &[own, own]]
    {
        assert!(matches!(ask(uris), Err(Refusal::NamesNotAllowed { .. })), "{uris:?}");
    }
    let lax = LeafPolicy { csr_names: CsrNames::Ignore, ..policy() };
    let foreign = csr(&["spiffe://cluster.local/ns/default/sa/admin"]);
    let request = decide(&lax, workload(), foreign, None, &issuer(), Serial::new(NOW, [1; 16]), NOW).unwrap();
    assert_eq!(request.spiffe_id().as_str(), own);
}

#[test]
fn an_identity_of_another_trust_domain_is_never_certified() {
    let foreign = WorkloadId::parse("spiffe://other/ns/default/sa/web").unwrap();
    let refused = decide(&policy(), foreign, csr(&[]), None, &issuer(), Serial::new(NOW, [1; 16]), NOW);
    assert!(matches!(refused, Err(Refusal::ForeignTrustDomain(_))));
    for id in ["spiffe://other/signet/ca", "spiffe://cluster.local"] {
        let id = SpiffeId::parse(id).unwrap();
        let key = csr(&[]).into_key();
        let refused = decide_serving(&policy(), id, vec![], vec![], key, &issuer(), Serial::new(NOW, [1; 16]), NOW);
        assert!(matches!(refused, Err(Refusal::ForeignTrustDomain(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_decision_lies_within_its_issuer_and_renews_in_the_future(asked in 1i64..7_776_000, issuer_left in 1i64..7_776_000) {
        let issuer = IssuerLimits { not_after: NOW + time::Duration::seconds(issuer_left), ..issuer() };
        let request = decide(&policy(), workload(), csr(&[]), Some(asked), &issuer, Serial::new(NOW, [1; 16]), NOW).unwrap();
        prop_assert!(request.not_before() >= issuer.not_before && request.not_after() <= issuer.not_after);
        prop_assert!(request.not_before() <= NOW && request.not_after() > NOW);
        let half = request.not_before() + (request.not_after() - request.not_before()) / 2;
        prop_assert!(half > NOW || request.not_after() - NOW <= time::Duration::seconds(1));
    }
}

#[test]
fn a_whole_lifetime_counts_its_backdate_and_stays_within_its_bounds_the_policys_and_the_issuers() {
    let hour = Duration::from_secs(3600);
    let made_of = |policy: &LeafPolicy, issuer: &IssuerLimits, most| {
        let asked = AskedLife::Whole { least: hour, most };
        decide(policy, workload(), csr(&[]), asked, issuer, Serial::new(NOW, [7; 16]), NOW)
    };
    let backdated = NOW - Duration::from_secs(120);
    for (most, max_ttl, expected) in [(hour, 90 * DAY, hour), (DAY, 90 * DAY, DAY), (60 * DAY, 2 * DAY, 2 * DAY)] {
        let made = made_of(&LeafPolicy { max_ttl, ..policy() }, &issuer(), most).unwrap();
        assert_eq!((made.not_before(), made.not_after()), (backdated, backdated + expected));
        assert!(!made.clamped());
    }
    // The issuer's end cuts it, down to an hour; its start moves it.
    let cut = IssuerLimits { not_after: backdated + hour, ..issuer() };
    let made = made_of(&policy(), &cut, DAY).unwrap();
    assert_eq!((made.not_before(), made.not_after(), made.clamped()), (backdated, backdated + hour, true));
    let young = IssuerLimits { not_before: NOW, ..issuer() };
    let made = made_of(&policy(), &young, hour).unwrap();
    assert_eq!((made.not_before(), made.not_after()), (NOW, NOW + hour));
    let ends = IssuerLimits { not_after: backdated + hour - Duration::from_secs(1), ..issuer() };
    assert_eq!(made_of(&policy(), &ends, DAY).unwrap_err(), Refusal::TooShort { left: 3599, least: 3600 });
    let short = LeafPolicy { max_ttl: hour / 2, ..policy() };
    assert_eq!(made_of(&short, &issuer(), DAY).unwrap_err(), Refusal::TooShort { left: 1800, least: 3600 });
}

#[test]
fn a_backend_that_takes_names_from_the_csr_signs_only_one_that_asks_for_exactly_the_identity() {
    let own = "spiffe://cluster.local/ns/default/sa/web";
    let takes = |uris: &[&str], takes, csr_names| {
        let (limits, policy) = (IssuerLimits { takes, ..issuer() }, LeafPolicy { csr_names, ..policy() });
        decide(&policy, workload(), csr(uris), None, &limits, Serial::new(NOW, [1; 16]), NOW)
            .map(drop)
            .map_err(|refusal| refusal.label())
    };
    for (uris, key, names) in [
        (vec![own], Ok(()), Ok(())),
        (vec![], Ok(()), Err("csr_name_missing")),
        (vec![own, own], Ok(()), Err("csr_names_not_allowed")),
        (vec!["spiffe://cluster.local/ns/default/sa/other"], Ok(()), Err("csr_names_not_allowed")),
    ] {
        // Whatever the policy says of names in general.
        assert_eq!(takes(&uris, CsrUse::Key, CsrNames::Ignore), key, "{uris:?}");
        assert_eq!(takes(&uris, CsrUse::Names, CsrNames::Ignore), names, "{uris:?}");
    }
}
