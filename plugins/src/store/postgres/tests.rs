//! What only a server that several processes share can get wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signet_core::audit::{AuditEvent, AuditQuery, Class, EventKind, Outcome};
use signet_core::digest::key_hash;
use signet_core::rotation::Authorities;
use signet_core::seams::retention::{Forgetting, RecordRetention};
use signet_core::seams::store::{AppendError, AuditStore, AuthorityJournal, JournalVersion, StoreError};
use signet_test_servers::{Postgres, Stop};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::OnceCell;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{PostgresAccess, PostgresSettings, PostgresStore, Protection, Server};
use crate::store::suite::{START, admitting, assert_gapless, every_case, everything, issued, refused};
use crate::store::terms::PIECE;

/// The server of this process.
pub(super) fn server() -> &'static Postgres {
    Postgres::shared().unwrap()
}

/// A database of our schema, made by copying.
pub(super) async fn database() -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let template = TEMPLATE.get_or_init(async || {
        let name = server().create_database().unwrap();
        open(server(), &name).await.close().await;
        name
    });
    let template = template.await.clone();
    tokio::task::spawn_blocking(move || server().create_database_like(&template).unwrap()).await.unwrap()
}

/// A database of a server on this machine, over TCP and in clear.
pub(in crate::store) fn local(user: &str, port: u16, database: &str) -> PostgresAccess {
    PostgresAccess {
        server: Server::Host("127.0.0.1".to_owned()),
        port,
        user: user.to_owned(),
        database: database.to_owned(),
        password_file: None,
        ca_file: None,
        client_files: None,
        protection: Protection::Plain,
    }
}

/// The same as the superuser of a test's server.
pub(in crate::store) fn access(server: &Postgres, database: &str) -> PostgresAccess {
    local("signet", server.port(), database)
}

pub(super) async fn open(server: &Postgres, database: &str) -> PostgresStore {
    PostgresStore::open(&access(server, database), PostgresSettings::default()).await.unwrap()
}

/// A store whose journal lets every issuing CA of the tests sign, and its database.
pub(super) async fn store() -> (PostgresStore, String) {
    let name = database().await;
    let store = open(server(), &name).await;
    store.replace(JournalVersion(0), &admitting()).await.unwrap();
    (store, name)
}

/// A connection behind the store's back.
pub(super) async fn other(database: &str) -> PgConnection {
    let options = access(server(), database).options(PostgresSettings::default(), true).await.unwrap();
    options.options([("idle_in_transaction_session_timeout", "0")]).connect().await.unwrap()
}

pub(super) async fn append_one(store: &PostgresStore, event: AuditEvent) -> Result<u64, AppendError> {
    store.append(vec![event]).await.unwrap().remove(0).map(|recorded| recorded.sequence())
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_passes_the_suite() {
    every_case(async || {
        let name = database().await;
        [Arc::new(open(server(), &name).await), Arc::new(open(server(), &name).await)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_append_at_once_leave_one_log_without_gaps_and_never_fail() {
    const BATCHES: u64 = 60;
    let (store, name) = store().await;
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let store = open(server(), &name).await;
        writers.spawn(async move {
            for batch in 0..BATCHES {
                let events = (0..7).map(|n| issued("a", writer * 10_000 + batch * 10 + n, START)).collect();
                assert!(store.append(events).await.unwrap().iter().all(Result::is_ok));
            }
        });
    }
    // A journal that changes under them makes them take the certain way, and nobody is refused.
    for version in 1..20 {
        let next = Authorities { bundle_sequence: 1, ..admitting() };
        store.replace(JournalVersion(version), &next).await.unwrap().expect("nobody else changes it");
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let log = everything(&store).await;
    assert_eq!(log.len() as u64, 4 * BATCHES * 7);
    assert_gapless(&log);
}

#[tokio::test]
async fn a_neighbour_that_stopped_with_the_lock_costs_the_calls_of_others_and_nothing_else() {
    let (_first, name) = store().await;
    let settings = PostgresSettings { deadline: Duration::from_millis(800), ..PostgresSettings::default() };
    let store = PostgresStore::open(&access(server(), &name), settings).await.unwrap();
    append_one(&store, issued("a", 1, START)).await.unwrap();
    let mut asleep = other(&name).await;
    asleep.execute("BEGIN; SELECT id FROM log_head FOR UPDATE").await.unwrap();
    let began = tokio::time::Instant::now();
    let Err(StoreError::Unavailable(why)) = store.append(vec![issued("a", 2, START)]).await else { panic!("appended") };
    // Long after the deadline, and long before anything else would end the wait.
    assert!(began.elapsed() <= settings.deadline + Duration::from_secs(10));
    assert!(why.contains("holds the lock"), "{why}");
    let next = admitting();
    assert!(matches!(store.replace(JournalVersion(1), &next).await, Err(StoreError::Unavailable(_))));
    asleep.execute("ROLLBACK").await.unwrap();
    assert_eq!(append_one(&store, issued("a", 2, START)).await, Ok(1));
    // One of our own that stops in its transaction loses it, and the lock with it.
    let mut stopped = store.locked("a test").await.unwrap();
    let insert = "INSERT INTO authority_journal_history (version, body) VALUES (99, '')";
    stopped.connection().execute(insert).await.unwrap();
    let neighbour = open(server(), &name).await;
    assert_eq!(
        append_one(&neighbour, issued("a", 3, START)).await,
        Ok(2),
        "it waits until the server has ended that one"
    );
    assert!(matches!(stopped.commit("a test").await, Err(StoreError::Unavailable(_))));
    let kept = server().sql(&name, "SELECT count(*) FROM authority_journal_history WHERE version = 99").unwrap();
    assert_eq!(kept, "0");
    assert_gapless(&everything(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_by_identity_or_outcome_is_the_same_before_and_after_its_pieces_are_closed() {
    let (store, name) = store().await;
    let event = |n: u64| match n % 5 {
        0 => issued(["busy", "rare"][usize::from(n.is_multiple_of(1500))], n, START + n as i64),
        1 => AuditEvent { outcome: Outcome::numbered(9), ..refused("busy", START + n as i64) },
        _ => refused(["", "other"][(n % 2) as usize], START + n as i64),
    };
    let log: Vec<AuditEvent> = (0..15 * PIECE + 100).map(event).collect();
    for batch in log.chunks(1000) {
        store.append(batch.to_vec()).await.unwrap();
    }
    let identity = |who: &str| Some(format!("spiffe://cluster.local/ns/{who}/sa/default"));
    let mut queries = Vec::new();
    for spiffe_id in [None, identity("busy"), identity("rare"), identity("nobody")] {
        for outcome in [None, Some(Outcome::Issued), Some(Outcome::Refused), Some(Outcome::numbered(9))] {
            for before in [None, Some(8 * PIECE), Some(8 * PIECE + 3), Some(5)] {
                let newest = AuditQuery::newest(700).unwrap();
                queries.push(AuditQuery { spiffe_id: spiffe_id.clone(), outcome, before, ..newest });
            }
        }
    }
    let mut found = Vec::new();
    for closed in ["0", "15"] {
        assert_eq!(server().sql(&name, "SELECT (below - start) / 1024 FROM audit_closed").unwrap(), closed);
        for (index, query) in queries.iter().enumerate() {
            let page = store.query(query).await.unwrap();
            let positions: Vec<u64> = page.items.iter().map(|stored| stored.sequence).collect();
            let all = log.iter().enumerate().rev().map(|(at, event)| (at as u64, event));
            let all = all.filter(|(at, _)| query.before.is_none_or(|before| *at < before));
            let all = all.filter(|(_, event)| query.matches(event)).map(|(at, _)| at);
            assert_eq!(positions, all.take(700).collect::<Vec<u64>>(), "{query:?} with {closed} pieces");
            match found.get(index) {
                None => found.push((positions, page.next)),
                Some(before) => assert_eq!(*before, (positions, page.next), "{query:?}"),
            }
        }
        store.probe().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_at_once_costs_no_record_that_was_acknowledged() {
    let server = tokio::task::spawn_blocking(|| Postgres::start(&signet_test_servers::Options::default()).unwrap());
    let server = server.await.unwrap();
    let name = server.create_database().unwrap();
    let settings = PostgresSettings { deadline: Duration::from_secs(2), ..PostgresSettings::default() };
    let store = PostgresStore::open(&access(&server, &name), settings).await.unwrap();
    store.replace(JournalVersion(0), &admitting()).await.unwrap();
    let store = Arc::new(store);
    let mut writers = JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(watch::Sender::new(0_usize));
    for writer in 0..4_u64 {
        let (store, stop, acknowledged) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&acknowledged));
        writers.spawn(async move {
            let mut kept = Vec::new();
            for n in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                match store.append(vec![issued("a", writer * 1_000_000 + n, START)]).await {
                    Ok(recorded) => {
                        kept.extend(recorded.into_iter().map(|one| (one.unwrap().sequence(), writer, n)));
                        acknowledged.send_modify(|all| *all += 1);
                    }
                    Err(StoreError::Unavailable(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            kept
        });
    }
    let fifty_more = async || {
        let wanted = *acknowledged.borrow() + 50;
        acknowledged.subscribe().wait_for(|all| *all >= wanted).await.map(drop).unwrap();
    };
    for _ in 0..3 {
        fifty_more().await;
        server.stop(Stop::Immediate).unwrap();
        let Err(StoreError::Unavailable(_)) = store.version().await else { panic!("the server is there") };
        server.start_again().unwrap();
    }
    fifty_more().await;
    stop.store(true, Ordering::SeqCst);
    let results = writers.join_all().await;
    let log = everything(&*store).await;
    assert_gapless(&log);
    let all: u64 = results.iter().map(|kept| kept.len() as u64).sum();
    // None need have been refused: whoever waits within the deadline is served when the server is back.
    assert!(all > 100, "kept {all}");
    for (position, writer, n) in results.into_iter().flatten() {
        let stored = log.iter().find(|stored| stored.sequence == position).expect("it was acknowledged");
        assert_eq!(stored.event, issued("a", writer * 1_000_000 + n, START));
    }
}

#[tokio::test]
async fn another_process_hears_of_a_change_and_of_a_connection_that_was_made_anew() {
    let (store, name) = store().await;
    let listener = open(server(), &name).await;
    listener.heard().await;
    let next = admitting();
    for version in 1..4 {
        let (_, changed) = tokio::join!(listener.heard(), store.replace(JournalVersion(version), &next));
        assert_eq!(changed.unwrap(), Some(JournalVersion(version + 1)));
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
        AND datname = current_database()";
    server().sql(&name, end).unwrap();
    listener.heard().await;
    let (_, changed) = tokio::join!(listener.heard(), store.replace(JournalVersion(4), &next));
    assert!(changed.unwrap().is_some());
}

/// A measurement more than a bound, on a server that nobody else uses: what a record writes into its log, with batches of 32.
/// Holders are entered later.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "it is a measurement")]
async fn a_record_writes_less_than_a_kilobyte_into_the_log_of_the_server() {
    let server = tokio::task::spawn_blocking(|| Postgres::start(&signet_test_servers::Options::default()).unwrap());
    let server = server.await.unwrap();
    let name = server.create_database().unwrap();
    let store = open(&server, &name).await;
    store.replace(JournalVersion(0), &admitting()).await.unwrap();
    let position = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
    let position = || server.sql(&name, position).unwrap().parse::<u64>().unwrap();
    let random = |n: u64| u64::from_be_bytes(key_hash(&n.to_be_bytes())[..8].try_into().unwrap());
    for round in 0..3 {
        server.sql(&name, "CHECKPOINT").unwrap();
        let before = position();
        for batch in 0..100 {
            let events = (0..32).map(|n| {
                let n = round * 100_000 + batch * 100 + n;
                let issued = issued(&format!("w{}", n % 50), random(n), START + n as i64);
                AuditEvent { kind: EventKind::ServingCertificate, ..issued }
            });
            assert!(store.append(events.collect()).await.unwrap().iter().all(Result::is_ok));
        }
        let each = (position() - before) / 3200;
        println!("{each} bytes of WAL per record, in round {round}");
        assert!(each < 1024, "{each}");
    }
}

#[tokio::test]
async fn a_store_that_was_closed_refuses_and_one_for_reading_changes_nothing() {
    let (store, name) = store().await;
    append_one(&store, issued("a", 1, START)).await.unwrap();
    store.close().await;
    assert!(matches!(store.version().await, Err(StoreError::Unavailable(_))));
    let reader = PostgresStore::open_read_only(&access(server(), &name), PostgresSettings::default()).await.unwrap();
    assert_eq!(everything(&reader).await.len(), 1);
    let Err(StoreError::Unavailable(why)) = reader.append(vec![refused("a", START)]).await else { panic!("appended") };
    assert!(why.contains("reading only"), "{why}");
    assert!(reader.probe().await.is_err());
    let mut lease = reader.lease(super::pool::Use::Reading).await.unwrap();
    let written = lease.execute("UPDATE storage_probe SET writes = 0").await;
    assert!(written.unwrap_err().to_string().contains("read-only"));
    lease.ping().await.unwrap();
}

#[tokio::test]
async fn what_is_forgotten_leaves_no_words_and_no_name_that_nothing_else_has() {
    let (store, name) = store().await;
    let event = |n: u64| match n {
        7 => refused("once", START),
        _ => issued(["a", "b"][(n % 2) as usize], n, START + n as i64),
    };
    store.append((0..PIECE * 2 + 10).map(event).collect()).await.unwrap();
    store.close_pieces().await.unwrap();
    let number = |what: &str| server().sql(&name, what).unwrap().trim().parse::<i64>().unwrap();
    let words = || number("SELECT coalesce(sum(length(entries)), 0) FROM audit_term WHERE piece = 0");
    let names = || number("SELECT count(*) FROM audit_identity");
    let all = words();
    assert_eq!(names(), 3);
    let forget = |from: u64, below: u64| Forgetting {
        class: Class::Certificates,
        from,
        below,
        forgotten: (from..below).collect(),
        put_off: Vec::new(),
    };
    assert!(store.forget(&forget(0, 8)).await.unwrap());
    assert!(words() < all && names() == 2, "the name of the one that was only there is gone");
    for from in (8..PIECE).step_by(254) {
        assert!(store.forget(&forget(from, from + 254)).await.unwrap());
    }
    assert_eq!((words(), names()), (0, 2), "what is on record of the two is found by their names");
    assert_eq!(number("SELECT count(*) FROM audit_event WHERE body IS NULL AND identity_key IS NOT NULL"), 0);
}
