//! `signet-ca backup` beside a CA at work: what it makes, and what it refuses.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::limits::{SmallDisk, may_mount, with_file_size};

use super::facts;

fn run(mut command: Command) -> Outcome<Output> {
    command.output().map_err(Failure::io("run a command"))
}

fn backup(dev: &Dev, file: &Path) -> Outcome<Command> {
    let mut command = dev.ca_command(&["backup"])?;
    command.arg(file).args(["--output", "json"]);
    Ok(command)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_a_ca_under_load_is_one_private_file_that_a_ca_goes_on_with() -> Outcome {
    let dev = Dev::on_file()?;
    facts::without_limits(&dev)?;
    let mut ca = dev.start_ca().await?;
    let (client, ask) = (Client::connect(&dev).await?, Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?));
    let mut received = Vec::new();
    for _ in 0..50 {
        received.push(facts::serial(&client.call(&ask).await.map_err(Failure::while_doing("ask"))?[0])?);
    }
    let directory = dev.path("backups");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("one.db");
    let load = async {
        let mut more = 0;
        for _ in 0..200 {
            client.call(&ask).await.map_err(Failure::while_doing("ask during a backup"))?;
            more += 1;
        }
        Ok::<_, Failure>(more)
    };
    let command = backup(&dev, &file)?;
    let (made, more) = tokio::join!(tokio::task::spawn_blocking(|| run(command)), load);
    let (made, _) = (made.unwrap()?, more?);
    ensure(made.status.success(), || String::from_utf8_lossy(&made.stderr).into_owned())?;
    let told: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o7777, told["bytes"].as_u64()), (0o600, Some(metadata.len())));
    assert_eq!(names(&directory), ["one.db"]);
    let key = dev.text("key-encryption.key")?;
    let (content, raw) = (std::fs::read(&file).unwrap(), STANDARD.decode(key.trim()).unwrap());
    for secret in [key.trim().as_bytes(), &raw] {
        ensure(!content.windows(secret.len()).any(|window| window == secret), || "the sealing key is in it".into())?;
    }

    // Nobody has noticed at the CA.
    client.call(&ask).await.map_err(Failure::while_doing("ask after a backup"))?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;

    // Never in the place of another file, also when both are made at once.
    let again = run(backup(&dev, &file)?)?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure(again.status.code() == Some(1) && said.contains("one.db exists already"), || said)?;
    assert_eq!(std::fs::read(&file).unwrap(), content);
    let two = directory.join("two.db");
    let children: Vec<_> = (0..3).map(|_| backup(&dev, &two).unwrap().spawn().unwrap()).collect();
    let ends = children.into_iter().map(|mut child| child.wait().unwrap().success());
    assert_eq!(ends.filter(|well| *well).count(), 1);
    assert_eq!(names(&directory), ["one.db", "two.db"]);

    // A CA on the copy has it all, and goes on.
    dev.set_ca("storage", format!("sqlite://{}", file.display()))?;
    let restored = dev.start_ca().await?;
    let events = restored.audit(&["--outcome", "issued"])?;
    let missing = received.iter().filter(|serial| events.iter().all(|event| event["what"]["serial"] != **serial));
    assert_eq!(missing.count(), 0);
    client_of(&dev).await?.call(&ask).await.map_err(Failure::while_doing("ask the restored CA"))?;
    Ok(())
}

async fn client_of(dev: &Dev) -> Outcome<Client> {
    Client::connect(dev).await
}

#[test]
fn a_backup_that_cannot_be_made_says_why_and_leaves_nothing() -> Outcome {
    let dev = Dev::on_file()?;
    let directory = dev.path("backups");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("old.db-wal"), "x").unwrap();
    for (file, expected) in [
        (directory.join("none/x.db"), "No such file or directory"),
        (directory.clone(), "exists already"),
        (directory.join("x.db-wal"), "choose another name"),
        (directory.join("old.db"), "old.db-wal is there"),
    ] {
        let made = run(backup(&dev, &file)?)?;
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        ensure(made.status.code() == Some(1) && said.contains(expected), || format!("{}: {said}", file.display()))?;
    }
    // A file that may not grow, and a full disk.
    let limited = run(with_file_size(&backup(&dev, &directory.join("big.db"))?, 32))?;
    ensure(limited.status.code() == Some(1), || String::from_utf8_lossy(&limited.stderr).into_owned())?;
    assert_eq!(names(&directory), ["old.db-wal"]);
    if may_mount() {
        let disk = SmallDisk::mount(&directory, 64)?;
        let made = run(backup(&dev, &directory.join("big.db"))?)?;
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        let left = names(&directory);
        drop(disk);
        ensure(made.status.code() == Some(1) && said.contains("the disk is full"), || said)?;
        ensure(left.is_empty(), || format!("{left:?}"))?;
    }
    // No storage, and something else in its place.
    let text = dev.path("text.db");
    std::fs::write(&text, "x".repeat(10_000)).unwrap();
    for (storage, expected) in [(text, "not an SQLite database"), (dev.path("none.db"), "cannot look at")] {
        dev.set_ca("storage", format!("sqlite://{}", storage.display()))?;
        let made = run(backup(&dev, &dev.path("copy.db"))?)?;
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        ensure(made.status.code() == Some(1) && said.contains(expected), || said)?;
        ensure(!dev.path("copy.db").exists(), || "something is left".to_owned())?;
    }
    Ok(())
}
