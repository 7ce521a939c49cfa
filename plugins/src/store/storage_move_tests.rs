//! A storage that moves: all of it, or nothing that could be used, whenever the move is cut off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_core::audit::{AuditEvent, Outcome};
use signet_core::authority::KeyId;
use signet_core::holder::HolderQuery;
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::{AuditStore, AuthorityJournal, HolderStore, JournalVersion, SealedKeys, StoreError};
use signet_test_servers::Postgres;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use tempfile::TempDir;

use super::postgres::storage_move::Target;
use super::postgres::{PostgresAccess, PostgresSettings, PostgresStore};
use super::sqlite::moved_mark::Mark;
use super::sqlite::storage_move::Source;
use super::sqlite::{SqliteSettings, SqliteStore};
use super::storage_move::*;
use super::suite::{START, admitting, ended, everything, held, issued, refused, serial};
use super::tables::{TABLES, Value};

/// Tables that are not moved, and why.
const LEFT: [(&str, &str); 13] = [
    ("_sqlx_migrations", "the schema of each database is its own"),
    ("schema_reader", "the schema of each database is its own"),
    ("storage_file", "which database it is, and about its file"),
    ("storage_probe", "counts writes that prove nothing but themselves"),
    ("publication_turn", "whoever publishes takes it anew"),
    ("moved", "where it was moved to"),
    ("audit_by_identity", "made of the log"),
    ("audit_by_outcome", "made of the log"),
    ("audit_entries", "how far those are made"),
    ("audit_term", "made of the log"),
    ("audit_identity", "made of the log"),
    ("audit_closed", "of what those are made"),
    ("holder_fold", "its position is noted, beside what only one of the two keeps"),
];

/// A file with something in every table, and an empty database.
struct World {
    _directory: TempDir,
    path: PathBuf,
    access: PostgresAccess,
    database: String,
}

fn server() -> &'static Postgres {
    Postgres::shared().unwrap()
}

fn access(database: &str) -> PostgresAccess {
    super::postgres::tests::access(server(), database)
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

async fn sqlite(path: &Path) -> SqliteStore {
    SqliteStore::open(&url(path), SqliteSettings::default()).await.unwrap()
}

async fn postgres(access: &PostgresAccess) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(access, PostgresSettings::default()).await
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signet.db");
        let store = sqlite(&path).await;
        store.replace(JournalVersion(0), &admitting()).await.unwrap();
        store.replace(JournalVersion(1), &admitting()).await.unwrap();
        for chunk in 0..5 {
            let events = (0..500_u64).map(|n| match n % 5 {
                0 => refused("r\u{e9}", START + chunk * 1000),
                1 => issued("a", chunk as u64 * 1000 + n, START - n as i64),
                _ => held("b", &format!("{chunk}-{n}"), chunk as u64 * 1000 + n, 1, 10),
            });
            assert!(store.append(events.collect()).await.unwrap().iter().all(Result::is_ok));
        }
        store.insert(&KeyId::parse("key").unwrap(), &[0, 255, 1]).await.unwrap();
        store.coverage(ended(0)).await.unwrap();
        store.close().await;
        let mut connection = raw(&path).await;
        let rest = "INSERT INTO removed_key VALUES ('gone', 17); INSERT INTO holder_raise VALUES (1, 2, 3); \
            INSERT INTO publication VALUES ('file/a', 2, 1, 'no room', 5); INSERT INTO publication_reached VALUES ('file/a', 3, 4); \
            INSERT INTO signed_leaf SELECT serial, 9, x'30' FROM audit_event WHERE seq = 1; \
            INSERT INTO retention_cursor VALUES (0, 7); INSERT INTO retention_put_off VALUES (5, 0, 9); \
        INSERT INTO longest_life VALUES (1, 60, 9); INSERT INTO record_tile VALUES (0, 3, zeroblob(8192)); INSERT INTO record_checkpoint VALUES (1, 1, 'n', 'k', x'00'); \
        INSERT INTO record_note VALUES ('quorum', 'n'); \
            UPDATE holder SET acknowledges = 1, refused_sequence = 7, refused = 'no' WHERE instance = '0-2'; \
            UPDATE audit_event SET body = NULL WHERE seq = 3; UPDATE audit_event SET body = x'00' WHERE seq = 4";
        connection.execute(rest).await.unwrap();
        connection.close().await.unwrap();
        let database = server().create_database().unwrap();
        Self { _directory: directory, path, access: access(&database), database }
    }

    async fn moved(&self) -> Result<Ended, StoreError> {
        move_storage(&self.path, &self.access, event, |_, _| ()).await
    }

    fn sql(&self, statement: &str) -> String {
        server().sql(&self.database, statement).unwrap()
    }

    /// That nothing is missing in the new database, and that a store there goes on.
    async fn is_whole(&self) {
        let reading = SqliteStore::open_read_only(&url(&self.path), SqliteSettings::default()).await.unwrap();
        let new = postgres(&self.access).await.unwrap();
        let (before, after) = (everything(&reading).await, everything(&new).await);
        assert_eq!(after[0].event.detail.as_deref(), Some("moved"));
        assert_eq!(&after[1..], &before[..]);
        assert_eq!(new.load().await.unwrap(), reading.load().await.unwrap());
        assert_eq!(new.all().await.unwrap(), reading.all().await.unwrap());
        assert_eq!(new.signed_leaf(serial(1)).await.unwrap().unwrap().as_ref(), [0x30]);
        let now = ended(0);
        assert_eq!(new.coverage(now).await.unwrap(), reading.coverage(now).await.unwrap());
        assert_eq!(new.last_ends().await.unwrap(), reading.last_ends().await.unwrap());
        let query = HolderQuery { limit: 1000, now, after: None, behind: None, authorities: Vec::new() };
        assert_eq!(new.holders(&query).await.unwrap(), reading.holders(&query).await.unwrap());
        let (version, authorities) = new.load().await.unwrap().unwrap();
        assert_eq!(new.replace(version, &authorities).await.unwrap(), Some(JournalVersion(version.0 + 1)));
        let next = new.append(vec![held("new", "p", 77_777, 1, 10)]).await.unwrap();
        assert_eq!(next[0].as_ref().unwrap().sequence(), after[0].sequence + 1);
        assert!(new.append(vec![issued("a", 1001, START)]).await.unwrap()[0].is_err(), "a serial twice");
        new.close().await;
        let error = SqliteStore::open(&url(&self.path), SqliteSettings::default()).await.err().expect("opened");
        assert!(error.to_string().contains(&format!("moved to {}", self.access)), "{error}");
    }
}

fn event(moved: &Moved) -> AuditEvent {
    assert_eq!((moved.events, moved.journal, moved.keys, moved.damaged), (2500, 2, 1, 1));
    assert_eq!(moved.holders, 500 * 3 + 500);
    AuditEvent { outcome: Outcome::Done, detail: Some("moved".to_owned()), ..refused("", START + 5_000_000) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_is_moved_or_named_as_one_that_is_not() {
    let world = World::new().await;
    Target::connect(&world.access).await.unwrap();
    let mut connection = raw(&world.path).await;
    let columns =
        "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'";
    let columns: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(&mut connection).await.unwrap();
    let mut old = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (table, column) in &columns {
        old.entry(table).or_default().insert(column);
    }
    let moved: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
    let left: BTreeSet<&str> = LEFT.iter().map(|(name, _)| *name).collect();
    let unknown: Vec<&str> =
        old.keys().copied().filter(|table| !moved.contains(table) && !left.contains(table)).collect();
    assert!(unknown.is_empty(), "neither moved nor named as not moved: {unknown:?}");
    for table in TABLES {
        let known: BTreeSet<&str> = table.names().into_iter().collect();
        assert_eq!(old[table.name], known, "{} in SQLite", table.name);
        let new = world
            .sql(&format!("SELECT column_name FROM information_schema.columns WHERE table_name = '{}'", table.name));
        assert_eq!(new.lines().collect::<BTreeSet<_>>(), known, "{} in PostgreSQL", table.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_moved_byte_for_byte_and_the_file_is_never_issued_from_again() {
    let world = World::new().await;
    let told = Cell::new((0, 0));
    let ended = move_storage(&world.path, &world.access, event, |done, all| told.set((done, all))).await.unwrap();
    let Ended::Moved(moved) = ended else { panic!("{ended:?}") };
    assert_eq!((told.get().0, moved.events), (told.get().1, 2500));
    let mut connection = raw(&world.path).await;
    let bytes = "SELECT seq || '|' || lower(hex(leaf_hash)) || '|' || coalesce(lower(hex(body)), '') FROM audit_event ORDER BY seq";
    let old: Vec<String> = sqlx::query_scalar(bytes).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let new = world.sql(
        "SELECT seq, encode(leaf_hash, 'hex'), coalesce(encode(body, 'hex'), '') FROM audit_event WHERE seq < 2500 ORDER BY seq",
    );
    assert!(new.lines().eq(old.iter().map(String::as_str)));
    world.is_whole().await;
    // Once is enough.
    assert_eq!(world.moved().await.unwrap(), Ended::Before);
    let elsewhere = World { access: access(&server().create_database().unwrap()), ..world };
    let again = elsewhere.moved().await.unwrap_err().to_string();
    assert!(again.contains("is another one"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_cut_off_leaves_the_file_in_use_and_is_begun_again() {
    let world = World::new().await;
    for stop_at in [0, 900, 4000, 9000] {
        let (cut, reached) = tokio::sync::oneshot::channel::<()>();
        let cut = Cell::new(Some(cut));
        let progress = |done: u64, _| {
            if done >= stop_at {
                drop(cut.take());
            }
        };
        tokio::select! {
            biased;
            _ = reached => {}
            ended = move_storage(&world.path, &world.access, event, progress) => panic!("{stop_at}: {ended:?}"),
        }
        assert_eq!(world.sql("SELECT (SELECT count(*) FROM audit_event) + (SELECT count(*) FROM sealed_key)"), "0");
        let old = until_free(&world.path).await;
        old.probe().await.unwrap();
        old.close().await;
    }
    world.moved().await.unwrap();
    world.is_whole().await;
}

/// The thread of a connection that was dropped closes it a moment later.
async fn until_free(path: &Path) -> SqliteStore {
    let opened = async {
        loop {
            match SqliteStore::open(&url(path), SqliteSettings::default()).await {
                Ok(store) => return store,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), opened).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_copy_and_the_mark_the_file_is_in_use_and_the_copy_is_made_anew() {
    let world = World::new().await;
    // Of a CA that came while it was empty.
    let early = postgres(&world.access).await.unwrap();
    let mut target = Target::connect(&world.access).await.unwrap();
    let mut source = Source::open(&world.path).await.unwrap();
    source.prepare().await.unwrap();
    let id = source.id().await.unwrap();
    target.begin(&id).await.unwrap();
    for table in &TABLES[..4] {
        let rows = source.page(table, None).await.unwrap();
        target.insert(table, &rows).await.unwrap();
    }
    target.commit("sqlite:///old.db", &id, START).await.unwrap();
    source.close().await.unwrap();
    let no_store = [
        postgres(&world.access).await.err(),
        PostgresStore::open_read_only(&world.access, PostgresSettings::default()).await.err(),
        PostgresStore::check(&world.access, PostgresSettings::default()).await.err(),
    ];
    for error in no_store {
        let text = error.expect("used").to_string();
        assert!(text.contains("copy of sqlite:///old.db that is not complete"), "{text}");
    }
    let (version, authorities) = early.load().await.unwrap().unwrap();
    let wrote = [
        early.append(vec![issued("early", 88_888, START)]).await.map(drop),
        early.append(vec![refused("early", START)]).await.map(drop),
        early.replace(version, &authorities).await.map(drop),
        early.insert(&KeyId::parse("early").unwrap(), b"sealed").await.map(drop),
    ];
    assert!(wrote.iter().all(Result::is_err), "{wrote:?}");
    // Another file does not take its place.
    let other = World { access: world.access.clone(), database: world.database.clone(), ..World::new().await };
    let error = other.moved().await.unwrap_err().to_string();
    assert!(error.contains("copy of sqlite:///old.db that is not complete"), "{error}");
    world.moved().await.unwrap();
    world.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_mark_the_same_command_completes_the_copy() {
    let world = World::new().await;
    let mut target = Target::connect(&world.access).await.unwrap();
    let mut source = Source::open(&world.path).await.unwrap();
    source.prepare().await.unwrap();
    let id = source.id().await.unwrap();
    target.begin(&id).await.unwrap();
    for table in TABLES {
        let mut last = None;
        loop {
            let rows = source.page(table, last.as_ref()).await.unwrap();
            target.insert(table, &rows).await.unwrap();
            let Some(row) = rows.into_iter().next_back() else { break };
            last = Some(row);
        }
    }
    target.entered(source.entered().await.unwrap()).await.unwrap();
    target.append(AuditEvent { detail: Some("moved".into()), ..refused("", START) }).await.unwrap();
    target.commit(&url(&world.path), &id, START).await.unwrap();
    let mark = Mark { target: world.access.to_string(), target_id: target.id().to_vec(), at_micros: START };
    source.leave_mark(&mark).await.unwrap();
    drop((source, target));
    assert!(postgres(&world.access).await.is_err(), "used before it is complete");
    let complete = async {
        loop {
            match world.moved().await {
                Ok(ended) => return ended,
                Err(error) => assert!(error.to_string().contains("open"), "{error}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), complete).await.unwrap(), Ended::Released);
    world.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_refused_and_goes_on_where_it_is() {
    let world = World::new().await;
    let refused_with = async |words: &str| {
        let error = world.moved().await.unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    let open = sqlite(&world.path).await;
    refused_with("has it open; stop every CA").await;
    open.append(vec![issued("z", 99_999, START)]).await.unwrap();
    let own = std::process::id().to_string();
    refused_with(&format!("process {own} has it open")).await;
    open.close().await;
    let reader = SqliteStore::open_read_only(&url(&world.path), SqliteSettings::default()).await.unwrap();
    refused_with("has it open").await;
    drop(reader);

    // A database that was used, by a CA or by others.
    world.sql("INSERT INTO sealed_key (id, sealed) VALUES ('k', 'x')");
    until_refused_with(&world, "is not empty").await;
    let foreign = server().create_database().unwrap();
    server().sql(&foreign, "CREATE TABLE theirs (id INTEGER)").unwrap();
    let foreign = access(&foreign);
    let error = move_storage(&world.path, &foreign, event, |_, _| ()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Schema(text) if text.contains("another program")), "{error}");
    let nowhere = super::postgres::tests::local("signet", 1, "signet");
    let error = move_storage(&world.path, &nowhere, event, |_, _| ()).await.unwrap_err();
    assert!(error.to_string().contains("connecting to postgres://signet@127.0.0.1:1/signet"), "{error}");

    // A file that is not there, and one without an authority.
    let empty = world.path.with_file_name("empty.db");
    let target = access(&server().create_database().unwrap());
    let error = move_storage(&empty, &target, event, |_, _| ()).await.unwrap_err();
    assert!(error.to_string().contains("cannot look at") && !empty.exists(), "{error}");
    sqlite(&empty).await.close().await;
    let error = move_storage(&empty, &target, |_| panic!("moved"), |_, _| ()).await.unwrap_err();
    assert!(error.to_string().contains("no authority"), "{error}");
    sqlite(&world.path).await.append(vec![issued("z", 99_998, START)]).await.unwrap();
}

async fn until_refused_with(world: &World, words: &str) {
    let refused = async {
        loop {
            let error = world.moved().await.unwrap_err().to_string();
            match error.contains("has it open") {
                true => {}
                false => return error,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
    assert!(error.contains(words), "{error}");
}

#[test]
fn what_the_new_columns_cannot_hold_becomes_what_the_new_store_would_have_written() {
    let table = TABLES.iter().find(|table| table.name == "holder").unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    let mut rows = vec![vec![text("spiffe://td/a\0"), text(&"x".repeat(5000)), Value::Null, text("node\0")]];
    Target::adapt(table, &mut rows);
    let [Value::Text(id), Value::Text(instance), Value::Null, Value::Text(node)] = rows[0].as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!((id.as_str(), instance.len(), node.as_str()), ("spiffe://td/a\u{fffd}", 64, "node\u{fffd}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_like_the_file_is_not_kept() {
    let world = World::new().await;
    drop(Target::connect(&world.access).await.unwrap());
    let spoil = "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS \
        $$ BEGIN NEW.sealed := substring(NEW.sealed FROM 2); RETURN NEW; END $$; \
        CREATE TRIGGER spoil BEFORE INSERT ON sealed_key FOR EACH ROW EXECUTE FUNCTION spoil()";
    world.sql(spoil);
    let error = world.moved().await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(text) if text.contains("sealed_key has 1 rows")), "{error}");
    until_free(&world.path).await.close().await;
    world.sql("DROP TRIGGER spoil ON sealed_key");
    world.moved().await.unwrap();
    world.is_whole().await;
}
