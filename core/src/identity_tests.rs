//! Tests of identities, from the tables of the SPIFFE standard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use super::*;
use proptest::prelude::*;

#[test]
fn spiffe_ids_of_the_accept_table_parse_unchanged() {
    let table = [
        ("spiffe://trustdomain", "trustdomain", ""),
        ("spiffe://trustdomain/path", "trustdomain", "/path"),
        ("spiffe://example.org/path/element", "example.org", "/path/element"),
        ("spiffe://trustdomain/.path", "trustdomain", "/.path"),
        ("spiffe://trustdomain/..path", "trustdomain", "/..path"),
        ("spiffe://trustdomain/...", "trustdomain", "/..."),
        ("spiffe://1.2.3.4/service", "1.2.3.4", "/service"),
        ("spiffe://a_b.example/foo", "a_b.example", "/foo"),
        ("spiffe://example.org/MyService", "example.org", "/MyService"),
        ("spiffe://td/ns/prod/sa/my.account", "td", "/ns/prod/sa/my.account"),
    ];
    for (id, trust_domain, path) in table {
        let parsed = SpiffeId::parse(id).expect(id);
        assert_eq!((parsed.as_str(), parsed.trust_domain_name(), parsed.path()), (id, trust_domain, path));
    }
}

#[test]
fn spiffe_ids_of_the_refuse_table_are_refused() {
    let mut table: Vec<String> = [
        "",
        "s",
        "spiffe:/",
        "spiffe:path",
        "spiffe:/path/element",
        "://domain.test",
        "192.168.2.2:6688",
        "http://domain.test/path",
        "other://domain.test",
        "spiffe://",
        "spiffe:///",
        "spiffe:///path",
        "Spiffe://trustdomain/path",
        "SPIFFE://trustdomain/path",
        "spiffe://Example.Org/path",
        "spiffe://TRUSTDOMAIN",
        "spiffe://trust$domain/path",
        "spiffe:// domain.test",
        "spiffe://domain.test:8080/path",
        "spiffe://domain.test:80",
        "spiffe://user:password@test.org/path",
        "spiffe://%F0%9F%A4%AF/path",
        "spiffe://%62%61%64/path",
        "spiffe://trustdomain/%F0%9F%A4%AF",
        "spiffe://trustdomain/%62%61%64",
        "spiffe://test.org/path/other/",
        "spiffe://test.org/path//other",
        "spiffe://domain.test/path?query=1",
        "spiffe://domain.test/path#fragment-1",
    ]
    .map(str::to_owned)
    .to_vec();
    for path in [
        "/",
        "/path/",
        "//",
        "//path",
        "/.",
        "/./path",
        "/path/./other",
        "/..",
        "/../path",
        "/path/..",
        "/path/../other",
    ] {
        table.push(format!("spiffe://trustdomain{path}"));
    }
    table.push(format!("spiffe://{}/path", "a".repeat(256)));
    table.push(format!("spiffe://td/{}", "a".repeat(2048 - 11)));
    for id in table {
        assert!(SpiffeId::parse(&id).is_err(), "{id:?} was accepted");
    }
}

#[test]
fn every_byte_is_accepted_exactly_by_the_charsets_of_id_4_and_id_6a() {
    for byte in (0..=255u8).filter(|byte| *byte != b'/') {
        let character = char::from(byte);
        let in_name = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        let in_path = in_name || byte.is_ascii_uppercase();
        assert_eq!(SpiffeId::parse(&format!("spiffe://trustdomain{character}")).is_ok(), in_name, "{byte}");
        assert_eq!(SpiffeId::parse(&format!("spiffe://trustdomain/path{character}")).is_ok(), in_path, "{byte}");
        assert_eq!(TrustDomain::parse(&format!("td{character}")).is_ok(), in_name, "{byte}");
    }
}

#[test]
fn trust_domain_names_need_not_be_dns_names() {
    let long = "a".repeat(255);
    for name in
        ["trustdomain", "1.2.3.4", "a_b.example", "example..org", ".example.org", "example.org.", "-example.org", &long]
    {
        assert_eq!(TrustDomain::parse(name).expect(name).as_str(), name);
    }
    for name in ["", "Example.org", "a b", "spiffe://td", "td/x", "a,b", &"a".repeat(256)] {
        assert!(TrustDomain::parse(name).is_err(), "{name:?} was accepted");
    }
}

#[test]
fn workload_identities_have_exactly_five_segments_of_kubernetes_names() {
    let id = WorkloadId::parse("spiffe://td/ns/prod/sa/my.account").unwrap();
    assert_eq!((id.namespace(), id.service_account(), id.trust_domain().as_str()), ("prod", "my.account", "td"));
    assert_eq!(id.spiffe_id().as_str(), "spiffe://td/ns/prod/sa/my.account");
    for bad in [
        "spiffe://td/ns//sa/",
        "spiffe://td/ns/a/sa/b/c",
        "spiffe://td/ns/a",
        "spiffe://td",
        "spiffe://td/ns/A/sa/b",
        "spiffe://td/ns/a.b/sa/c",
        "spiffe://td/ns/a/sa/-b",
        "spiffe://td/ns/a/sb/c",
        "spiffe://a,b/ns/x/sa/y",
        "spiffe://td/ns/a/sa/b_c",
        "spiffe://td/ns/a/sa/B",
    ] {
        assert!(WorkloadId::parse(bad).is_err(), "{bad:?} was accepted");
    }
}

proptest! {
    #[test]
    fn parsing_is_total_and_round_trips(text in ".{0,200}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.as_str(), text.as_str());
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain_name(), id.path()), text);
        }
    }

    #[test]
    fn workload_identities_round_trip(ns in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", sa in "[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?") {
        if let Ok(id) = WorkloadId::new(TrustDomain::parse("cluster.local").unwrap(), &ns, &sa) {
            prop_assert_eq!(WorkloadId::parse(&id.to_string()).unwrap(), id);
        }
    }
}
