//! Files that change under the running CA: whatever somebody does to them, no certificate leaves whose record a restart
//! would not find.
//!
//! The line is this: a certificate is handed out when its record is on disk and, after that, all files were still the
//! ones that the CA had opened. So every certificate that was asked for after the act is on record in what a restart
//! opens, or was refused. Those from before it are as safe as the files that the act has left.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use tokio::task::JoinSet;
use tonic::Code;

use super::facts;

const CLIENTS: usize = 4;
const WITHIN: Duration = Duration::from_secs(120);

/// What a restart makes of the files.
enum After {
    /// It refuses them, and says what to do.
    Refused,
    /// It finds every record, also those from before the act.
    Complete,
}

const ACTS: [(&str, After); 6] = [
    ("cp $2 $1", After::Refused),
    ("mv $2 $1", After::Refused),
    ("rm $1-wal", After::Complete),
    ("rm $1-shm", After::Complete),
    ("truncate -s 40960 $1", After::Refused),
    ("dd if=/dev/urandom of=$1 bs=4096 seek=20 count=8 conv=notrunc", After::Refused),
];

fn shell(command: &str, path: &Path, other: &Path) -> Outcome {
    let output = Command::new("sh").args(["-c", command, "sh"]).args([path, other]).output();
    let output = output.map_err(Failure::io("run a shell"))?;
    ensure(output.status.success(), || format!("{command}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A certificate that somebody received, and when it was asked for.
type Received = Arc<Mutex<Vec<(String, Instant)>>>;

/// Asks for certificates until one is refused, with what code.
async fn ask_until_refused(client: Client, ask: Ask, received: Received) -> Code {
    loop {
        let asked = Instant::now();
        match client.call(&ask).await {
            Ok(reply) => received.lock().unwrap().push((facts::serial(&reply[0]).unwrap(), asked)),
            Err(status) => return status.code(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_the_files_no_certificate_without_a_record_leaves() -> Outcome {
    for (act, after) in ACTS {
        let dev = Dev::on_file()?;
        facts::without_limits(&dev)?;
        let (path, older) = (dev.path("signet.db"), dev.path("older.db"));
        let mut ca = dev.start_ca().await?;
        let received = Received::default();
        let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
        shell("cp $1 $2", &path, &older)?;
        let modified = || std::fs::metadata(&path).unwrap().modified().unwrap();
        let before = modified();
        let mut load = JoinSet::new();
        for _ in 0..CLIENTS {
            load.spawn(ask_until_refused(Client::connect(&dev).await?, ask.clone(), Arc::clone(&received)));
        }
        // Until a checkpoint has made the copy an old one, and more has come after it.
        let worn = async || (modified() != before).then(|| received.lock().unwrap().len());
        let count = eventually("a checkpoint", WITHIN, worn).await?;
        let more = async || (received.lock().unwrap().len() > count + 40).then_some(());
        eventually("more certificates", WITHIN, more).await?;

        shell(act, &path, &older)?;
        let acted = Instant::now();
        while let Some(code) =
            tokio::time::timeout(WITHIN, load.join_next()).await.map_err(Failure::while_doing(act))?
        {
            assert_eq!(code.unwrap(), Code::Unavailable, "{act}");
        }
        let readiness = ca.ready_is(false, WITHIN).await?.to_string();
        ensure(readiness.contains("storage") && readiness.contains("while in use"), || format!("{act}: {readiness}"))?;
        ensure(ca.metrics().await?.sum("signet_ca_storage_lost", &[]) > 0.5, || format!("{act}: no metric"))?;
        let told = ca.process.log().matches("the storage is not what this process has written to").count();
        ensure(told == 1, || format!("{act}: told {told} times"))?;
        let late: BTreeSet<String> =
            received.lock().unwrap().iter().filter(|one| one.1 > acted).map(|one| one.0.clone()).collect();
        ca.process.kill();

        let check = ca.command(&["check"], &[])?.output().map_err(Failure::io("run check"))?;
        let said = String::from_utf8_lossy(&check.stderr).into_owned();
        match after {
            After::Refused => {
                ensure(!check.status.success() && said.contains("backup"), || format!("{act}: {said}"))?;
                let mut again = Ca::start(&dev)?;
                ensure(!again.process.wait(WITHIN).await?.success(), || format!("{act}: it started"))?;
                let log = again.process.log();
                ensure(log.contains("backup"), || format!("{act}: {log}"))?;
                ensure(late.is_empty(), || format!("{act}: {late:?} were issued without a record that lasts"))?;
            }
            After::Complete => {
                ensure(check.status.success(), || format!("{act}: {said}"))?;
                let again = dev.start_ca().await?;
                let events = again.audit(&["--outcome", "issued"])?;
                let recorded: BTreeSet<&str> =
                    events.iter().filter_map(|event| event["what"]["serial"].as_str()).collect();
                let received = received.lock().unwrap();
                let lost = received.iter().filter(|one| !recorded.contains(one.0.as_str())).count();
                ensure(lost == 0, || format!("{act}: {lost} of {} are not on record", received.len()))?;
            }
        }
    }
    Ok(())
}
