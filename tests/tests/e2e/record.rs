//! The record as a signed tree: what is proven from it, what is found that was changed in it, and what is not signed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use signet_core::transparency::{Checkpoint, Edge, Note, VerifierKey};
use signet_tests::callers::Callers;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev, probe};
use signet_tests::tamper::tamper;
use signet_tests::tools;

use super::facts;

const WITHIN: Duration = Duration::from_secs(60);

/// Waits until a checkpoint covers everything that is on record now, and gives what `audit verify` says.
pub(super) async fn covered(ca: &Ca) -> Outcome<Value> {
    let events = ca.audit(&[])?.first().and_then(|event| event["sequence"].as_u64()).unwrap_or_default() + 1;
    let verified = async || {
        let verified = ca.ask(&["audit", "verify"]).ok()?;
        verified["checkpoint"]["size"].as_u64().is_some_and(|size| size >= events).then_some(verified)
    };
    eventually("a checkpoint of all events", WITHIN, verified).await
}

pub(super) fn key(ca: &Ca) -> Outcome<String> {
    let shown = ca.ask(&["audit", "key"])?;
    shown["keys"][0].as_str().map(str::to_owned).ok_or_else(|| Failure::unexpected(shown.to_string()))
}

/// `audit verify` on the storage of a CA that is stopped: whether it ends well, what it prints, and what it says.
pub(super) fn verify(dev: &Dev, more: &[&str]) -> Outcome<(bool, Value, String)> {
    let output = tools::output(dev.ca_command(&["audit", "verify", "-o", "json"])?.args(more))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said))
}

#[tokio::test]
async fn a_proof_is_verified_with_the_key_and_nothing_else() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let reply = Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let serial = facts::serial(&reply[0])?;
    covered(&ca).await?;
    let (key, proof) = (key(&ca)?, dev.path("one.tlog-proof"));
    let path = proof.display().to_string();
    tools::run(&mut ca.command(&["audit", "prove"], &["--serial", &serial, "--out", &path])?)?;
    let printed = tools::run(&mut ca.command(&["audit", "prove"], &["--serial", &serial])?)?;
    assert!(printed.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{printed}");
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    std::fs::rename(dev.path("signet-ca.yaml"), dev.path("elsewhere.yaml")).unwrap();

    let offline = |file: &Path, key: &str| {
        let mut command = Command::new(tools::own("signet-ca").unwrap());
        command.args(["audit", "verify", "-o", "json", "--key", key, "--proof"]).arg(file);
        tools::output(&mut command).unwrap()
    };
    let output = offline(&proof, &key);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &shown["verified"]), (Some(0), &Value::Bool(true)));
    assert_eq!(shown["event"]["what"]["serial"], serial);
    assert_eq!(shown["checkpoint"]["origin"], "cluster.local/record");
    // The key may come in a file, and the checkpoint may be one that was kept.
    let (file, kept) = (dev.path("key"), dev.path("kept"));
    let text = std::fs::read_to_string(&proof).unwrap();
    std::fs::write(&file, format!("{key}\n")).unwrap();
    std::fs::write(&kept, text.split_once("\n\n").unwrap().1).unwrap();
    let mut command = Command::new(tools::own("signet-ca")?);
    command.args(["audit", "verify", "--proof", &path]).arg("--key").arg(&file).arg("--against").arg(&kept);
    assert!(tools::run(&mut command)?.contains("is on record: it is one of the "));
    // Another event, another place, another key.
    let extra = text.lines().nth(1).unwrap();
    let mut other = extra.to_owned();
    other.replace_range(20..21, if &extra[20..21] == "A" { "B" } else { "A" });
    let index = text.lines().nth(2).unwrap();
    for (changed, words) in [
        (text.replace(extra, &other), "is not number"),
        (text.replace(index, "index 0"), "is not number 0"),
        (text.replacen(&format!("\n{}\n", shown["checkpoint"]["size"]), "\n4711\n", 1), "is not of this text"),
    ] {
        let bad = dev.path("bad.tlog-proof");
        std::fs::write(&bad, changed).unwrap();
        let output = offline(&bad, &key);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.code() == Some(1) && said.contains(words), || format!("{words}: {said}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn whatever_is_changed_in_the_database_is_found_and_named() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 6).await?;
    assert_eq!(covered(&ca).await?["verified"], true);
    let newest = ca.newest(&["--outcome", "issued"])?["sequence"].as_u64().unwrap();
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    let (at, other) = (newest - 1, newest - 4);
    tamper(&dev, "save", at, other)?;
    for (act, expected) in [
        ("byte", vec![("changed", at)]),
        ("whole", vec![("changed", at)]),
        ("removed", vec![("removed", at)]),
        ("inserted", vec![("inserted", at), ("shifted", at)]),
        ("swapped", vec![("moved", other), ("moved", at)]),
    ] {
        tamper(&dev, act, at, other)?;
        let (holds, found, said) = verify(&dev, &[])?;
        ensure(!holds && said.contains("not what was signed"), || format!("{act}: {found} {said}"))?;
        let findings = found["findings"].as_array().cloned().unwrap_or_default();
        let named = findings.iter().map(|one| (one["change"].as_str(), one["sequence"].as_u64()));
        let expected = expected.into_iter().map(|(change, sequence)| (Some(change), Some(sequence)));
        ensure(named.eq(expected), || format!("{act}: {found}"))?;
        let table = tools::output(&mut dev.ca_command(&["audit", "verify"])?)?;
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        ensure(table.contains(&format!("event {at} was ")), || table.clone())?;
        tamper(&dev, "restore", at, other)?;
    }
    let (holds, found, _) = verify(&dev, &[])?;
    ensure(holds, || format!("it was put right again: {found}"))
}

/// What readiness says of the record, once that holds.
pub(super) async fn record_is(ca: &mut Ca, state: &str) -> Outcome<String> {
    let mut last = Value::Null;
    for _ in 0..200 {
        last = ca.ready_is(true, WITHIN).await?;
        let checks = last["checks"].as_array().cloned().unwrap_or_default();
        let found = checks.iter().find(|check| check["name"] == "record" && check["state"] == state);
        if let Some(check) = found {
            return Ok(check["detail"].as_str().unwrap_or_default().to_owned());
        }
        tokio::task::yield_now().await;
    }
    Err(Failure::unexpected(format!("the record is not {state}: {last}")))
}

#[tokio::test]
async fn a_database_that_was_set_back_is_found_out_by_the_checkpoint_outside_and_not_signed() -> Outcome {
    let dev = Dev::on_file()?;
    let (outside, copy) = (dev.path("outside/record.checkpoint"), dev.path("copy.db"));
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 2).await?;
    covered(&ca).await?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    std::fs::copy(dev.path("signet.db"), &copy).unwrap();
    let mut ca = dev.start_ca().await?;
    facts::issue(&dev, 5).await?;
    let last = covered(&ca).await?;
    let events = last["checkpoint"]["size"].as_u64().unwrap();
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    let kept = std::fs::read_to_string(&outside).unwrap();
    assert!(kept.starts_with("cluster.local/record\n"), "{kept}");

    std::fs::copy(&copy, dev.path("signet.db")).unwrap();
    let mut ca = dev.start_ca().await?;
    let told = record_is(&mut ca, "degraded").await?;
    let root = kept.lines().nth(2).unwrap();
    for words in [&format!("of {events} events"), root, "record.checkpoint", "the storage was set back"] {
        ensure(told.contains(words), || format!("{words}: {told}"))?;
    }
    assert_eq!(ca.metrics().await?.sum("signet_ca_record_forked", &[]), 1.0);
    // Certificates are issued and on record, and nothing is signed, also when there are more events than before.
    facts::issue(&dev, 20).await?;
    eventually("another reason", WITHIN, async || {
        let told = record_is(&mut ca, "degraded").await.ok()?;
        told.contains(&format!("the first {events} events in storage have the root")).then_some(())
    })
    .await?;
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), kept);
    let (holds, found, _) = verify(&dev, &["--against", &outside.display().to_string()])?;
    ensure(!holds && found["problems"][0].as_str().is_some_and(|text| text.contains("was set back")), || {
        found.to_string()
    })?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;

    // An operator who knows why goes on under another name.
    std::fs::rename(&outside, dev.path("before.checkpoint")).unwrap();
    dev.set_ca("audit.origin", "cluster.local/record-2")?;
    let mut ca = dev.start_ca().await?;
    record_is(&mut ca, "ready").await?;
    assert_eq!(covered(&ca).await?["checkpoint"]["origin"], "cluster.local/record-2");
    assert!(std::fs::read_to_string(&outside).unwrap().starts_with("cluster.local/record-2\n"));
    Ok(())
}

/// The checkpoint that a CA serves.
async fn served(address: std::net::SocketAddr) -> Outcome<String> {
    let (status, note) = probe::fetch(address, "/checkpoint").await?;
    ensure(status == 200, || format!("{status} {note}"))?;
    Ok(note)
}

fn read(note: &str, key: &str) -> Checkpoint {
    let note = Note::parse(note.as_bytes()).unwrap();
    note.verify(&[VerifierKey::parse(key).unwrap()]).unwrap();
    Checkpoint::parse(&note.text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_sign_one_log_without_a_fork() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    let (replica, _entrance) = dev.pair().await?;
    let first = dev.start_ca().await?;
    let second = replica.start(&dev).await?;
    let callers = Callers::start(&dev, 4)?;
    let mut notes: Vec<String> = Vec::new();
    for _ in 0..8 {
        callers.receive(100, Duration::from_secs(180)).await?;
        for ca in [&first, &second] {
            notes.push(served(ca.ops()).await?);
        }
    }
    callers.stop().await.none_lost()?;
    let key = key(&first)?;
    covered(&first).await?;
    notes.sort_by_key(|note| read(note, &key).size);
    notes.dedup();
    ensure(notes.len() > 2, || format!("{notes:?}"))?;
    for (number, note) in notes.iter().enumerate() {
        let file = dev.path(&format!("{number}.checkpoint"));
        std::fs::write(&file, note).unwrap();
        let verified = second.ask(&["audit", "verify", "--key", &key, "--against", &file.display().to_string()])?;
        assert_eq!(verified["verified"], true, "{verified}");
    }
    for ca in [&first, &second] {
        let log = ca.process.log();
        ensure(!log.contains("no checkpoint of the record is signed"), || log.clone())?;
    }
    Ok(())
}

#[tokio::test]
async fn checkpoints_and_tiles_are_read_on_the_ops_port_and_events_are_not() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    let ca = dev.start_ca().await?;
    facts::issue(&dev, 300).await?;
    covered(&ca).await?;
    let (key, note) = (key(&ca)?, served(ca.ops()).await?);
    let checkpoint = read(&note, &key);
    let partial = format!("/tile/0/001.p/{}", checkpoint.size - 256);
    let mut edge = Edge::default();
    for (path, length) in [("/tile/0/000", 256), (partial.as_str(), checkpoint.size as usize - 256)] {
        let (status, hashes) = probe::fetch_bytes(ca.ops(), path).await?;
        assert_eq!((status, hashes.len()), (200, length * 32), "{path}");
        hashes.as_chunks::<32>().0.iter().for_each(|hash| edge.append(*hash, &mut Vec::new()));
    }
    assert_eq!((edge.size(), edge.root()), (checkpoint.size, checkpoint.root));
    let (status, above) = probe::fetch_bytes(ca.ops(), "/tile/1/000.p/1").await?;
    assert_eq!((status, above.len()), (200, 32));
    // What an earlier checkpoint has implied stays.
    assert_eq!(probe::fetch_bytes(ca.ops(), "/tile/0/000.p/7").await?.1.len(), 7 * 32);
    for none in ["/tile/0/001", "/tile/0/002.p/1", "/tile/1/000", "/tile/entries/000", "/tile/0/0", "/tile/0/001.p/256"]
    {
        assert_eq!(probe::fetch(ca.ops(), none).await?.0, 404, "{none}");
    }
    let metrics = ca.metrics().await?;
    assert!(metrics.sum("signet_ca_record_checkpoint_size", &[]) >= 300.0);
    assert!(metrics.sum("signet_ca_record_covered_timestamp_seconds", &[]) > 1.0e9);
    Ok(())
}

#[tokio::test]
async fn another_key_signs_beside_the_one_before_it() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    covered(&ca).await?;
    let before = key(&ca)?;
    let made = ca.ask(&["audit", "key", "--new"])?;
    let keys: Vec<&str> = made["keys"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!((keys.len(), keys[1]), (2, before.as_str()));
    eventually("a checkpoint by both", WITHIN, async || (key(&ca).ok()? == keys[0]).then_some(())).await?;
    let note = served(ca.ops()).await?;
    for key in keys {
        read(&note, key);
    }
    assert_eq!(ca.newest(&[])?["reason"], "audit key");
    Ok(())
}

#[tokio::test]
#[ignore = "needs the verifier of tests/tlog; run it with: make test-kubernetes"]
async fn a_verifier_that_is_not_ours_comes_to_the_same() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    let ca = dev.start_ca().await?;
    facts::issue(&dev, 100).await?;
    covered(&ca).await?;
    let (kept, proof) = (dev.path("kept"), dev.path("proof"));
    let note = served(ca.ops()).await?;
    std::fs::write(&kept, &note).unwrap();
    let serial = facts::issue(&dev, 400).await?.pop_first().unwrap();
    let size = covered(&ca).await?["checkpoint"]["size"].as_u64().unwrap();
    tools::run(&mut ca.command(&["audit", "prove", "--serial", &serial, "--out"], &[&proof.display().to_string()])?)?;
    let key = key(&ca)?;
    let run = |key: &str, kept: &Path, proof: &Path| {
        let mut command = Command::new(tools::tlog().unwrap());
        command.arg("-url").arg(format!("http://{}", ca.ops())).args(["-key", key]);
        tools::output(command.arg("-against").arg(kept).arg("-proof").arg(proof)).unwrap()
    };
    let output = run(&key, &kept, &proof);
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure(output.status.success(), || format!("{printed}{said}"))?;
    for line in [format!("consistent {}", read(&note, &key).size), format!("included {size}"), "proven ".to_owned()] {
        ensure(printed.contains(&line), || format!("{line}: {printed}"))?;
    }
    // It tells a lie, too.
    let text = std::fs::read_to_string(&proof).unwrap();
    let index = text.lines().nth(2).unwrap();
    let forged = dev.path("forged");
    std::fs::write(&forged, text.replace(index, "index 3")).unwrap();
    ensure(!run(&key, &kept, &forged).status.success(), || "a proof of another place".to_owned())
}
