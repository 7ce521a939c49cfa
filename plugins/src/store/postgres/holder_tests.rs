//! Holders that follow the log: entered once, whoever does it and whatever ends it; and counted once for all replicas.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::audit::AuditEvent;
use signet_core::holder::{Acknowledgement, Acknowledger, Gone, Handover, Holder, HolderQuery};
use signet_core::seams::store::{AuditStore, AuthorityJournal, HolderStore, JournalVersion, StoreError};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::holder_projection::{MOST_WAITING, PIECE, WAITING};
use super::tests::{access, append_one, database, open, other, server};
use super::{PostgresSettings, PostgresStore};
use crate::store::memory::MemoryStore;
use crate::store::suite::{
    START, acknowledging, admitting, by, ended, hand_over, held, issued, key, listed, mark, serial, unused_keys,
};

/// So many replicas on one new database, whose name comes first.
async fn replicas<const N: usize>() -> (String, [Arc<PostgresStore>; N]) {
    let name = database().await;
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Arc::new(open(server(), &name).await));
    }
    all[0].replace(JournalVersion(0), &admitting()).await.unwrap();
    (name, all.try_into().ok().unwrap())
}

async fn reading(name: &str) -> PostgresStore {
    let access = access(server(), name);
    PostgresStore::open_read_only(&access, PostgresSettings::default()).await.unwrap()
}

/// A store in memory, which enters what is appended at once.
async fn memory() -> MemoryStore {
    let memory = MemoryStore::new();
    memory.replace(JournalVersion(0), &admitting()).await.unwrap();
    memory
}

/// Certificates of some hundred holders, some renewed by other issuing CAs.
fn events(range: std::ops::Range<u64>) -> Vec<AuditEvent> {
    let event = |n: u64| {
        let event = held(["a", "b"][(n % 2) as usize], &format!("p{}", n % 301), n, n * 31 % 17, (n * 37 % 101) as i64);
        let event = by(event, (n / 97 % 5) as u8);
        if n * 13 % 7 < 2 { acknowledging(event) } else { event }
    };
    range.map(event).collect()
}

async fn append_all(store: &impl AuditStore, events: &[AuditEvent]) {
    for batch in events.chunks(250) {
        assert!(store.append(batch.to_vec()).await.unwrap().iter().all(Result::is_ok));
    }
}

async fn assert_same(one: &impl HolderStore, other: &impl HolderStore) {
    assert_eq!(listed(one).await, listed(other).await);
    assert_eq!(one.last_ends().await.unwrap(), other.last_ends().await.unwrap());
    for life in [-5, 0, 40, 90, 200] {
        assert_eq!(one.coverage(ended(life)).await.unwrap(), other.coverage(ended(life)).await.unwrap(), "{life}");
    }
}

/// A number that a statement gives.
fn number(name: &str, statement: &str) -> u64 {
    server().sql(name, statement).unwrap().parse().unwrap()
}

fn below(name: &str) -> u64 {
    number(name, "SELECT below FROM holder_fold")
}

/// How often holders were counted, by what was written down of it.
fn counts(name: &str) -> u64 {
    // Each session tells its numbers when it ends, at the latest, and is not listed from then on.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while number(name, others) > 0 {
        std::thread::yield_now();
    }
    number(name, "SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'holder_tally'")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_left_in_the_log_is_entered_by_the_next_one_in_pieces() {
    let (name, [first, second]) = replicas().await;
    let events = events(0..3 * PIECE);
    append_all(&*first, &events).await;
    drop(first);
    assert_eq!(below(&name), 0, "an append writes the log alone");
    let memory = memory().await;
    append_all(&memory, &events).await;
    assert_same(&reading(&name).await, &memory).await;
    assert_eq!(below(&name), 0, "who only reads changes nothing");
    assert_same(&*second, &memory).await;
    assert_eq!(below(&name), 3 * PIECE);
    assert_same(&reading(&name).await, &memory).await;
}

/// It knows nothing of pods, and nothing of the count that this program keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_life_that_a_program_of_before_writes_makes_for_a_new_count() {
    let (name, replicas) = replicas::<2>().await;
    let event = held("a", "p", 1, 1, 100);
    let gone = Gone { key: key("a", "p"), serial: event.what.as_ref().unwrap().serial.clone() };
    hand_over(&*replicas[0], vec![event]).await;
    assert_eq!(replicas[0].gone(&[gone], ended(60), ended(60)).await.unwrap(), 1);
    for replica in &replicas {
        assert_eq!(replica.coverage(ended(0)).await.unwrap().live(), 0);
    }
    server().sql(&name, "UPDATE holder SET seen_at = gone_at + 1").unwrap();
    for replica in &replicas {
        assert_eq!(replica.coverage(ended(0)).await.unwrap().live(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_enter_and_change_holders_at_once_enter_each_event_once() {
    let (name, handles) = replicas::<3>().await;
    let all = events(0..2000);
    append_all(&*handles[0], &all[..1000]).await;
    let mut work = JoinSet::new();
    for (number, store) in handles.iter().enumerate() {
        let (counting, noting) = (Arc::clone(store), Arc::clone(store));
        work.spawn(async move {
            for life in 0..20 {
                counting.coverage(ended(life)).await.unwrap();
                counting.last_ends().await.unwrap();
            }
        });
        let from = Acknowledger::Holder(key("a", &format!("p{}", 2 * number)));
        let word = Acknowledgement { from, sequence: 40, refused: None, at: ended(1) };
        work.spawn(async move { noting.acknowledge(&[word]).await.unwrap() });
    }
    let appending = Arc::clone(&handles[1]);
    let rest = all[1000..].to_vec();
    work.spawn(async move { append_all(&*appending, &rest).await });
    work.join_all().await;
    let memory = memory().await;
    append_all(&memory, &all).await;
    for number in 0..3 {
        let from = Acknowledger::Holder(key("a", &format!("p{}", 2 * number)));
        let word = Acknowledgement { from, sequence: 40, refused: None, at: ended(1) };
        memory.acknowledge(&[word]).await.unwrap();
    }
    assert_eq!(listed(&*handles[2]).await, listed(&memory).await);
    assert_eq!(handles[0].last_ends().await.unwrap(), memory.last_ends().await.unwrap());
    assert_eq!(below(&name), 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_entered_in_the_time_between_and_when_there_is_none_by_appends() {
    let (name, [store, other]) = replicas().await;
    let total = MOST_WAITING + 1000;
    append_all(&*store, &events(0..total)).await;
    let waits = || total - below(&name);
    assert!((MOST_WAITING - PIECE..MOST_WAITING + 250).contains(&waits()), "{} wait", waits());
    while store.settle().await.unwrap() {}
    assert!((WAITING - PIECE..=WAITING).contains(&waits()), "{} wait", waits());
    // A replica that does not know how far others have come finds out with one piece.
    append_one(&other, held("b", "p", total, 1, 10)).await.unwrap();
    while other.settle().await.unwrap() {}
    assert!((WAITING - 2 * PIECE..=WAITING + 1).contains(&waits()), "{} wait", waits());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_replicas_that_ask_one_counts_and_only_when_a_count_has_become_wrong() {
    let (name, handles) = replicas::<3>().await;
    let all: Vec<AuditEvent> = (0..40).map(|n| held("a", &format!("p{n}"), n, 5, 100 + n as i64)).collect();
    hand_over(&*handles[0], all[..20].to_vec()).await;
    let renewed = |number: u64, pod: &str, life| held("a", pod, number, 5, life);
    let asked = async |moment: i64| {
        let mut work = JoinSet::new();
        for store in &handles {
            let store = Arc::clone(store);
            work.spawn(async move { store.coverage(ended(moment)).await.unwrap().live() });
        }
        let found = work.join_all().await;
        assert_eq!(found, [found[0]; 3]);
        found[0]
    };
    assert_eq!((asked(0).await, asked(50).await), (20, 20));
    // Renewals under the same issuing CA leave it right, handed over or not.
    hand_over(&*handles[1], vec![renewed(100, "p3", 400), renewed(101, "p0", 110)]).await;
    handles[2].append(vec![renewed(102, "p5", 400)]).await.unwrap();
    assert_eq!(asked(60).await, 20);
    // The first one ends (p1; p0 was renewed): counted again.
    assert_eq!(asked(100).await, 20);
    assert_eq!(asked(101).await, 19);
    // One that had ended comes back.
    handles[1].append(vec![renewed(103, "p1", 400)]).await.unwrap();
    assert_eq!(asked(101).await, 20);
    // New ones.
    handles[2].append(all[20..].to_vec()).await.unwrap();
    assert_eq!(asked(101).await, 40);
    // They receive a bundle.
    let marks: Vec<_> = all[20..].iter().map(|event| mark(event, Handover::Whole)).collect();
    handles[0].mark(&marks, ended(3)).await.unwrap();
    assert_eq!(handles[1].coverage(ended(101)).await.unwrap().covered(5), 40);
    assert_eq!(asked(101).await, 40);
    // One acknowledges more.
    let word = |refused: Option<&str>| {
        let from = Acknowledger::Holder(key("a", "p9"));
        [Acknowledgement { from, sequence: 9, refused: refused.map(str::to_owned), at: ended(4) }]
    };
    handles[0].acknowledge(&word(Some("no"))).await.unwrap();
    assert_eq!((asked(101).await, handles[1].coverage(ended(101)).await.unwrap().covered(9)), (40, 0));
    handles[0].acknowledge(&word(None)).await.unwrap();
    assert_eq!((asked(101).await, handles[2].coverage(ended(101)).await.unwrap().covered(9)), (40, 1));
    // An earlier moment is not what was counted.
    assert_eq!(asked(0).await, 40);
    for store in handles {
        store.close().await;
    }
    // At 0, 100 and 101, since the first one may have ended; one is back; new ones; the bundle; the acknowledgement; 0 again.
    assert_eq!(counts(&name), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_of_a_renewal_like_the_one_before_enters_nothing() {
    let (name, [store, other]) = replicas().await;
    hand_over(&*store, vec![held("a", "p", 1, 5, 10)]).await;
    assert_eq!(below(&name), 1);
    let renewal = held("a", "p", 2, 5, 10);
    other.append(vec![renewal.clone(), held("a", "q", 3, 5, 10)]).await.unwrap();
    for handover in [Handover::Whole, Handover::Nothing] {
        assert!(!store.mark(&[mark(&renewal, handover)], ended(1)).await.unwrap());
        assert_eq!(below(&name), 1, "{handover:?}");
    }
    // With a newer bundle, or from another issuing CA, it says something; and so do words about a new holder.
    for (event, n) in
        [(held("a", "p", 4, 6, 10), 4), (by(held("a", "p", 5, 6, 10), 7), 5), (held("b", "r", 6, 1, 9), 6)]
    {
        append_one(&other, event.clone()).await.unwrap();
        assert!(store.mark(&[mark(&event, Handover::Whole)], ended(1)).await.unwrap(), "{n}");
        assert_eq!(below(&name), n);
    }
    let found = listed(&*other).await;
    assert_eq!(found.iter().map(|holder| holder.sequence).collect::<Vec<_>>(), [6, 0, 1]);
    assert!(found.iter().all(|holder| holder.former.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_counts_as_a_holder_that_has_received_nothing() {
    let (name, [store]) = replicas().await;
    append_all(&*store, &[held("a", "p", 1, 1, 10), held("a", "q", 2, 1, 10), held("a", "r", 3, 1, 10)]).await;
    let damage = "UPDATE audit_event SET body = NULL WHERE seq = 0; \
        UPDATE audit_event SET body = '\\x00' WHERE seq = 1";
    server().sql(&name, damage).unwrap();
    let reading = reading(&name).await;
    assert_eq!(listed(&reading).await, listed(&*store).await);
    let found: Vec<(String, u64)> =
        listed(&*store).await.into_iter().map(|one| (one.key.instance, one.sequence)).collect();
    assert_eq!(found, [("r".to_owned(), 0), (serial(1).to_string(), 0), (serial(2).to_string(), 0)]);
    assert_eq!(store.coverage(ended(0)).await.unwrap().covered(1), 0);
    let late = *store.last_ends().await.unwrap().values().next().unwrap();
    assert!(late > ended(3600), "it may be of any issuing CA, and last");
    append_one(&store, held("a", "s", 4, 1, 10)).await.unwrap();
    assert_eq!(listed(&*store).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_column_or_an_index_cannot_hold_stop_nothing() {
    let (name, [store]) = replicas().await;
    let odd = ["a\0b".to_owned(), "x".repeat(9_000), "\0".to_owned(), "é\u{fffd}".to_owned()];
    let events: Vec<AuditEvent> = (1..).zip(&odd).map(|(n, pod)| held("a", pod, n, 5, 10)).collect();
    let mut noisy = held("a", "p", 9, 5, 10);
    (noisy.who.pod, noisy.who.node) = (Some("web\0".to_owned()), Some("\0".to_owned()));
    hand_over(&*store, [events, vec![noisy]].concat()).await;
    let from = Acknowledger::Holder(key("a", &odd[0]));
    store
        .acknowledge(&[Acknowledgement { from, sequence: 7, refused: Some("no\0".into()), at: ended(1) }])
        .await
        .unwrap();
    let found = listed(&*store).await;
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|holder| holder.sequence == 5), "{found:?}");
    let after = Some(key("a", "\0"));
    let query = HolderQuery { now: ended(0), behind: None, authorities: Vec::new(), after, limit: 9 };
    store.holders(&query).await.unwrap();
    assert_eq!(listed(&reading(&name).await).await, found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_sleeps_while_it_counts_delays_the_others_and_no_more() {
    let (name, [store]) = replicas().await;
    hand_over(&*store, vec![held("a", "p", 1, 1, 10)]).await;
    let mut asleep = other(&name).await;
    let turn = super::coverage::COUNTING.to_string();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SELECT pg_advisory_lock({turn})"))).execute(&mut asleep).await.unwrap();
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 1);
    assert_eq!(store.coverage(ended(0)).await.unwrap().live(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_handle_pages_through_what_waits_and_what_is_entered_alike() {
    let (name, [store]) = replicas().await;
    let all = events(0..900);
    append_all(&*store, &all[..600]).await;
    listed(&*store).await;
    append_all(&*store, &all[600..]).await;
    let memory = memory().await;
    append_all(&memory, &all).await;
    let reading = reading(&name).await;
    for (behind, authorities, life) in [(None, &[][..], 0), (Some(1), &[], 40), (None, &[2, 3], 0), (Some(9), &[0], 90)]
    {
        let authorities = authorities.iter().map(|one| crate::store::suite::issuer(*one)).collect();
        let mut query = HolderQuery { now: ended(life), behind, authorities, after: None, limit: 40 };
        loop {
            let page: Vec<Holder> = reading.holders(&query).await.unwrap();
            assert_eq!(page, memory.holders(&query).await.unwrap());
            let Some(last) = page.last() else { break };
            query.after = Some(last.key.clone());
        }
    }
    assert_same(&reading, &memory).await;
    assert!(matches!(reading.forget_ended(ended(99), 9).await, Err(StoreError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_needs_go_and_no_others() {
    let names = std::sync::Mutex::new(String::new());
    let make = async || {
        let name = database().await;
        names.lock().unwrap().clone_from(&name);
        [Arc::new(open(server(), &name).await), Arc::new(open(server(), &name).await)]
    };
    let forget_history = async |_: &Arc<PostgresStore>| {
        let name = names.lock().unwrap().clone();
        server().sql(&name, "DELETE FROM authority_journal_history").unwrap();
    };
    unused_keys::every_case(make, forget_history).await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "it is a measurement")]
async fn a_hundred_thousand_holders_are_counted_and_looked_up() {
    let (name, [store]) = replicas().await;
    append_one(&store, issued("z", 1, START)).await.unwrap();
    let many = format!(
        "INSERT INTO holder (spiffe_id, instance, serial, authority, not_after, sequence, acknowledges, seen_at) \
         SELECT 'spiffe://cluster.local/ns/' || n % 100 || '/sa/' || n % 1000, md5(n::text), md5(n::text), \
         repeat('cd', 20), {} + n, n % 3, n % 2 = 0, 0 FROM generate_series(1, 100000) AS n; ANALYZE holder",
        START / 1_000_000 + 1000
    );
    server().sql(&name, &many).unwrap();
    let mut times = Vec::new();
    for moment in [0, 1, 2, 1001, 1001] {
        let began = std::time::Instant::now();
        let live = store.coverage(ended(moment)).await.unwrap().live();
        times.push(format!("{moment}: {:.1?}", began.elapsed()));
        assert_eq!(live, if moment < 1001 { 100_001 } else { 100_000 });
    }
    println!("coverage of 100,000 holders (at 0 and at the first 1001 it is counted): {}", times.join(", "));
    assert_eq!(store.coverage(OffsetDateTime::UNIX_EPOCH).await.unwrap().live(), 100_001);
}
