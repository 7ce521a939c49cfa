//! A storage that a newer version has changed, under the present one: what was only added disturbs nobody, anything else
//! keeps it from starting; and what newer versions have put on record is shown as far as it is understood.

use std::process::Command;

use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

use super::facts;

/// Runs SQL on the storage of a CA that is stopped.
fn change(dev: &Dev, sql: &str) -> Outcome {
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.executescript(sys.argv[2]); db.close()";
    let output = Command::new("python3").args(["-c", script]).arg(dev.path("signet.db")).arg(sql).output();
    let output = output.map_err(Failure::io("run python3"))?;
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())
}

/// As a newer version leaves it that has the migration 9001, which programs may run on that know `oldest`.
fn migration(oldest: i64) -> String {
    format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9001, 'newer', 1, x'01', 0); \
         INSERT INTO schema_reader (version, oldest_reader) VALUES (9001, {oldest});"
    )
}

#[tokio::test]
async fn a_ca_issues_on_a_storage_to_which_a_newer_version_has_added_something() -> Outcome {
    let dev = Dev::plain()?;
    drop(dev.start_ca().await?);
    let added = "ALTER TABLE audit_event ADD COLUMN added TEXT; CREATE TABLE added (id INTEGER PRIMARY KEY);";
    change(&dev, &format!("{added} {}", migration(15)))?;
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
    change(&dev, &migration(9001))?;
    for args in [&["serve"][..], &["audit", "list"]] {
        let output = tools::output(&mut dev.ca_command(args)?)?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.code() == Some(1), || format!("{args:?} ended with {}: {text}", output.status))?;
        let said = ["9001", "newer version", "use that one"].iter().all(|words| text.contains(words));
        ensure(said, || format!("{args:?}: {text}"))?;
    }
    Ok(())
}

/// The event `[1, {1: 1, 2: "", 3: 17, 4: 9, 7: {}, 10: 1}]`, and one of format 2, with their leaf hashes.
const UNKNOWN: [&str; 2] =
    ["8201a6010102600311040907a00a01", "be71f1344625fdf8c74c009b7f6f57f65de64d5e31f497214958ef2b8e7890e4"];
const NEWER: [&str; 2] = ["8202a10105", "df89e6a579c56e03bad89b4302cb2c699ddcf67c807239fbcb8c83b4b2285980"];

#[tokio::test]
async fn what_a_newer_version_has_put_on_record_is_listed_and_hides_nothing() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let reply = Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let serial = facts::serial(&reply[0])?;
    drop(ca);
    let row = |kind: u8, [body, leaf]: [&str; 2]| {
        format!(
            "INSERT INTO audit_event (seq, at_micros, high_micros, kind, outcome, leaf_hash, body) \
             SELECT max(seq) + 1, max(high_micros), max(high_micros), {kind}, 9, x'{leaf}', x'{body}' FROM audit_event;"
        )
    };
    // And the record of the certificate is one of a version that this one does not know.
    let lost = format!(
        "UPDATE audit_event SET body = x'{}', leaf_hash = x'{}' WHERE serial = x'{serial}';",
        NEWER[0], NEWER[1]
    );
    change(&dev, &[row(17, UNKNOWN), row(0, NEWER), lost].concat())?;
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
