//! A storage that moves from its file into a PostgreSQL database: everything comes along, and the file is never issued from
//! again.

use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;
use signet_test_servers::Postgres;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools;

use super::facts;

const SOON: std::time::Duration = std::time::Duration::from_secs(60);

fn database() -> String {
    let server = Postgres::shared().unwrap();
    server.url(&server.create_database().unwrap())
}

fn migrate(dev: &Dev, to: &str, more: &[&str]) -> Outcome<Output> {
    tools::output(dev.ca_command(&["migrate", "--to", to])?.args(more))
}

fn refused(output: &Output, code: i32, words: &str) -> Outcome {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(code) && said.contains(words), || {
        format!("{} instead of {code} and {words:?}: {said}", output.status)
    })
}

/// The record but for what each start and each move adds.
fn record(ca: &Ca) -> Outcome<Vec<Value>> {
    let events = ca.audit(&[])?.into_iter();
    Ok(events.filter(|event| event["kind"] == "certificate" || event["kind"] == "authority").collect())
}

/// What each authority is.
fn authorities(ca: &Ca) -> Outcome<Vec<String>> {
    let status = ca.ask(&["status"])?;
    let all = status["authorities"].as_array().into_iter().flatten();
    Ok(all.map(|one| format!("{} {} {}", one["kind"], one["id"], one["state"])).collect())
}

fn holders(ca: &Ca) -> Outcome<Value> {
    let mut page = ca.ask(&["holders", "list"])?["holders"].clone();
    for holder in page.as_array_mut().into_iter().flatten() {
        // It moves on while an agent is connected.
        holder.as_object_mut().map(|holder| holder.remove("seen_at"));
    }
    Ok(page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_has_moved_goes_on_with_everything_and_the_file_starts_nothing_more() -> Outcome {
    let dev = Dev::on_file()?;
    let mut ca = dev.start_ca().await?;
    let mut agent = dev.start_agent("client").await?;
    let serial = facts::serial(&Client::connect(&dev).await?.certificate(&dev, "server").await?[0])?;
    // Both are known to have the trust bundle.
    let counted = async || {
        let page = holders(&ca).ok()?;
        let all = page.as_array()?;
        (all.len() == 2 && all.iter().all(|holder| holder["bundle_sequence"] != 0)).then_some(())
    };
    eventually("two holders with the trust bundle", SOON, counted).await?;
    let (before, known, held) = (record(&ca)?, authorities(&ca)?, holders(&ca)?);
    ensure(known.len() >= 2, || format!("{known:?}"))?;
    ensure(before.iter().any(|event| event["what"]["serial"] == *serial), || format!("{serial} is not on record"))?;

    // Not while a process has it open, be it asleep.
    let to = database();
    let process = format!("process {} has it open", ca.process.id());
    refused(&migrate(&dev, &to, &[])?, 1, &process)?;
    ca.process.signal(Signal::STOP);
    let stopped = async || ca.process.is_stopped().then_some(());
    eventually("a stopped CA", SOON, stopped).await?;
    refused(&migrate(&dev, &to, &[])?, 1, &process)?;
    ca.process.signal(Signal::CONT);
    Client::connect(&dev).await?.certificate(&dev, "server").await?;
    let before = if record(&ca)?.len() > before.len() { record(&ca)? } else { before };
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;

    let moved = migrate(&dev, &to, &["--output", "json"])?;
    ensure(moved.status.success(), || String::from_utf8_lossy(&moved.stderr).into_owned())?;
    let told: Value = serde_json::from_slice(&moved.stdout).map_err(Failure::while_doing("read what was moved"))?;
    assert_eq!((&told["moved"]["damaged_events"], told["to"].as_str()), (&0.into(), Some(to.as_str())), "{told}");
    ensure(told["moved"]["sealed_keys"].as_u64() >= Some(2), || told.to_string())?;

    // The file: nothing starts on it, and it can still be read.
    let mut old = Ca::start(&dev)?;
    ensure(!old.process.wait(SOON).await?.success(), || "a CA runs on what was moved".to_owned())?;
    let log = old.process.log();
    ensure(log.contains(&format!("this storage was moved to {to}")), || log.clone())?;
    for (args, code) in [(&["init"][..], 1), (&["rekey"], 1), (&["check"], 2)] {
        refused(&tools::output(&mut dev.ca_command(args)?)?, code, "this storage was moved to")?;
    }
    ensure(record(&old)?.ends_with(&before), || "the record of the old file".to_owned())?;
    let again = migrate(&dev, &to, &[])?;
    let text = String::from_utf8_lossy(&again.stdout);
    ensure(again.status.success() && text.contains("was moved there before, nothing was done now"), || {
        format!("{again:?}")
    })?;

    // The database: all of it, and more.
    dev.set_ca("storage", to.as_str())?;
    let check = tools::run(&mut dev.ca_command(&["check"])?)?;
    ensure(check.contains("is in order") && check.contains("private keys are sealed"), || check.clone())?;
    let ca = dev.start_ca().await?;
    assert_eq!(ca.ask(&["status"])?["storage"], *to);
    let after = record(&ca)?;
    ensure(after.ends_with(&before), || format!("{} records became {}", before.len(), after.len()))?;
    assert_eq!(authorities(&ca)?, known);
    // What was known of each; an agent that is back may have renewed since.
    let now = holders(&ca)?;
    let (now, held) = (now.as_array().cloned().unwrap_or_default(), held.as_array().cloned().unwrap_or_default());
    for one in &held {
        let same = |other: &&Value| {
            ["spiffe_id", "instance", "bundle_sequence", "learns_by"].iter().all(|name| other[name] == one[name])
        };
        ensure(now.iter().any(|other| same(&other)), || format!("{one} is not in {now:?}"))?;
    }
    assert_eq!(now.len(), held.len());
    let all = ca.audit(&[])?;
    let event = all.iter().find(|event| event["reason"] == "migrate").ok_or_else(|| Failure::unexpected("no event"))?;
    let detail = event["detail"].as_str().unwrap_or_default();
    ensure(detail.contains("moved from sqlite:///") && detail.contains("uid "), || event.to_string())?;
    let next = Client::connect(&dev).await?.certificate(&dev, "server").await?;
    ensure(ca.newest(&["--serial", &facts::serial(&next[0])?])?["outcome"] == "issued", || "not on record".into())?;
    agent.ready().await?;
    let log = ca.process.log();
    ensure(log.contains(&to), || format!("the log does not name the storage: {log}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_cannot_be_made_says_why_and_the_ca_goes_on_where_it_is() -> Outcome {
    let dev = Dev::on_file()?;
    let server = Postgres::shared().unwrap();
    let [used, closed] = [server.create_database().unwrap(), server.create_database().unwrap()];
    server.sql(&used, "CREATE VIEW theirs AS VALUES (1)").unwrap();
    server.sql(&closed, "CREATE ROLE nobody_special LOGIN").unwrap();
    let closed = server.url(&closed).replace("signet@", "nobody_special@");
    let password = dev.path("password");
    std::fs::write(&password, "SECRET\n").unwrap();
    let missing = dev.path("missing");
    let file = |path: &Path| path.display().to_string();
    for (to, more, code, words) in [
        ("sqlite:///x.db".to_owned(), vec![], 2, "--to: names a file"),
        ("postgres://ca:SECRET@db/x".to_owned(), vec![], 2, "postgres.password_file"),
        (database(), vec!["--tls".to_owned(), "maybe".to_owned()], 2, "--tls: "),
        ("postgres://signet@127.0.0.1:1/x".to_owned(), vec![], 1, "the server cannot be reached"),
        (server.url("not_there"), vec!["--password-file".to_owned(), file(&password)], 1, "create the database"),
        (database(), vec!["--password-file".to_owned(), file(&missing)], 1, "cannot read"),
        (server.url(&used), vec![], 1, "a database of another program"),
        (closed, vec![], 1, "permission denied"),
    ] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let output = migrate(&dev, &to, &more)?;
        refused(&output, code, words)?;
        let all = [output.stdout, output.stderr].concat();
        ensure(!String::from_utf8_lossy(&all).contains("SECRET"), || "a password is shown".to_owned())?;
    }
    // One that is missing is not made, and a server's database is no file.
    let path = dev.path("elsewhere.db");
    dev.set_ca("storage", format!("sqlite://{}", path.display()))?;
    refused(&migrate(&dev, &database(), &[])?, 1, "cannot look at")?;
    ensure(!path.exists(), || "a file was made".to_owned())?;
    dev.set_ca("storage", database())?;
    refused(&migrate(&dev, &database(), &[])?, 2, "only a file is moved")?;
    let mut backup = dev.ca_command(&["backup"])?;
    refused(&tools::output(backup.arg(dev.path("copy.db")))?, 2, "pg_dump")?;
    ensure(!dev.path("copy.db").exists(), || "a file was made".to_owned())?;
    dev.set_ca("storage", format!("sqlite://{}", dev.path("signet.db").display()))?;
    dev.start_ca().await.map(drop)
}
