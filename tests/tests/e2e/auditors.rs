//! Auditors: with a certificate of the mesh they read whatever is on record over TLS and change nothing; others read nothing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::harness::{Ca, Dev};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::tools;

use super::facts;

const WITHIN: Duration = Duration::from_secs(60);

/// Somebody with a certificate of the mesh, and no file of the CA but its roots.
struct Remote {
    address: String,
    files: [String; 3],
}

impl Remote {
    /// With the certificate of this workload.
    async fn of(dev: &Dev, workload: &str) -> Outcome<Self> {
        let made = csr::like_ztunnel(None)?;
        let reply = Client::connect(dev).await?.issued(&Ask::new(&made.csr, &dev.token(workload)?)).await?;
        let [chain @ .., _roots] = reply.as_slice() else { return Err(Failure::unexpected("an empty reply")) };
        let (cert, key) = (dev.path(&format!("{workload}.pem")), dev.path(&format!("{workload}.key")));
        std::fs::write(&cert, chain.concat()).unwrap();
        std::fs::write(&key, made.key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let files = [cert, key, dev.path("root-cert.pem")].map(|path| path.to_string_lossy().into_owned());
        Ok(Self { address: format!("https://localhost:{}", dev.listen.port()), files })
    }

    fn command(&self, args: &[&str]) -> Outcome<Command> {
        let key = if args.starts_with(&["audit", "verify"]) { "--tls-key" } else { "--key" };
        let [cert, private, roots] = &self.files;
        let mut command = Command::new(tools::own("signet-ca")?);
        command.args(args).args(["--address", &self.address, "--cert", cert, key, private, "--ca", roots]);
        Ok(command)
    }

    fn json(&self, args: &[&str]) -> Outcome<Value> {
        let text = tools::run(&mut self.command(&[args, &["-o", "json"]].concat())?)?;
        serde_json::from_str(&text).map_err(Failure::while_doing("read the JSON of a command"))
    }

    /// Exit code and what is said, of one that is refused.
    fn refused(&self, args: &[&str]) -> Outcome<String> {
        let output = tools::output(&mut self.command(args)?)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.code() == Some(1), || format!("{args:?}: {:?} {said}", output.status))?;
        Ok(said)
    }
}

/// The client is the auditor.
fn audited() -> Outcome<Dev> {
    let dev = Dev::plain()?;
    dev.set_ca(config::AUDITORS, serde_json::json!([CLIENT_ID]))?;
    Ok(dev)
}

/// What is on record of who reads.
fn readings(ca: &Ca) -> Outcome<Vec<String>> {
    let events = ca.audit(&[])?;
    let admin = events.iter().filter(|event| event["kind"] == "admin" && event["outcome"] == "done");
    let mut found: Vec<String> = admin.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect();
    found.reverse();
    Ok(found)
}

#[tokio::test]
async fn an_auditor_reads_everything_over_tls_and_changes_nothing_and_a_stranger_reads_nothing() -> Outcome {
    let dev = audited()?;
    let ca = dev.start_ca().await?;
    let serials = facts::issue(&dev, 3).await?;
    let (auditor, stranger) = (Remote::of(&dev, "client").await?, Remote::of(&dev, "server").await?);
    let serial = serials.first().unwrap();
    let found = auditor.json(&["audit", "list", "--serial", serial])?;
    assert_eq!(found["events"][0]["what"]["serial"], **serial, "{found}");
    // What a CA tells and what the storage holds is the same.
    let at_storage = ca.ask(&["audit", "list", "--storage", "--outcome", "issued"])?;
    assert_eq!(auditor.json(&["audit", "list", "--outcome", "issued"])?, at_storage);
    // Who holds what, and what was revoked of it; by any filter, also as an export.
    let revoke = ["certificate", "revoke", "--serial", serial, "--reason", "key_compromise"];
    ca.ask(&revoke)?;
    let question = ["certificate", "list", "--namespace", "default", "--identity", CLIENT_ID];
    let held = auditor.json(&question)?;
    assert_eq!(held, ca.ask(&[&question[..], &["--storage"]].concat())?);
    let of_serial = |one: &&Value| one["what"]["serial"] == **serial;
    let one = held["certificates"].as_array().unwrap().iter().find(of_serial).unwrap();
    ensure(one["revoked"]["reason"].is_string(), || one.to_string())?;
    let shown = auditor.json(&["certificate", "show", serial])?;
    assert_eq!(shown["revoked"], one["revoked"]);
    let authority = one["what"]["authority"].as_str().unwrap_or_default();
    let filters = ["--authority", &authority[..12], "--serial", &serial[..8], "--kind", "certificate"];
    let exported = tools::run(&mut auditor.command(&[&["audit", "export"][..], &filters].concat())?)?;
    let exported: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    ensure(exported.iter().any(|event| of_serial(&event)), || format!("{exported:?}"))?;
    ensure(exported.iter().all(|event| event["kind"] == "certificate"), || format!("{exported:?}"))?;
    for status in [&["status"][..], &["authority", "list"], &["holders", "list"], &["audit", "key"]] {
        auditor.json(status)?;
    }
    let counts = auditor.json(&["audit", "stats", "--by", "identity,hour", "--outcome", "issued"])?;
    let of_client = counts["counts"].as_array().unwrap().iter().filter(|row| row["identity"] == CLIENT_ID);
    assert_eq!(of_client.filter_map(|row| row["count"].as_u64()).sum::<u64>(), 4, "{counts}");
    // It verifies by itself what the CA only hands out.
    let events = at_storage["events"][0]["sequence"].as_u64().unwrap();
    let covered = async || {
        let verified = auditor.json(&["audit", "verify"]).ok()?;
        verified["checkpoint"]["size"].as_u64().is_some_and(|size| size > events).then_some(verified)
    };
    let verified = eventually("a checkpoint of all events", WITHIN, covered).await?;
    assert_eq!(verified["verified"], true);
    let proof = dev.path("one.tlog-proof").display().to_string();
    tools::run(&mut auditor.command(&["audit", "prove", "--serial", serial, "--out", &proof])?)?;
    let key = auditor.json(&["audit", "key"])?["keys"][0].as_str().unwrap().to_owned();
    let mut offline = Command::new(tools::own("signet-ca")?);
    assert!(tools::run(offline.args(["audit", "verify", "--proof", &proof, "--key", &key]))?.contains("is on record"));

    let changes: [&[&str]; 3] = [
        &["authority", "prepare"],
        &["authority", "taint", "00000000"],
        &["certificate", "revoke", "--serial", serial, "--reason", "superseded"],
    ];
    for change in changes {
        let said = auditor.refused(change)?;
        ensure(said.contains("needs the role of an administrator (admins)"), || format!("{change:?}: {said}"))?;
    }
    for question in
        [&["status"][..], &["audit", "list"], &["audit", "verify"], &["audit", "tail"], &["audit", "export"]]
    {
        let said = stranger.refused(question)?;
        ensure(said.contains("only root and the CA's own user"), || format!("{question:?}: {said}"))?;
    }
    // Once for each kind of reading, however often it was asked.
    let kinds: BTreeSet<String> = readings(&ca)?.into_iter().collect();
    let all = readings(&ca)?;
    ensure(kinds.len() == all.len() && kinds.contains("audit list") && kinds.contains("audit verify"), || {
        format!("{all:?}")
    })?;
    let denied = async || {
        let events = ca.audit(&["--outcome", "refused"]).ok()?;
        let of = |id: &str, reason: &str| {
            events.iter().any(|event| event["who"]["spiffe_id"] == id && event["reason"] == reason)
        };
        (of(CLIENT_ID, "reads_only") && of(SERVER_ID, "not_listed")).then_some(())
    };
    eventually("the denied calls on record", WITHIN, denied).await
}

/// The events of an export, by position.
fn lines(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let sequence = |line: &str| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap();
    whole.lines().map(sequence).collect()
}

#[tokio::test]
#[expect(clippy::zombie_processes, reason = "where the test fails, its process ends with the CA")]
async fn an_export_that_is_killed_goes_on_and_holds_each_event_exactly_once() -> Outcome {
    let dev = audited()?;
    let ca = dev.start_ca().await?;
    facts::without_limits(&dev)?;
    facts::issue(&dev, 20).await?;
    let auditor = Remote::of(&dev, "client").await?;
    let path = dev.path("record.jsonl");
    let out = path.display().to_string();
    // Killed at whichever moment, and left with half a line besides.
    for _ in 0..5 {
        let mut command = auditor.command(&["audit", "export", "--resume", "--out", &out])?;
        let mut export = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = async || path.exists().then_some(());
        eventually("the file", WITHIN, begun).await?;
        export.kill().unwrap();
        export.wait().unwrap();
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"sequence\":99999,\"at");
        std::fs::write(&path, torn).unwrap();
        facts::issue(&dev, 3).await?;
    }
    tools::run(&mut auditor.command(&["audit", "export", "--resume", "--out", &out])?)?;
    let found = lines(&path);
    let expected: Vec<u64> = (0..found.len() as u64).collect();
    assert_eq!(found, expected);
    ensure(found.len() >= 35, || format!("{} events", found.len()))?;
    // With the CA down, from the storage, the file goes on the same way; without --resume it is left alone.
    let mut ca = ca;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    tools::run(&mut dev.ca_command(&["audit", "export", "--resume", "--out", &out])?)?;
    let all = lines(&path);
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    let again = tools::output(&mut dev.ca_command(&["audit", "export", "--out", &out])?)?;
    assert_eq!(again.status.code(), Some(2));
    // Comma-separated values have the same events, a line each.
    let csv = tools::run(&mut dev.ca_command(&["audit", "export", "-o", "csv", "--after", "4"])?)?;
    assert_eq!(csv.lines().count(), all.len() - 5 + 1);
    assert!(csv.starts_with("sequence,at,kind,outcome,identity,serial,"));
    Ok(())
}

#[tokio::test]
#[expect(clippy::zombie_processes, reason = "where the test fails, its process ends with the CA")]
async fn a_tail_follows_the_record_without_its_own_record_again_and_again_and_across_a_restart_of_the_ca() -> Outcome {
    let dev = audited()?;
    let mut ca = dev.start_ca().await?;
    let auditor = Remote::of(&dev, "client").await?;
    let mut command = auditor.command(&["audit", "tail", "-o", "jsonl", "--after", "0", "--away", "60s"])?;
    let mut tail = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(tail.stdout.take().unwrap());
    let next = move || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        (serde_json::from_str::<Value>(&line).unwrap_or_default(), reader)
    };
    let (first, mut reader) = next();
    assert_eq!(first["sequence"], 1);
    let serials = facts::issue(&dev, 2).await?;
    let (mut found, mut readings, mut before) = (BTreeSet::new(), 0, 1);
    while found.len() < serials.len() {
        let mut line = String::new();
        ensure(reader.read_line(&mut line).unwrap() > 0, || "the tail has ended".to_owned())?;
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["sequence"].as_u64(), Some(before + 1), "{event}");
        before += 1;
        readings += usize::from(event["reason"] == "audit tail");
        found.extend(event["what"]["serial"].as_str().filter(|serial| serials.contains(*serial)).map(str::to_owned));
    }
    assert_eq!(readings, 1);
    // The CA is away and comes back: each event is there once, whatever was recorded meanwhile.
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    drop(ca);
    let mut ca = dev.start_ca().await?;
    let serials = facts::issue(&dev, 2).await?;
    let mut found = BTreeSet::new();
    while found.len() < serials.len() {
        let mut line = String::new();
        ensure(reader.read_line(&mut line).unwrap() > 0, || "the tail has ended".to_owned())?;
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["sequence"].as_u64(), Some(before + 1), "{event}");
        before += 1;
        found.extend(event["what"]["serial"].as_str().filter(|serial| serials.contains(*serial)).map(str::to_owned));
    }
    tail.kill().unwrap();
    let ended = tail.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure(said.contains("it is tried again, from event") && said.contains("tells its record again"), || said.clone())?;

    // With no time for that it ends with the CA, and says how to go on.
    let mut command = auditor.command(&["audit", "tail", "-o", "jsonl", "--after", "0", "--away", "0s"])?;
    let mut tail = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(tail.stdout.take().unwrap());
    ensure(reader.read_line(&mut String::new()).unwrap() > 0, || "the tail has ended".to_owned())?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    // Its lines are read to their end, so that it never waits for that.
    std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    let ended = tail.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure(ended.status.code() == Some(1) && said.contains("go on with --after "), || {
        format!("{:?} {said}", ended.status)
    })
}
