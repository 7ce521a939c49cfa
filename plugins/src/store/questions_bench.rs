//! An auditor's questions to a large record: how long a page takes, on both databases. `make bench-questions`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::time::{Duration, Instant};

use signet_core::audit::{Attributed, AuditEvent, AuditQuery, Certified, EventKind, Outcome};
use signet_core::certificate::Serial;
use signet_core::digest::{hex, sha256};
use signet_core::seams::store::{AuditStore, AuthorityJournal, JournalVersion};
use signet_test_servers::Postgres;
use time::OffsetDateTime;

use super::postgres::tests::access;
use super::postgres::{PostgresSettings, PostgresStore};
use super::sqlite::{SqliteSettings, SqliteStore};
use super::suite::admitting;

/// Where time begins, in seconds since 1970, and how many events there are in one.
const START: i64 = 1_700_000_000;
const EACH_SECOND: u64 = 50;
/// How long certificates last, in seconds: an hour, of which renewals take the half.
const LIFE: i64 = 3600;
const PODS: u64 = 5000;
const BATCH: u64 = 512;
const ROUNDS: usize = 100;

fn digits(name: &str, n: u64) -> String {
    hex(&sha256(format!("{name} {n}").as_bytes()))
}

/// What is not issued is rare, and what changes trust is rarer. Ids of issuing CAs change all 100,000 events.
fn event(n: u64) -> AuditEvent {
    let pod = n % PODS;
    let (seconds, account) = (START + (n / EACH_SECOND) as i64, pod % 500);
    let namespace = format!("ns-{}", account % 50);
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let random: [u8; 16] = sha256(format!("serial {n}").as_bytes())[..16].try_into().unwrap();
    let what = Certified {
        serial: Serial::new(moment, random).to_string(),
        key_hash: digits("key", n),
        other_names: Vec::new(),
        not_before: seconds - 120,
        not_after: seconds + LIFE,
        authority: authority(n / 100_000),
        bundle_sequence: 1,
        acknowledges: true,
        fingerprint: Some(digits("certificate", n)),
    };
    let who = Attributed {
        spiffe_id: Some(format!("spiffe://cluster.local/ns/{namespace}/sa/account-{account}")),
        namespace: Some(namespace),
        service_account: Some(format!("account-{account}")),
        pod: Some(format!("account-{account}-5d9c6b7f8d-{pod:05}")),
        node: Some(format!("node-{}", pod % 200)),
        cluster: Some(if pod == 77 { "edge" } else { "Kubernetes" }.into()),
        auth_method: Some("jwks".into()),
        peer: Some(format!("10.0.{}.17:{}", pod % 40, 30_000 + n % 20_000)),
        ..Attributed::default()
    };
    let issued = AuditEvent {
        at_micros: seconds * 1_000_000,
        request_id: digits("request", n)[..32].to_owned(),
        kind: EventKind::Certificate,
        outcome: Outcome::Issued,
        reason: None,
        detail: None,
        who,
        what: Some(what),
        repeated: None,
    };
    match n {
        _ if n % 5000 == 4999 => {
            let who = Attributed { peer: Some("uid 0".into()), ..Attributed::default() };
            AuditEvent { kind: EventKind::Authority, outcome: Outcome::Done, what: None, who, ..issued }
        }
        _ if n % 100 == 99 => {
            AuditEvent { outcome: Outcome::Refused, reason: Some("not_entitled".into()), what: None, ..issued }
        }
        _ => issued,
    }
}

fn authority(number: u64) -> String {
    format!("{:02x}", number % 256).repeat(20)
}

/// The questions of docs/audit.md about a log of so many events, and two that find nothing.
fn questions(events: u64) -> Vec<(&'static str, AuditQuery)> {
    let all = || AuditQuery::newest(100).unwrap();
    let at = |seconds: i64| Some(OffsetDateTime::from_unix_timestamp(seconds).unwrap());
    let now = START + (events / EACH_SECOND) as i64;
    let old = event(events / 3 / 100 * 100);
    let (who, what) = (&old.who, old.what.as_ref().unwrap());
    let live = AuditQuery { outcome: Some(Outcome::Issued), expires_after: at(now), ..all() };
    vec![
        ("who holds a certificate of X now", AuditQuery { spiffe_id: who.spiffe_id.clone(), ..live.clone() }),
        (
            "issued by authority A",
            AuditQuery { authorities: vec![authority(0)], outcome: Some(Outcome::Issued), ..all() },
        ),
        ("obtained by node N", AuditQuery { node: who.node.clone(), ..all() }),
        ("obtained by pod P", AuditQuery { pod: who.pod.clone(), ..all() }),
        ("obtained by cluster C", AuditQuery { cluster: Some("edge".into()), ..all() }),
        ("who was refused and why", AuditQuery { outcome: Some(Outcome::Refused), ..all() }),
        (
            "refused for a reason, of a namespace",
            AuditQuery { reason: Some("not_entitled".into()), namespace: Some("ns-49".into()), ..all() },
        ),
        ("what ends in the next ten minutes", AuditQuery { expires_before: at(now + 600), ..live.clone() }),
        ("what changed in trust", AuditQuery { kind: Some(EventKind::Authority), ..all() }),
        ("signed under a stolen key", AuditQuery { key_hash: Some(what.key_hash.clone()), ..all() }),
        (
            "who still uses a stolen issuing CA",
            AuditQuery { authorities: vec![authority(events.saturating_sub(1) / 100_000)], ..live },
        ),
        ("the certificate with a fingerprint", AuditQuery { fingerprint: what.fingerprint.clone(), ..all() }),
        ("a serial number", AuditQuery { serial: what.serial(), ..all() }),
        ("the first six digits of one", AuditQuery { serial_prefix: Some(what.serial[..6].to_owned()), ..all() }),
        ("the first ten digits of one", AuditQuery { serial_prefix: Some(what.serial[..10].to_owned()), ..all() }),
        (
            "a prefix of identities",
            AuditQuery { spiffe_id_prefix: Some("spiffe://cluster.local/ns/ns-1".into()), ..all() },
        ),
        ("a request", AuditQuery { request_id: Some(old.request_id.clone()), ..all() }),
        ("a pod that never was", AuditQuery { pod: Some("nobody".into()), ..all() }),
        (
            "a node and a namespace that never met",
            AuditQuery { node: Some("node-1".into()), namespace: Some("ns-2".into()), ..all() },
        ),
        ("an hour of long ago", AuditQuery { since: at(START + 60), until: at(START + 90), ..all() }),
    ]
}

async fn ask(name: &str, store: &impl AuditStore, events: u64, from: u64) {
    let filled = Instant::now();
    for batch in (from..events).step_by(BATCH as usize) {
        let all: Vec<AuditEvent> = (batch..events.min(batch + BATCH)).map(event).collect();
        for recorded in store.append(all).await.unwrap() {
            recorded.unwrap();
        }
        while store.settle().await.unwrap() {}
    }
    println!("\n{name}, {events} events ({:.0} s for the last {})", filled.elapsed().as_secs_f64(), events - from);
    println!("| question | found | p50 ms | p99 ms |\n|---|---|---|---|");
    for (question, query) in questions(events) {
        let mut took = Vec::new();
        let mut found = 0;
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let page = store.query(&query).await.unwrap();
            took.push(started.elapsed());
            found = page.items.len();
        }
        took.sort_unstable();
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        println!("| {question} | {found} | {:.1} | {:.1} |", millis(took[ROUNDS / 2]), millis(took[ROUNDS * 99 / 100]));
    }
}

async fn every_question(sizes: &[u64]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let settings = SqliteSettings { deadline: Duration::from_secs(60), ..SqliteSettings::default() };
    let sqlite = SqliteStore::open(&format!("sqlite://{}", path.display()), settings).await.unwrap();
    let server = Postgres::shared().unwrap();
    let name = server.create_database().unwrap();
    let settings = PostgresSettings { deadline: Duration::from_secs(60), ..PostgresSettings::default() };
    let postgres = PostgresStore::open(&access(server, &name), settings).await.unwrap();
    sqlite.replace(JournalVersion(0), &admitting()).await.unwrap();
    postgres.replace(JournalVersion(0), &admitting()).await.unwrap();
    let mut from = 0;
    for events in sizes.iter().copied() {
        ask("SQLite", &sqlite, events, from).await;
        println!("bytes of the file for each event: {}", std::fs::metadata(&path).unwrap().len() / events);
        ask("PostgreSQL", &postgres, events, from).await;
        let bytes = |what: &str| server.sql(&name, &format!("SELECT {what} / {events}")).unwrap();
        let (words, all) = ("pg_total_relation_size('audit_term')", "pg_database_size(current_database())");
        println!("bytes for each event: {}, of which words {}", bytes(all), bytes(words));
        from = events;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measure; run it with: make bench-questions"]
async fn questions_to_a_record_of_ten_and_a_hundred_thousand_events() {
    every_question(&[10_000, 100_000]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measure of some minutes; run it with: make bench-questions LONG=1"]
async fn questions_to_a_record_of_a_million_events() {
    every_question(&[10_000, 100_000, 1_000_000]).await;
}
