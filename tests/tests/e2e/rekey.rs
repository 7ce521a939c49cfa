//! Another sealing key under CAs at work.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, flock};
use signet_tests::client::certify::Client;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::process::eventually;
use signet_tests::tools;

const SOON: std::time::Duration = std::time::Duration::from_secs(60);

fn key_file(dev: &Dev, name: &str, byte: u8) -> PathBuf {
    let path = dev.path(name);
    write(&path, &(STANDARD.encode([byte; 32]) + "\n"));
    path
}

fn write(path: &Path, text: &str) {
    let _absent = std::fs::remove_file(path);
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn rekey(dev: &Dev, new: Option<&Path>) -> Outcome<serde_json::Value> {
    let mut command = dev.ca_command(&["rekey", "--output", "json"])?;
    if let Some(new) = new {
        command.arg("--new-key-file").arg(new);
    }
    Ok(serde_json::from_str(&tools::run(&mut command)?).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sealing_key_is_replaced_under_two_replicas_that_go_on_to_rotate() -> Outcome {
    let dev = Dev::plain()?;
    let (mut first, replica) = (dev.start_ca().await?, dev.replica()?);
    let second = replica.start(&dev).await?;
    let old = dev.text("key-encryption.key")?;
    let new = key_file(&dev, "new.key", 7);
    let done = rekey(&dev, Some(&new))?;
    let (key, all) = (done["key"].as_str().unwrap_or_default().to_owned(), done["sealed_keys"].as_u64());
    ensure(all >= Some(2) && done["resealed"] == done["sealed_keys"], || done.to_string())?;
    let file = dev.path("key-encryption.key");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, std::fs::read_to_string(&new).unwrap() + &old, "the former key stays");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = rekey(&dev, Some(&new))?;
    assert_eq!((&again["resealed"], again["key"].as_str()), (&0.into(), Some(key.as_str())), "{again}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    // Both replicas make and open keys, without a restart.
    for ca in [&first, &second] {
        ca.operator().done(&["authority", "rotate", "--issuing"])?;
        Client::connect(&dev).await?.certificate(&dev, "client").await?;
    }
    second.operator().prepare()?;
    let told = tools::run(&mut dev.ca_command(&["check"])?)?;
    ensure(told.contains(&format!("sealed with {key}, the newest")) && !told.contains("former"), || told.clone())?;
    let event = first.audit(&[])?.into_iter().find(|event| event["reason"] == "rekey");
    let event = event.map(|event| event.to_string()).unwrap_or_default();
    ensure(event.contains("uid ") && event.contains(&key), || format!("not on record: {event}"))?;
    // A start needs the new one alone.
    write(&file, &std::fs::read_to_string(&new).unwrap());
    ensure(first.process.stop().await?.success(), || first.process.log())?;
    let _first = dev.start_ca().await?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    Ok(())
}

#[tokio::test]
async fn without_the_key_that_is_needed_its_name_is_told_and_a_running_ca_takes_it_up() -> Outcome {
    let dev = Dev::plain()?;
    let (file, old) = (dev.path("key-encryption.key"), dev.text("key-encryption.key")?);
    let key = rekey(&dev, None)?["key"].as_str().unwrap_or_default().to_owned();
    write(&file, &(STANDARD.encode([7; 32]) + "\n"));
    let checked = tools::output(&mut dev.ca_command(&["check"])?)?;
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    ensure(!checked.status.success() && said.contains(&format!("sealed with {key}, which is not in")), || said)?;
    let refused = tools::output(&mut dev.ca_command(&["rekey"])?)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure(refused.status.code() == Some(1) && said.contains(&key) && said.contains("key-encryption.key"), || said)?;
    let mut ca = signet_tests::harness::Ca::start(&dev)?;
    let body = ca.ready_is(false, SOON).await?;
    let names = async || ca.process.log().contains(&key).then_some(());
    eventually("the name of the key", SOON, names)
        .await
        .map_err(|late| signet_tests::failure::Failure::unexpected(format!("{late}: {body}")))?;
    write(&file, &(STANDARD.encode([7; 32]) + "\n" + &old));
    ca.ready().await?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    Ok(())
}

#[test]
fn a_key_that_cannot_be_taken_changes_nothing() -> Outcome {
    let dev = Dev::plain()?;
    let file = dev.path("key-encryption.key");
    let before = std::fs::read_to_string(&file).unwrap();
    let two = dev.path("two.key");
    write(&two, &format!("{}\n{}\n", STANDARD.encode([7; 32]), STANDARD.encode([8; 32])));
    let short = dev.path("short.key");
    write(&short, &STANDARD.encode([7; 31]));
    let open = key_file(&dev, "open.key", 7);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    for (new, expected) in
        [(two, "several keys"), (short, "31 bytes"), (open, "chmod 600"), (dev.path("none.key"), "none.key")]
    {
        let mut command = dev.ca_command(&["rekey"])?;
        let output = tools::output(command.arg("--new-key-file").arg(&new))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(
            output.status.code() == Some(1) && said.contains(expected) && !said.contains("keys.encryption"),
            || format!("{}: {said}", new.display()),
        )?;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    }
    Ok(())
}

#[test]
fn without_the_storage_the_key_file_is_left_as_it_is() -> Outcome {
    let dev = Dev::on_file()?;
    let file = dev.path("key-encryption.key");
    let before = std::fs::read_to_string(&file).unwrap();
    let new = key_file(&dev, "new.key", 7);
    // A clean end leaves one complete file, so that nothing of it is found beside.
    std::fs::rename(dev.path("signet.db"), dev.path("away.db")).unwrap();
    // Mistyped, or a volume that is not mounted; what is empty; and what is another program's.
    for (there, expected) in
        [(None, "cannot look at"), (Some(""), "signet.db"), (Some("another program's"), "signet.db")]
    {
        if let Some(content) = there {
            std::fs::write(dev.path("signet.db"), content).unwrap();
        }
        let output = tools::output(dev.ca_command(&["rekey"])?.arg("--new-key-file").arg(&new))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.code() == Some(1) && said.contains(expected), || format!("{there:?}: {said}"))?;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "{there:?}");
    }
    Ok(())
}

#[test]
fn while_another_one_is_at_work_no_new_key_is_taken() -> Outcome {
    let dev = Dev::plain()?;
    let file = dev.path("key-encryption.key");
    let (before, new) = (std::fs::read_to_string(&file).unwrap(), key_file(&dev, "new.key", 7));
    // What the other one holds: of two that had read the same keys, the later would write away what the other has added.
    let held = std::fs::File::open(file.parent().unwrap()).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let output = tools::output(dev.ca_command(&["rekey"])?.arg("--new-key-file").arg(&new))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.code() == Some(1) && said.contains("another `signet-ca rekey` is at work"), || said)?;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    drop(held);
    rekey(&dev, Some(&new))?;
    assert_ne!(std::fs::read_to_string(&file).unwrap(), before);
    Ok(())
}
