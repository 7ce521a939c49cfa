//! A disk that is full: no certificate leaves, readiness says why, and everything recovers when there is room again.

use std::path::PathBuf;
use std::time::Duration;

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::limits::{SmallDisk, lift_file_size, may_mount, with_file_size};
use signet_tests::harness::{Ca, Dev};
use tonic::Code;

use super::facts;

const WITHIN: Duration = Duration::from_secs(60);

/// Asks until a certificate is withheld; every certificate before that must be on record in the end.
async fn fill(client: &Client, ask: &Ask, received: &mut Vec<String>) -> Outcome {
    for _ in 0..20_000 {
        match client.call(ask).await {
            Ok(reply) => received.push(facts::serial(&reply[0])?),
            Err(status) => {
                let told = status.code() == Code::Unavailable && status.message().contains("recorded");
                return ensure(told, || format!("{:?}: {}", status.code(), status.message()));
            }
        }
    }
    ensure(false, || "the disk never became full".to_owned())
}

async fn recovers(dev: &Dev, ca: &mut Ca, client: &Client, received: &[String]) -> Outcome {
    ca.ready_is(true, WITHIN).await?;
    client.certificate(dev, "client").await?;
    let events = ca.audit(&["--outcome", "issued"])?;
    let recorded: std::collections::BTreeSet<&str> =
        events.iter().filter_map(|event| event["what"]["serial"].as_str()).collect();
    let lost = received.iter().filter(|serial| !recorded.contains(serial.as_str())).count();
    ensure(lost == 0, || format!("{lost} of {} certificates are not on record", received.len()))
}

fn says_storage(readiness: &serde_json::Value) -> Outcome {
    let text = readiness.to_string();
    ensure(text.contains("storage") && text.contains("failing"), || text)
}

#[tokio::test]
async fn files_that_may_not_grow_withhold_certificates_until_they_may() -> Outcome {
    let dev = Dev::on_file()?;
    facts::without_limits(&dev)?;
    let mut ca = Ca::start_command(&dev, with_file_size(&dev.ca_command(&["serve"])?, 512))?;
    ca.ready().await?;
    let client = Client::connect(&dev).await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
    let mut received = Vec::new();
    fill(&client, &ask, &mut received).await?;
    says_storage(&ca.ready_is(false, WITHIN).await?)?;
    lift_file_size(ca.process.id())?;
    recovers(&dev, &mut ca, &client, &received).await
}

#[tokio::test]
async fn a_full_file_system_withholds_certificates_until_there_is_room() -> Outcome {
    if !may_mount() {
        // Without the right to mount, the test above is the nearest thing to a full disk. Said where the test runner
        // does not swallow it.
        let text =
            b"NOT RUN: a_full_file_system_withholds_certificates_until_there_is_room needs root to mount a disk\n";
        std::io::Write::write_all(&mut std::io::stderr(), text).unwrap();
        return Ok(());
    }
    let dev = Dev::on_file()?;
    facts::without_limits(&dev)?;
    let directory: PathBuf = dev.path("disk");
    std::fs::create_dir(&directory).unwrap();
    let disk = SmallDisk::mount(&directory, 4096)?;
    for entry in std::fs::read_dir(dev.directory()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("signet.db") {
            std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
    }
    dev.set_ca("storage", format!("sqlite://{}/signet.db", directory.display()))?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
    let mut received = Vec::new();
    received.push(facts::serial(&client.issued(&ask).await?[0])?);
    // Somebody else fills the disk to the last block.
    let filler = directory.join("filler");
    let mut length = 4096 << 10;
    while length >= 1024 {
        let old = std::fs::read(&filler).unwrap_or_default();
        if std::fs::write(&filler, vec![7; old.len() + length]).is_err() {
            length /= 2;
        }
    }
    fill(&client, &ask, &mut received).await?;
    says_storage(&ca.ready_is(false, WITHIN).await?)?;
    std::fs::remove_file(&filler).unwrap();
    recovers(&dev, &mut ca, &client, &received).await?;
    drop(ca);
    drop(disk);
    Ok(())
}
