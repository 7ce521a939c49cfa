//! Replicas on one database: none of them stops the others, and they are replaced one after the other without a loss.

use std::time::Duration;

use rustix::process::Signal;
use signet_tests::callers::Callers;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::database;

use super::Pair;

const CALLERS: usize = 8;
/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_no_request() -> Outcome {
    let mut pair = Pair::start(database::shared()?).await?;
    let callers = Callers::start(&pair.dev, CALLERS)?;
    for _ in 0..2 {
        callers.receive(40, SOON).await?;
        let ended = pair.first.process.stop().await?;
        ensure(ended.success(), || format!("the first replica ended with {ended}: {}", pair.first.process.log()))?;
        pair.first = pair.dev.start_ca().await?;
        callers.receive(40, SOON).await?;
        let ended = pair.second.process.stop().await?;
        ensure(ended.success(), || format!("the second replica ended with {ended}: {}", pair.second.process.log()))?;
        pair.second = pair.replica.start(&pair.dev).await?;
    }
    callers.receive(40, SOON).await?;
    let received = callers.stop().await;
    received.none_lost()?;
    received.is_on_record(&pair.first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_stopped_in_its_work_does_not_keep_the_other_from_it() -> Outcome {
    let pair = Pair::start(database::shared()?).await?;
    let [first, second] = pair.entrance.behind[..] else { return Err(Failure::unexpected("not two replicas")) };
    let (awake, asleep) = (Callers::at(first, &pair.dev, CALLERS)?, Callers::at(second, &pair.dev, CALLERS)?);
    for _ in 0..5 {
        asleep.receive(40, SOON).await?;
        // Most likely in the middle of a transaction, which the server ends after a while, with its locks.
        pair.second.process.signal(Signal::STOP);
        awake.receive(40, SOON).await?;
        pair.second.process.signal(Signal::CONT);
    }
    asleep.receive(40, SOON).await?;
    for received in [awake.stop().await, asleep.stop().await] {
        received.is_on_record(&pair.first)?;
        received.is_on_record(&pair.second)?;
    }
    Ok(())
}
