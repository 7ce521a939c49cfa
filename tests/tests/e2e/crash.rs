//! Killed at any instant, the CA has on record every certificate that anybody received, and no serial twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use tokio::task::JoinSet;

use super::facts;

const CLIENTS: usize = 16;
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_under_load_every_received_certificate_is_on_record() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    let received = Arc::new(Mutex::new(Vec::<String>::new()));
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
    for round in 1..=ROUNDS {
        let mut ca = dev.start_ca().await?;
        let mut load = JoinSet::new();
        for _ in 0..CLIENTS {
            let (client, ask, received) = (Client::connect(&dev).await?, ask.clone(), Arc::clone(&received));
            load.spawn(async move {
                // The first error is the end of the CA.
                while let Ok(reply) = client.call(&ask).await {
                    let serial = facts::serial(&reply[0]).unwrap();
                    received.lock().unwrap().push(serial);
                }
            });
        }
        let enough = async || (received.lock().unwrap().len() >= 40 * round).then_some(());
        ca.process.until("certificates under load", Duration::from_secs(180), enough).await?;
        ca.process.kill();
        while load.join_next().await.is_some() {}
    }
    let ca = dev.start_ca().await?;
    let events = ca.audit(&[])?;
    let recorded: Vec<&str> = events.iter().filter_map(|event| event["what"]["serial"].as_str()).collect();
    let unique: BTreeSet<&str> = recorded.iter().copied().collect();
    ensure(unique.len() == recorded.len(), || "a serial is on record twice".to_owned())?;
    let received = received.lock().unwrap();
    let distinct: BTreeSet<&String> = received.iter().collect();
    ensure(distinct.len() == received.len(), || "a serial was handed out twice".to_owned())?;
    let lost: Vec<&String> = received.iter().filter(|serial| !unique.contains(serial.as_str())).collect();
    ensure(lost.is_empty(), || {
        format!("{} of {} certificates are not on record: {lost:?}", lost.len(), received.len())
    })?;
    let sequences: Vec<u64> = events.iter().filter_map(|event| event["sequence"].as_u64()).collect();
    ensure(sequences.windows(2).all(|pair| pair[0] == pair[1] + 1), || "the log has gaps".to_owned())?;
    ensure(sequences.last() == Some(&0), || "the log does not start at 0".to_owned())
}
