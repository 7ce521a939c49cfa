//! Servers, credentials and databases that are refused, and those that are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use signet_core::seams::store::{AuditStore, AuthorityJournal, JournalVersion, StoreError};
use signet_test_servers::{Options, Postgres};

use super::connect::fits;
use super::tests::{access, append_one, database, local, open, server, store};
use super::{PostgresAccess, PostgresSettings, PostgresStore, Protection, Server};
use crate::store::suite::{START, admitting, refused};

async fn refusal(access: &PostgresAccess) -> StoreError {
    PostgresStore::open(access, PostgresSettings::default()).await.err().expect("it was opened")
}

async fn refusal_text(access: &PostgresAccess) -> String {
    let StoreError::Unavailable(why) = refusal(access).await else { panic!("another kind of error") };
    why
}

/// A server of its own, started where blocking is allowed.
async fn start(options: Options) -> Postgres {
    tokio::task::spawn_blocking(move || Postgres::start(&options).unwrap()).await.unwrap()
}

#[test]
fn a_server_that_would_not_keep_what_it_acknowledged_is_refused_with_what_to_do() {
    let server = |number, fsync: &str, standby, encoding: &str, commit: &str| {
        (number, "14.9".to_owned(), fsync.to_owned(), standby, encoding.to_owned(), commit.to_owned())
    };
    for (server, words) in [
        (server(140_009, "on", false, "UTF8", "on"), Some("PostgreSQL 14.9, and 15 is the oldest")),
        (server(150_000, "on", false, "UTF8", "on"), None),
        (server(180_001, "off", false, "UTF8", "on"), Some("set fsync = on")),
        (server(180_001, "on", true, "UTF8", "on"), Some("connect to the primary")),
        (server(180_001, "on", false, "SQL_ASCII", "on"), Some("ENCODING 'UTF8'")),
        (server(180_001, "on", false, "UTF8", "off"), Some("synchronous_commit is off")),
    ] {
        let why = fits(&server, true).err();
        assert_eq!(why.is_some(), words.is_some(), "{why:?}");
        assert!(why.as_ref().is_none_or(|why| why.contains(words.unwrap())), "{why:?}");
        // Reading asks for less.
        let reads = server.0 >= 150_000 && server.4 == "UTF8";
        assert_eq!(fits(&server, false).is_ok(), reads, "{server:?}");
    }
}

#[tokio::test]
async fn a_server_without_fsync_a_standby_and_one_that_is_not_there_are_refused() {
    let server = start(Options::default().setting("fsync", "off")).await;
    let name = server.create_database().unwrap();
    let why = refusal_text(&access(&server, &name)).await;
    assert!(why.contains("fsync = off"), "{why}");
    let far = access(&server, "signet_missing");
    let why = refusal_text(&far).await;
    assert!(why.contains("create the database"), "{why}");
    let port = server.port();
    drop(server);
    let why = refusal_text(&local("ca", port, "x")).await;
    assert!(why.contains("cannot be reached"), "{why}");
}

#[tokio::test]
async fn what_is_set_for_the_role_or_the_database_does_not_weaken_a_commit() {
    let (_, name) = store().await;
    for setting in ["synchronous_commit = off", "default_transaction_isolation = serializable", "statement_timeout = 1"]
    {
        server().sql(&name, &format!("ALTER DATABASE {name} SET {setting}")).unwrap();
    }
    let store = open(server(), &name).await;
    let mut lease = store.lease(super::pool::Use::Writing).await.unwrap();
    let show = "SELECT current_setting('synchronous_commit') || current_setting('transaction_isolation')";
    let shown: String = sqlx::query_scalar(show).fetch_one(&mut *lease).await.unwrap();
    assert_eq!(shown, "onread committed");
}

#[tokio::test]
async fn a_database_of_another_program_or_a_newer_version_is_refused_and_left_alone() {
    let name = server().create_database().unwrap();
    server().sql(&name, "CREATE TABLE theirs (n int)").unwrap();
    let access = access(server(), &name);
    let StoreError::Schema(why) = refusal(&access).await else { panic!("opened") };
    assert!(why.contains("another program"), "{why}");
    assert!(PostgresStore::check(&access, PostgresSettings::default()).await.is_err());
    assert_eq!(server().sql(&name, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").unwrap(), "1");

    let name = database().await;
    let access = self::access(server(), &name);
    PostgresStore::check(&access, PostgresSettings::default()).await.unwrap();
    let store = open(server(), &name).await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9000, 'newer', true, '', 0)";
    server().sql(&name, newer).unwrap();
    for error in [
        refusal(&access).await,
        store.probe().await.unwrap_err(),
        PostgresStore::check(&access, PostgresSettings::default()).await.unwrap_err(),
        PostgresStore::open_read_only(&access, PostgresSettings::default()).await.err().unwrap(),
    ] {
        let StoreError::Schema(why) = error else { panic!("{error}") };
        assert!(why.contains("migration 9000"), "{why}");
    }
    // One that says that this version may run on it.
    server().sql(&name, "INSERT INTO schema_reader (version, oldest_reader) VALUES (9000, 17)").unwrap();
    open(server(), &name).await.probe().await.unwrap();
    server().sql(&name, "DELETE FROM _sqlx_migrations WHERE version IN (17, 9000)").unwrap();
    let read_only = PostgresStore::open_read_only(&access, PostgresSettings::default()).await.err().unwrap();
    assert!(read_only.to_string().contains("lacks migration 17"), "{read_only}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_on_an_empty_database_make_its_tables_once() {
    let name = server().create_database().unwrap();
    let access = access(server(), &name);
    PostgresStore::check(&access, PostgresSettings::default()).await.unwrap();
    assert!(PostgresStore::open_read_only(&access, PostgresSettings::default()).await.is_err(), "there is nothing");
    let open = || PostgresStore::open(&access, PostgresSettings::default());
    let (one, two, three) = tokio::join!(open(), open(), open());
    one.unwrap().replace(JournalVersion(0), &admitting()).await.unwrap();
    for store in [two.unwrap(), three.unwrap()] {
        assert_eq!(store.version().await.unwrap(), JournalVersion(1));
    }
}

#[tokio::test]
async fn a_renewed_password_is_used_by_the_next_connection_and_shown_nowhere() {
    let server = start(Options::default().host_rules("host all all 127.0.0.1/32 scram-sha-256")).await;
    let name = server.create_database().unwrap();
    let grant = format!(
        "CREATE ROLE ca LOGIN PASSWORD 'first-hunter'; GRANT ALL ON DATABASE {name} TO ca; \
        GRANT ALL ON SCHEMA public TO ca"
    );
    server.sql(&name, &grant).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let mut access = local("ca", server.port(), &name);
    let why = refusal_text(&access).await;
    assert!(why.contains("password_file"), "{why}");
    access.password_file = Some(file.clone());
    let why = refusal_text(&access).await;
    assert!(why.contains("cannot read") && why.contains("password"), "{why}");
    std::fs::write(&file, "wrong-hunter").unwrap();
    let why = refusal_text(&access).await;
    assert!(why.contains("refuses these credentials") && !why.contains("hunter"), "{why}");
    std::fs::write(&file, "first-hunter\n").unwrap();
    let store = PostgresStore::open(&access, PostgresSettings::default()).await.unwrap();
    append_one(&store, refused("a", START)).await.unwrap();
    server.sql(&name, "ALTER ROLE ca PASSWORD 'second-hunter'").unwrap();
    append_one(&store, refused("a", START)).await.unwrap();
    store.pool.clear();
    let Err(StoreError::Unavailable(why)) = store.probe().await else { panic!("the old password was taken") };
    assert!(!why.contains("hunter"), "{why}");
    std::fs::write(&file, "second-hunter\r\n").unwrap();
    store.probe().await.unwrap();
    std::fs::write(&file, vec![b'x'; 5000]).unwrap();
    let why = refusal_text(&access).await;
    assert!(why.contains("larger than 4096 bytes"), "{why}");
    assert!(!format!("{access:?} {access}").contains("hunter"));
}

/// A CA, and a certificate of it for this address with its key, in PEM.
fn certificates(address: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([address.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    (ca.pem(), leaf.pem(), key.serialize_pem())
}

#[tokio::test]
async fn over_tls_the_server_shows_a_certificate_of_the_ca_for_its_address() {
    let (ca, leaf, key) = certificates("127.0.0.1");
    let (other_ca, ..) = certificates("127.0.0.1");
    let server = start(Options::default().tls(&leaf, &key).host_rules("hostssl all all 127.0.0.1/32 trust")).await;
    let name = server.create_database().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let mut access = access(&server, &name);
    let plain = refusal_text(&access).await;
    assert!(plain.contains("no encryption"), "{plain}");
    (access.ca_file, access.protection) = (Some(file.clone()), Protection::Verified);
    std::fs::write(&file, &other_ca).unwrap();
    let why = refusal_text(&access).await;
    assert!(why.contains("TLS") && why.contains("ca_file"), "{why}");
    // Nor is it trusted without the file, where those count that are publicly trusted.
    let publicly = PostgresAccess { ca_file: None, ..access.clone() };
    let why = refusal_text(&publicly).await;
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert!(webpki_roots::TLS_SERVER_ROOTS.is_empty(), "sqlx trusts these beside the file: see plugins/no-roots");
    std::fs::write(&file, &ca).unwrap();
    let store = PostgresStore::open(&access, PostgresSettings::default()).await.unwrap();
    let mut lease = store.lease(super::pool::Use::Reading).await.unwrap();
    let ssl: bool = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_one(&mut *lease)
        .await
        .unwrap();
    assert!(ssl);
    // The certificate is for the address, not for the name.
    access.server = Server::Host("localhost".to_owned());
    assert!(refusal_text(&access).await.contains("TLS"));
}

#[tokio::test]
async fn a_server_that_never_answers_fails_at_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let access = local("ca", listener.local_addr().unwrap().port(), "x");
    let settings = PostgresSettings { deadline: Duration::from_millis(100), connections: 1 };
    let error = PostgresStore::open(&access, settings).await.err().unwrap();
    assert!(error.to_string().contains("not done within 100ms"), "{error}");
}
