//! Every filter of a query finds what a plain scan finds, alone and with others, in pieces of the log that are full and in what
//! comes after them.

use signet_core::audit::{AuditEvent, AuditQuery, EventKind, Outcome};
use signet_core::seams::store::AuditStore;
use time::OffsetDateTime;

use super::{START, issued, refused, serial};

const EVENTS: u64 = 6_000;

/// One of the log: identities, pods and nodes that are frequent, rare, and gone for long.
fn event(n: u64) -> AuditEvent {
    let at = START + n as i64 * 1_000_000;
    let (namespace, account) = match n {
        0..40 => ("early", 0),
        _ if n.is_multiple_of(997) => ("rare", n % 3),
        _ => (["shop", "shop-test", "bank"][(n % 3) as usize], n % 7),
    };
    let mut event = match n % 10 {
        3 => AuditEvent { reason: Some("token_expired".into()), ..refused("x", at) },
        7 if n % 1000 == 7 => AuditEvent { kind: EventKind::Authority, outcome: Outcome::Done, ..refused("", at) },
        _ => issued("x", n, at),
    };
    event.request_id = format!("request-{n}");
    let who = &mut event.who;
    if event.kind == EventKind::Certificate {
        who.spiffe_id = Some(format!("spiffe://cluster.local/ns/{namespace}/sa/account-{account}"));
        who.namespace = Some(namespace.into());
        who.service_account = Some(format!("account-{account}"));
        who.pod = Some(format!("pod-{}", n % 1500));
        who.node = Some(format!("node-{}", n % 40));
        who.cluster = Some(["one", "two"][usize::from(n % 100 == 1)].into());
    }
    if let Some(what) = &mut event.what {
        let time = OffsetDateTime::from_unix_timestamp(at / 1_000_000).unwrap();
        // Ours, which begin with the time, and those of a backend.
        what.serial = match n % 11 {
            5 => format!("{:08x}{}", n.wrapping_mul(2_654_435_761) % (1 << 32), "5a".repeat(16)),
            _ => signet_core::certificate::Serial::new(time, u128::from(n).to_be_bytes()).to_string(),
        };
        what.key_hash = format!("{:064x}", n / 3);
        what.fingerprint = (!n.is_multiple_of(5)).then(|| format!("{:064x}", n + 1_000_000));
        what.authority = ["aa", "bb", "cc"][(n / 2500) as usize].repeat(20);
        what.not_before = at / 1_000_000;
        what.not_after = at / 1_000_000 + if n.is_multiple_of(4) { 600 } else { 3600 };
        if n % 50 == 9 {
            event.who.certificate = Some(serial(n / 500).to_string());
        }
    }
    event
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn after(seconds: i64) -> Option<OffsetDateTime> {
    Some(OffsetDateTime::from_unix_timestamp(START / 1_000_000 + seconds).unwrap())
}

/// One filter each, of something frequent, rare, old, and never there.
fn single() -> Vec<AuditQuery> {
    let all = || AuditQuery::newest(100).unwrap();
    let one = |number: u64| event(number);
    let what = |number: u64| one(number).what.unwrap();
    let prefix = |text: &str| AuditQuery { spiffe_id_prefix: self::text(text), ..all() };
    let digits =
        |number: u64, length: usize| AuditQuery { serial_prefix: text(&what(number).serial[..length]), ..all() };
    vec![
        AuditQuery { spiffe_id: text("spiffe://cluster.local/ns/early/sa/account-0"), ..all() },
        prefix("spiffe://cluster.local/ns/shop"),
        prefix("spiffe://cluster.local/ns/shop/"),
        prefix("spiffe://cluster.local/ns/rare/sa/account-1"),
        prefix("spiffe://cluster.local/ns/early/"),
        prefix("spiffe://other/"),
        AuditQuery { namespace: text("rare"), ..all() },
        AuditQuery { namespace: text("shop"), ..all() },
        AuditQuery { service_account: text("account-3"), ..all() },
        AuditQuery { pod: text("pod-17"), ..all() },
        AuditQuery { pod: text("pod-1"), ..all() },
        AuditQuery { node: text("node-3"), ..all() },
        AuditQuery { node: text("node"), ..all() },
        AuditQuery { cluster: text("two"), ..all() },
        AuditQuery { outcome: Some(Outcome::Refused), ..all() },
        AuditQuery { outcome: Some(Outcome::Failed), ..all() },
        AuditQuery { kind: Some(EventKind::Authority), ..all() },
        AuditQuery { kind: Some(EventKind::Certificate), ..all() },
        AuditQuery { reason: text("token_expired"), ..all() },
        AuditQuery { reason: text("not_entitled"), ..all() },
        AuditQuery { serial: what(4242).serial(), ..all() },
        AuditQuery { serial: Some(serial(1)), ..all() },
        // Most of them begin so.
        digits(1, 6),
        digits(1, 7),
        digits(4242, 8),
        digits(4242, 12),
        digits(5, 6),
        digits(5, 40),
        AuditQuery { serial_prefix: text("ffffff"), ..all() },
        AuditQuery { key_hash: Some(format!("{:064x}", 1500)), ..all() },
        AuditQuery { fingerprint: Some(format!("{:064x}", 1_000_021)), ..all() },
        AuditQuery { fingerprint: Some(format!("{:064x}", 1_000_020)), ..all() },
        AuditQuery { authorities: vec!["aa".repeat(20)], ..all() },
        AuditQuery { authorities: vec!["dd".repeat(20), "cc".repeat(20)], ..all() },
        AuditQuery { expires_after: after(3000), expires_before: after(3700), ..all() },
        AuditQuery { expires_before: after(700), ..all() },
        AuditQuery { expires_after: after(9000), ..all() },
        AuditQuery { shown: Some(serial(3).to_string()), ..all() },
        AuditQuery { request_id: text("request-77"), ..all() },
        AuditQuery { since: after(5_900), ..all() },
        AuditQuery { until: after(50), ..all() },
    ]
}

/// Both filters at once, the first one's where both have one.
fn both(one: &AuditQuery, other: &AuditQuery) -> AuditQuery {
    let (one, other) = (one.clone(), other.clone());
    AuditQuery {
        spiffe_id: one.spiffe_id.or(other.spiffe_id),
        spiffe_id_prefix: one.spiffe_id_prefix.or(other.spiffe_id_prefix),
        namespace: one.namespace.or(other.namespace),
        service_account: one.service_account.or(other.service_account),
        pod: one.pod.or(other.pod),
        node: one.node.or(other.node),
        cluster: one.cluster.or(other.cluster),
        since: one.since.or(other.since),
        until: one.until.or(other.until),
        outcome: one.outcome.or(other.outcome),
        kind: one.kind.or(other.kind),
        reason: one.reason.or(other.reason),
        serial: one.serial.or(other.serial),
        serial_prefix: one.serial_prefix.or(other.serial_prefix),
        key_hash: one.key_hash.or(other.key_hash),
        fingerprint: one.fingerprint.or(other.fingerprint),
        authorities: if one.authorities.is_empty() { other.authorities } else { one.authorities },
        expires_before: one.expires_before.or(other.expires_before),
        expires_after: one.expires_after.or(other.expires_after),
        shown: one.shown.or(other.shown),
        request_id: one.request_id.or(other.request_id),
        before: None,
        limit: one.limit,
    }
}

pub(super) async fn every_filter(store: &impl AuditStore) {
    let log: Vec<AuditEvent> = (0..EVENTS).map(event).collect();
    for (number, batch) in log.chunks(500).enumerate() {
        let appended = store.append(batch.to_vec()).await.unwrap();
        assert!(appended.iter().all(Result::is_ok));
        // What is made behind the log ends in the middle of it.
        while number == 8 && store.settle().await.unwrap() {}
    }
    let single = single();
    let mut queries = single.clone();
    for (number, one) in single.iter().enumerate() {
        // All pairs, once over all filters.
        queries.extend(single.iter().skip(number % 3).step_by(3).map(|other| both(one, other)));
    }
    for query in queries {
        let scanned = log.iter().enumerate().rev().filter(|(_, event)| query.matches(event));
        let expected: Vec<u64> = scanned.map(|(sequence, _)| sequence as u64).collect();
        // Two pages are enough where there are many; where there are few, the last one is the end.
        let expected = &expected[..expected.len().min(300)];
        let mut found = Vec::new();
        let mut cursor = query.clone();
        for limit in [100, 200] {
            let page = store.query(&AuditQuery { limit, ..cursor.clone() }).await.unwrap();
            assert_eq!(page.unread, []);
            found.extend(page.items.iter().map(|stored| stored.sequence));
            let Some(next) = page.next else { break };
            cursor.before = Some(next);
        }
        assert!(found == expected, "{query:?}: {} instead of {}", found.len(), expected.len());
    }
}

/// Pages do not repeat or leave out anything while events arrive and get what they are found by.
pub(super) async fn pages_of_a_filter_stay_stable(store: &impl AuditStore) {
    let query = || AuditQuery { node: text("node-3"), ..AuditQuery::newest(7).unwrap() };
    store.append((0..3000).map(event).collect()).await.unwrap();
    let expected: Vec<u64> = (0..3000).rev().filter(|n| query().matches(&event(*n))).collect();
    let (mut seen, mut cursor) = (Vec::new(), query());
    for round in 0.. {
        let page = store.query(&cursor).await.unwrap();
        seen.extend(page.items.iter().map(|stored| stored.sequence));
        store.append((0..40).map(|n| event(3000 + round * 40 + n)).collect()).await.unwrap();
        store.settle().await.unwrap();
        let Some(next) = page.next else { break };
        cursor.before = Some(next);
    }
    assert_eq!(seen, expected);
    let newest = store.query(&query()).await.unwrap();
    assert!(newest.items[0].sequence >= 3000, "what has come meanwhile is on a page from the beginning");
}
