//! A storage that a newer version has changed, under the present one: what was only added disturbs nobody, anything else
//! keeps it from starting; and what newer versions have put on record is shown as far as it is understood.

use std::process::Command;

use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::database::{self, Store};
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

use super::facts;

/// Changes the storage of a CA that is stopped, see the script.
fn change(dev: &Dev, act: &str, argument: &str) -> Outcome {
    let mut command = Command::new("python3");
    command.args(["-c", include_str!("newer_storage.py")]);
    match dev.store()? {
        Store::Sqlite => tools::run(command.args(["sqlite", act, argument]).arg(dev.path("signet.db"))).map(drop),
        Store::Postgres => {
            let statements = tools::run(command.args(["postgres", act, argument]))?;
            let done = database::shared()?.sql(&dev.database()?, &statements);
            done.map(drop).map_err(Failure::while_doing("change the storage"))
        }
    }
}

#[tokio::test]
async fn a_ca_issues_on_a_storage_to_which_a_newer_version_has_added_something() -> Outcome {
    let dev = Dev::plain()?;
    drop(dev.start_ca().await?);
    change(&dev, "added", "15")?;
    let ca = dev.start_ca().await?;
    let warnings = ca.process.log().matches("migrations of a newer version").count();
    ensure(warnings == 1 && ca.process.log().contains("9001"), || format!("{warnings} in {}", ca.process.log()))?;
    let reply = Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let event = ca.newest(&["--serial", &facts::serial(&reply[0])?])?;
    assert_eq!(event["who"]["spiffe_id"], CLIENT_ID);
    Ok(())
}

#[tokio::test]
async fn a_ca_does_not_start_on_a_storage_that_a_newer_version_has_changed() -> Outcome {
    let dev = Dev::plain()?;
    drop(dev.start_ca().await?);
    change(&dev, "migration", "9001")?;
    for args in [&["serve"][..], &["audit", "list"]] {
        let output = tools::output(&mut dev.ca_command(args)?)?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.code() == Some(1), || format!("{args:?} ended with {}: {text}", output.status))?;
        let said = ["9001", "newer version", "use that one"].iter().all(|words| text.contains(words));
        ensure(said, || format!("{args:?}: {text}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_newer_version_has_put_on_record_is_listed_and_hides_nothing() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let reply = Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let serial = facts::serial(&reply[0])?;
    drop(ca);
    // Two events, and the record of the certificate.
    change(&dev, "events", &serial)?;
    let ca = dev.start_ca().await?;
    let page = ca.ask(&["audit", "list"])?;
    let events = page["events"].as_array().ok_or_else(|| Failure::unexpected(page.to_string()))?;
    let unknown = events.iter().find(|event| event["kind"] == "unknown (17)");
    ensure(
        unknown.is_some_and(|event| event["outcome"] == "unknown (9)" && event["unknown_fields"]["10"] == "1"),
        || page.to_string(),
    )?;
    ensure(events.iter().any(|event| event["kind"] == "configuration"), || page.to_string())?;
    let unread = page["unread"].as_array().map_or(0, Vec::len);
    ensure(unread == 2 && page["unread"][0]["problem"] == "written by a newer version", || page.to_string())?;
    let table = tools::run(dev.ca_command(&["audit", "list"])?.arg("--output=table"))?;
    ensure(table.contains("unknown (17)") && table.contains("written by a newer version"), || table.clone())?;
    // Nobody says that a certificate is unknown whose record cannot be read.
    let mut revoke = ca.command(&["certificate", "revoke"], &["--serial", &serial, "--reason", "key_compromise"])?;
    let output = tools::output(&mut revoke)?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(1) && text.contains("is on record, but"), || {
        format!("{} {text}", output.status)
    })
}
