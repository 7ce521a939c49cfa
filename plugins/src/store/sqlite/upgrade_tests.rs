//! Databases of programs before this one: brought up to date with everything that is in them.
//!
//! `testdata/migration_7.sql` is one that a CA made whose newest migration was 7, with agents, a rotation and refusals;
//! `migration_7_events.json` and `migration_7_holders.json` are what that program said of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use signet_core::audit::{AuditEvent, AuditQuery, EventKind, MAX_PAGE, Outcome, Unreadable, leaf_hash};
use signet_core::certificate::Serial;
use signet_core::clock::rfc3339;
use signet_core::holder::{Acknowledgement, Acknowledger, Holder};
use signet_core::seams::store::{AppendError, AuditStore, AuthorityJournal, HolderStore, JournalVersion};
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};
use time::OffsetDateTime;

use super::open;
use super::schema_tests::made_by;
use super::tests::store;
use crate::store::rows::{Head, NewRow};
use crate::store::suite::{START, assert_gapless, everything, held, issued, listed, refused};

const MIGRATION_7: &str = include_str!("testdata/migration_7.sql");
const EVENTS: &str = include_str!("testdata/migration_7_events.json");
const HOLDERS: &str = include_str!("testdata/migration_7_holders.json");

async fn connected(path: &Path) -> SqliteConnection {
    open::writer_options(path, Duration::from_secs(5)).create_if_missing(true).connect().await.unwrap()
}

/// Makes a database as a program did whose newest migration was `last`, before 15, with a log of these events.
pub(super) async fn log_of_before(path: &Path, last: i64, events: &[AuditEvent]) {
    made_by(path, last).await;
    let mut connection = connected(path).await;
    let mut transaction = connection.begin().await.unwrap();
    let mut head = Head { next: 0, high_micros: i64::MIN };
    for event in events {
        let (sequence, body) = (head.next, serde_json::to_string(event).unwrap());
        head = head.after(event.at_micros);
        let (row, what) = (NewRow::new(event.clone()), event.what.as_ref());
        let insert = sqlx::query("INSERT INTO audit_event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(i64::try_from(sequence).unwrap())
            .bind(event.at_micros)
            .bind(head.high_micros)
            .bind(event.kind.as_str())
            .bind(event.outcome.as_str())
            .bind(event.reason.as_deref())
            .bind(event.who.spiffe_id.as_deref())
            .bind(row.identity_key(sequence))
            .bind(event.who.namespace.as_deref())
            .bind(event.who.cluster.as_deref())
            .bind(what.map(|what| what.authority.as_str()))
            .bind(row.serial.map(|serial| serial.as_bytes().to_vec()))
            .bind(what.map(|what| what.key_hash.as_str()))
            .bind(what.map(|what| what.not_after))
            .bind(event.request_id.as_str())
            .bind(leaf_hash(body.as_bytes()).to_vec())
            .bind(body);
        insert.execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    connection.close().await.unwrap();
}

/// Sequence number, leaf hash and bytes of every event.
async fn leaves(path: &Path) -> Vec<(i64, Vec<u8>, Vec<u8>)> {
    let mut connection = connected(path).await;
    let read = sqlx::query_as("SELECT seq, leaf_hash, CAST(body AS BLOB) FROM audit_event ORDER BY seq");
    let read = read.fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    read
}

fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
}

/// A holder as that program listed it.
fn as_listed(holder: &Holder) -> Value {
    json!({
        "authority": holder.authority,
        "bundle_sequence": holder.sequence,
        "cluster": holder.cluster,
        "instance": holder.key.instance,
        "learns_by": if holder.acknowledges { "acknowledged" } else { "reply" },
        "node": holder.node,
        "not_after": rfc3339(holder.not_after),
        "pod": holder.pod,
        "refused": holder.refused,
        "seen_at": rfc3339(holder.seen_at.replace_nanosecond(0).unwrap()),
        "serial": holder.serial,
        "spiffe_id": holder.key.spiffe_id,
    })
}

#[tokio::test]
async fn a_database_that_an_old_program_has_made_says_what_it_said_there_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let mut connection = connected(&path).await;
    sqlx::raw_sql(MIGRATION_7).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = leaves(&path).await;

    let store = store(&path).await;
    // Every event as before, and its bytes untouched.
    let events: Value = serde_json::from_str(EVENTS).unwrap();
    let page = store.query(&AuditQuery::newest(MAX_PAGE).unwrap()).await.unwrap();
    assert_eq!((page.items.len(), page.unread.len(), page.next), (25, 0, None));
    assert_eq!(serde_json::to_value(&page.items).unwrap(), events["events"]);
    assert_eq!(leaves(&path).await, before);
    assert!(before.iter().all(|(_, leaf, body)| leaf_hash(body).as_slice() == leaf));
    // Found by every filter.
    let client = Some("spiffe://cluster.local/ns/default/sa/client".to_owned());
    let serial = Serial::parse("46b0bce9ef1ad6ffdf6c088bbb020718");
    let all = AuditQuery::newest(MAX_PAGE).unwrap();
    for (query, found) in [
        (AuditQuery { spiffe_id: client.clone(), ..all.clone() }, vec![24, 23, 21, 20, 16, 14, 12, 4]),
        (AuditQuery { spiffe_id: client, outcome: Some(Outcome::Refused), ..all.clone() }, vec![24, 23, 21, 20]),
        (AuditQuery { outcome: Some(Outcome::Intended), ..all.clone() }, vec![9, 6, 0]),
        (AuditQuery { serial, ..all.clone() }, vec![16]),
        (AuditQuery { since: Some(at("2026-11-29T07:05:38Z")), before: Some(24), ..all.clone() }, vec![23, 22]),
    ] {
        let page = store.query(&query).await.unwrap();
        assert_eq!(page.items.iter().map(|one| one.sequence).collect::<Vec<u64>>(), found, "{query:?}");
    }
    // Holders, coverage and the use of issuing CAs.
    let holders: Value = serde_json::from_str(HOLDERS).unwrap();
    assert_eq!(Value::from_iter(listed(&store).await.iter().map(as_listed)), holders["holders"]);
    let coverage = store.coverage(at("2026-11-29T07:06:00Z")).await.unwrap();
    assert_eq!((coverage.live(), coverage.by_sequence[&3].holders, coverage.by_sequence[&3].acknowledging), (2, 2, 2));
    assert_eq!(store.coverage(at("2026-11-29T07:06:30Z")).await.unwrap().live(), 1);
    let ends: Vec<i64> = store.last_ends().await.unwrap().values().map(|end| end.unix_timestamp()).collect();
    assert_eq!(ends, [1_795_935_998, 1_795_935_888]);
    let (version, journal) = store.load().await.unwrap().unwrap();
    assert_eq!((version, journal.bundle_sequence, journal.roots.len()), (JournalVersion(4), 3, 1));

    // It goes on: a certificate of before is acknowledged, a new one is recorded, and no serial twice.
    let newest = &page.items.iter().find(|one| one.sequence == 22).unwrap().event;
    let what = newest.what.clone().unwrap();
    let spiffe_id = newest.who.spiffe_id.clone().unwrap();
    let from = Acknowledger::Certificate { spiffe_id: spiffe_id.clone(), serial: what.serial.clone() };
    let acknowledgement = Acknowledgement { from, sequence: 4, refused: None, at: at("2026-11-29T07:06:00Z") };
    store.acknowledge(&[acknowledgement]).await.unwrap();
    let mut next = newest.clone();
    next.what.as_mut().unwrap().serial = "46b0bcf0".repeat(4);
    let results = store.append(vec![newest.clone(), next.clone()]).await.unwrap();
    assert_eq!(results[0], Err(AppendError::SerialTaken));
    assert_eq!(results[1].as_ref().unwrap().sequence(), 25);
    let server = listed(&store).await.into_iter().find(|one| one.key.spiffe_id == spiffe_id).unwrap();
    assert_eq!((server.sequence, server.serial), (4, "46b0bcf0".repeat(4)));
    store.close().await;
    let again = self::store(&path).await;
    let log = everything(&again).await;
    assert_gapless(&log);
    assert_eq!((log.len(), &log[0].event), (26, &next));
    assert_eq!(serde_json::to_value(&log[1..]).unwrap(), events["events"]);
}

#[tokio::test]
async fn a_log_of_json_is_brought_along_row_by_row_whatever_is_wrong_with_some() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signet.db");
    let mut events: Vec<AuditEvent> = (0..9000).map(|n| held(["a", "b"][n as usize % 2], "p", n, 1, 10)).collect();
    // Those that there were then.
    for (event, kind) in events.iter_mut().skip(8990).zip(EventKind::ALL.into_iter().take(6)) {
        event.kind = kind;
    }
    events.extend(Outcome::ALL.map(|outcome| AuditEvent { outcome, ..refused("c", START) }));
    log_of_before(&path, 13, &events).await;
    let mut connection = connected(&path).await;
    // Removed by retention, changed by somebody, and with words that were never written.
    let meddle = "UPDATE audit_event SET body = NULL WHERE seq = 1; \
        UPDATE audit_event SET body = replace(body, 'issued', 'refused') WHERE seq = 2; \
        UPDATE audit_event SET kind = 'strange', outcome = 'odd', body = '{}' WHERE seq = 4";
    sqlx::raw_sql(meddle).execute(&mut connection).await.unwrap();
    let hash = sqlx::query("UPDATE audit_event SET leaf_hash = ? WHERE seq = 4").bind(leaf_hash(b"{}").to_vec());
    hash.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let store = store(&path).await;
    let found = everything(&store).await;
    let expected: Vec<u64> = (0..9005).rev().filter(|sequence| ![1, 2, 4].contains(sequence)).collect();
    assert_eq!(found.iter().map(|one| one.sequence).collect::<Vec<u64>>(), expected);
    assert!(found.iter().all(|one| events[one.sequence as usize] == one.event && one.unknown_fields.is_empty()));
    let page = store.query(&AuditQuery { before: Some(6), ..AuditQuery::newest(9).unwrap() }).await.unwrap();
    let unread: Vec<_> = page.unread.iter().map(|one| (one.sequence, one.kind, one.outcome, one.problem)).collect();
    let newer = (4, EventKind::Unknown(255), Outcome::Unknown(255), Unreadable::Newer);
    assert_eq!(unread, [newer, (2, EventKind::Certificate, Outcome::Issued, Unreadable::Damaged)]);
    // New ones are found beside old ones, across the end of a segment.
    store.append(vec![issued("a", 10_000, START)]).await.unwrap();
    let spiffe_id = events[0].who.spiffe_id.clone();
    let query = AuditQuery { spiffe_id, outcome: Some(Outcome::Issued), ..AuditQuery::newest(MAX_PAGE).unwrap() };
    let page = store.query(&query).await.unwrap();
    assert_eq!((page.items[0].sequence, page.items.len()), (9005, 1000));
    assert!(page.items.iter().all(|one| one.event.who.spiffe_id == query.spiffe_id));
}

/// A certificate as workloads of a mesh get them: 1,000 pods of 100 identities.
pub(super) fn typical(n: u64) -> AuditEvent {
    let digits = |name: &str| {
        let hash = signet_core::digest::sha256(format!("{name} {n}").as_bytes());
        signet_core::digest::hex(&hash)
    };
    let uid = |name: &str, n: u64| {
        let hash = signet_core::digest::sha256(format!("{name} {n}").as_bytes());
        let text = signet_core::digest::hex(&hash);
        [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..32]].join("-")
    };
    let (pod, account) = (n % 1000, n % 100);
    let (namespace, name) = (format!("namespace-{}", account % 10), format!("account-{account}"));
    let seconds = START / 1_000_000 + n as i64 / 50;
    let random = signet_core::digest::sha256(format!("serial {n}").as_bytes());
    let serial = Serial::new(OffsetDateTime::from_unix_timestamp(seconds).unwrap(), random[..16].try_into().unwrap());
    let mut event = issued("a", 0, seconds * 1_000_000 + (n % 50) as i64 * 20_000);
    event.request_id = digits("request")[..32].to_owned();
    let who = &mut event.who;
    who.spiffe_id = Some(format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"));
    who.service_account_uid = Some(uid("account", account));
    who.pod = Some(format!("{name}-5d9c6b7f8d-{:05}", pod));
    who.pod_uid = Some(uid("pod", pod));
    who.node = Some(format!("ip-10-0-{}-17.eu-central-1.compute.internal", pod % 40));
    who.cluster = Some("Kubernetes".into());
    who.auth_method = Some("jwks".into());
    who.peer = Some(format!("10.0.{}.17:{}", pod % 40, 30_000 + n % 20_000));
    (who.namespace, who.service_account) = (Some(namespace), Some(name));
    let what = event.what.as_mut().unwrap();
    (what.serial, what.key_hash, what.acknowledges) = (serial.to_string(), digits("key"), true);
    (what.not_before, what.not_after) = (seconds - 120, seconds + 86_400);
    event
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a measure")]
async fn a_certificate_takes_half_the_bytes_in_a_file_that_it_took_as_json() {
    const CERTIFICATES: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (directory.path().join("before.db"), directory.path().join("after.db"));
    let events: Vec<AuditEvent> = (0..CERTIFICATES).map(typical).collect();
    log_of_before(&before, 13, &events).await;
    let store = store(&after).await;
    for batch in events.chunks(64) {
        assert!(store.append(batch.to_vec()).await.unwrap().iter().all(Result::is_ok));
    }
    store.close().await;
    // The whole file, with its indexes, and after it with the holders, too.
    let bytes = |path: &Path| std::fs::metadata(path).unwrap().len() / CERTIFICATES;
    let (before, after) = (bytes(&before), bytes(&after));
    eprintln!("bytes per certificate: {before} as JSON, {after} now");
    assert!(after <= 640 && after * 2 <= before, "{after} bytes per certificate, {before} as JSON");
}
