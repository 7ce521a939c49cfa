//! The commands on a storage in a PostgreSQL database.

use signet_test_servers::Postgres;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

use super::facts;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_begins_on_an_empty_database_and_every_command_works_on_it() -> Outcome {
    let dev = Dev::plain()?;
    let server = Postgres::shared().unwrap();
    let database = server.create_database().unwrap();
    // The other tests on PostgreSQL come over TCP.
    let storage = server.socket_url(&database);
    dev.forget_authority()?;
    dev.set_ca("storage", storage.as_str())?;
    let check = tools::run(&mut dev.ca_command(&["check"])?)?;
    ensure(check.contains("is in order") && check.contains("there is no authority"), || check.clone())?;
    // The architecture knows SQL in the store only; a table here is told by the server's own client.
    let tables = server.sql(&database, "TABLE pg_catalog.pg_tables").unwrap();
    ensure(!tables.contains("audit_event"), || "check has made something".to_owned())?;

    // It makes the authority by `init`.
    let ca = dev.start_ca().await?;
    let again = tools::output(&mut dev.ca_command(&["init"])?)?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure(again.status.code() == Some(1) && said.contains("there is an authority already"), || said.clone())?;
    let reply = Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let event = ca.newest(&["--serial", &facts::serial(&reply[0])?])?;
    assert_eq!(event["who"]["spiffe_id"], CLIENT_ID);
    assert_eq!(ca.ask(&["status"])?["storage"], *storage);
    let table = tools::run(&mut ca.command(&["status"], &[])?)?;
    ensure(table.contains(&storage), || table.clone())?;
    let holders = ca.ask(&["holders", "list"])?;
    assert_eq!(holders["holders"].as_array().map(Vec::len), Some(1), "{holders}");
    let rekeyed = ca.ask(&["rekey"])?;
    ensure(rekeyed["sealed_keys"].as_u64() >= Some(2), || rekeyed.to_string())?;
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let log = ca.process.log();
    ensure(log.contains(&storage), || format!("the log does not name the storage: {log}"))
}

#[test]
fn check_says_what_is_wrong_with_a_server_and_shows_no_password() -> Outcome {
    let dev = Dev::plain()?;
    let server = Postgres::shared().unwrap();
    let foreign = server.create_database().unwrap();
    server.sql(&foreign, "CREATE VIEW theirs AS VALUES (1)").unwrap();
    std::fs::write(dev.path("password"), "SECRET\n").unwrap();
    dev.set_ca("postgres.password_file", dev.path("password").display().to_string())?;
    for (storage, words) in [
        ("postgres://signet@127.0.0.1:1/signet".to_owned(), "the server cannot be reached"),
        (server.url("not_there"), "create the database"),
        (server.url(&foreign), "a database of another program"),
        ("postgres://ca:SECRET@127.0.0.1/signet".to_owned(), "postgres.password_file"),
    ] {
        dev.set_ca("storage", storage.as_str())?;
        let output = tools::output(&mut dev.ca_command(&["check"])?)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.code() == Some(2) && said.contains("storage") && said.contains(words), || said.clone())?;
        ensure(!said.contains("SECRET"), || said.clone())?;
    }
    Ok(())
}
