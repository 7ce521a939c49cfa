//! Witnesses that cosign the record, by a program that is not ours.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev, probe};
use signet_tests::tools;

use super::facts;
use super::record::{covered, key};

const WITHIN: Duration = Duration::from_secs(60);

/// A witness of `tests/tlog`, until it is dropped.
struct Witness {
    process: Child,
    url: String,
    key: String,
}

impl Witness {
    /// With what it remembers in this file, of the log with this key.
    fn start(state: &Path, name: &str, log: &str, listen: &str) -> Outcome<Self> {
        let mut command = Command::new(tools::tlog()?);
        command.args(["-key", log, "-name", name, "-listen", listen, "-witness"]).arg(state);
        let mut process = command.stdout(Stdio::piped()).spawn().map_err(Failure::while_doing("start a witness"))?;
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut word = |begin: &str| {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            let rest = line.strip_prefix(begin).map(str::to_owned);
            rest.ok_or_else(|| Failure::unexpected(format!("{begin}: {line:?}")))
        };
        let (url, key) = (word("listening ")?, word("key ")?);
        Ok(Self { process, url, key })
    }

    fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// What readiness says of witnesses, once that is in this state and holds these words.
async fn witnesses_are(ca: &Ca, state: &str, words: &str) -> Outcome<String> {
    let found = async || {
        let ready: Value = serde_json::from_str(&probe::fetch(ca.ops(), "/readyz?output=json").await.ok()?.1).ok()?;
        let check = ready["checks"].as_array()?.iter().find(|check| check["name"] == "witnesses")?.clone();
        let detail = check["detail"].as_str()?.to_owned();
        (check["state"] == state && detail.contains(words)).then_some(detail)
    };
    eventually(&format!("witnesses that are {state}: {words}"), WITHIN, found).await
}

/// Waits until `quorum` witnesses have cosigned so many events, and gives that checkpoint.
async fn cosigned(ca: &Ca, size: u64) -> Outcome<String> {
    let note = async || {
        let (status, note) = probe::fetch(ca.ops(), "/checkpoint/cosigned").await.ok()?;
        let reached = note.lines().nth(1)?.parse::<u64>().ok()? >= size;
        (status == 200 && reached).then_some(note)
    };
    eventually(&format!("a cosigned checkpoint of {size} events"), WITHIN, note).await
}

fn offline(proof: &Path, args: &[&str]) -> Outcome<(bool, String)> {
    let mut command = Command::new(tools::own("signet-ca")?);
    command.args(["audit", "verify", "--proof"]).arg(proof).args(args);
    let output = tools::output(&mut command)?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test]
#[ignore = "needs the witness of tests/tlog; run it with: make test-kubernetes"]
async fn witnesses_that_are_not_ours_cosign_and_find_a_storage_that_was_set_back() -> Outcome {
    let dev = Dev::on_file()?;
    facts::without_limits(&dev)?;
    let mut ca = dev.start_ca().await?;
    covered(&ca).await?;
    let log = key(&ca)?;
    let states: Vec<PathBuf> = ["one", "two"].iter().map(|name| dev.path(name)).collect();
    let start = |number: usize, listen: &str| {
        Witness::start(&states[number], ["witness.example/one", "witness.example/two"][number], &log, listen)
    };
    let mut witnesses = [start(0, "127.0.0.1:0")?, start(1, "127.0.0.1:0")?];
    let entry = |number: usize| {
        let witness = &witnesses[number];
        let name = ["one", "two"][number];
        json!({ "name": name, "key": witness.key, "url": witness.url })
    };
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    dev.set_ca("audit.witnesses", json!([entry(0), entry(1)]))?;
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 20).await?;
    let serial = facts::issue(&dev, 1).await?.pop_first().unwrap();
    let size = covered(&ca).await?["checkpoint"]["size"].as_u64().unwrap();
    cosigned(&ca, size).await?;

    // Go's own library says the same of the cosigned checkpoint, and of a proof by it.
    let proof = dev.path("proof");
    let path = proof.display().to_string();
    tools::run(&mut ca.command(&["audit", "prove", "--serial", &serial, "--out"], &[&path])?)?;
    let keys: Vec<String> = witnesses.iter().map(|witness| witness.key.clone()).collect();
    let mut command = Command::new(tools::tlog()?);
    command.arg("-url").arg(format!("http://{}", ca.ops())).args([
        "-key",
        &log,
        "-witnesses",
        &keys.join(" "),
        "-proof",
    ]);
    let printed = tools::run(command.arg(&proof))?;
    for line in ["by 2\n", "proof cosigned by 2\n", "proven "] {
        ensure(printed.contains(line), || format!("{line}: {printed}"))?;
    }
    let both = ["--key", &log, "--witness", &keys[0], "--witness", &keys[1]];
    let (holds, said) = offline(&proof, &both)?;
    ensure(holds, || said)?;
    let verified = ca.ask(&[&["audit", "verify"], &both[..]].concat())?;
    assert_eq!(verified["verified"], true, "{verified}");
    assert_eq!(verified["cosigned"]["witnesses"].as_array().map(Vec::len), Some(2), "{verified}");
    let shown = ca.ask(&["audit", "checkpoint", "--cosigned"])?;
    assert_eq!(shown["witnesses"].as_array().map(Vec::len), Some(2), "{shown}");
    assert_eq!(shown["cosigned_size"], shown["size"], "{shown}");
    ensure(shown["note"].as_str().is_some_and(|note| note.lines().count() == 7), || shown.to_string())?;

    // One is away for a while: what both have cosigned stays, and the rest comes when it is back. It has kept where it stands.
    let address = witnesses[1].address();
    witnesses[1].process.kill().unwrap();
    facts::issue(&dev, 5).await?;
    let told = witnesses_are(&ca, "degraded", "two: ").await?;
    ensure(told.contains("one: ") && told.contains(" events at "), || told)?;
    let more = covered(&ca).await?["checkpoint"]["size"].as_u64().unwrap();
    let alone = verify_with(&ca, &log, &keys[..1])?;
    ensure(alone > size, || format!("the other one goes on: {alone}"))?;
    witnesses[1] = start(1, &address)?;
    cosigned(&ca, more).await?;
    witnesses_are(&ca, "ready", "cosigned by 2 or more").await?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;

    // The storage and the file outside of it are set back together, which only those find who have seen more.
    let copy = |from: &str, to: &str| std::fs::copy(dev.path(from), dev.path(to)).map(drop);
    let outside = "outside/record.checkpoint";
    copy("signet.db", "copy.db").and_then(|()| copy(outside, "copy.checkpoint")).unwrap();
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 30).await?;
    let last = covered(&ca).await?["checkpoint"]["size"].as_u64().unwrap();
    cosigned(&ca, last).await?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    copy("copy.db", "signet.db").and_then(|()| copy("copy.checkpoint", outside)).unwrap();
    let mut ca = dev.start_ca().await?;
    let told = witnesses_are(&ca, "degraded", "of this log").await?;
    ensure(told.contains("two: ") && told.contains("it has cosigned"), || told)?;
    assert_eq!(ca.metrics().await?.sum("signet_ca_record_witness_other_history", &[]), 2.0);
    facts::issue(&dev, 1).await?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())
}

/// How many events these have cosigned, as `audit verify` finds it.
fn verify_with(ca: &Ca, log: &str, keys: &[String]) -> Outcome<u64> {
    let mut args = vec!["audit", "verify", "--key", log];
    keys.iter().for_each(|key| args.extend(["--witness", key]));
    let verified = ca.ask(&args)?;
    verified["cosigned"]["size"].as_u64().ok_or_else(|| Failure::unexpected(verified.to_string()))
}

/// Keys of witnesses that have cosigned nothing here.
const STRANGERS: [&str; 2] = [
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
];

#[tokio::test]
async fn what_no_witness_has_cosigned_is_refused_where_one_is_asked_for() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let serial = facts::issue(&dev, 1).await?.pop_first().unwrap();
    covered(&ca).await?;
    let (log, proof) = (key(&ca)?, dev.path("proof"));
    tools::run(&mut ca.command(&["audit", "prove", "--serial", &serial, "--out"], &[&proof.display().to_string()])?)?;
    assert!(offline(&proof, &["--key", &log])?.0);
    let (holds, said) = offline(&proof, &["--key", &log, "--witness", STRANGERS[0]])?;
    ensure(!holds && said.contains("is cosigned by 0 of the witnesses that were given, and 1 have to"), || said)?;
    for (args, words) in [
        (["--witness", STRANGERS[0], "--quorum", "2"].as_slice(), "--quorum: 2 is not from 1 to 1"),
        (&["--witness", STRANGERS[0], "--quorum", "0"], "--quorum: 0 is not"),
        (&["--witness", STRANGERS[1]], "is the key of a log and not of a witness"),
        (&["--witness", "nothing"], "--witness: \"nothing\" is neither a key"),
    ] {
        let (holds, said) = offline(&proof, &[&["--key", &log], args].concat())?;
        ensure(!holds && said.contains(words), || format!("{words}: {said}"))?;
    }
    let output = tools::output(&mut ca.command(&["audit", "verify", "--witness", STRANGERS[0]], &[])?)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure(!output.status.success() && said.contains("is cosigned by 1 of the witnesses"), || said)?;
    let (status, _) = probe::fetch(ca.ops(), "/checkpoint/cosigned").await?;
    assert_eq!(status, 404);
    let output = tools::output(&mut ca.command(&["audit", "checkpoint", "--cosigned"], &[])?)?;
    assert!(!output.status.success());
    // What is printed is what is served, and can be kept.
    let printed = tools::run(&mut ca.command(&["audit", "checkpoint"], &[])?)?;
    assert!(printed.starts_with("cluster.local/record\n"), "{printed}");
    let kept = dev.path("kept");
    std::fs::write(&kept, printed).unwrap();
    let verified = ca.ask(&["audit", "verify", "--key", &log, "--against", &kept.display().to_string()])?;
    assert_eq!((&verified["verified"], &verified["cosigned"]), (&json!(true), &Value::Null));
    Ok(())
}
