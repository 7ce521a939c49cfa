//! Killed at any instant, the CA has on record every certificate that anybody received, and no serial twice.

use std::time::Duration;

use signet_tests::callers::Callers;
use signet_tests::failure::Outcome;
use signet_tests::harness::Dev;

use super::facts;

const CLIENTS: usize = 16;
const ROUNDS: usize = 20;

/// How long a round may take on a busy machine.
const ROUND: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_under_load_every_received_certificate_is_on_record() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    let mut ca = dev.start_ca().await?;
    let callers = Callers::start(&dev, CLIENTS)?;
    for _ in 1..=ROUNDS {
        callers.receive(40, ROUND).await?;
        ca.process.kill();
        ca = dev.start_ca().await?;
    }
    callers.receive(40, ROUND).await?;
    callers.stop().await.is_on_record(&ca)
}
