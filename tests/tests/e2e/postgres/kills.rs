//! Whatever is killed under load, every certificate that anybody received is on record, and no serial twice.

use std::time::Duration;

use signet_test_servers::Stop;
use signet_tests::callers::Callers;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::{Dev, database};

use super::{Pair, facts};

const CALLERS: usize = 16;
/// How long a round may take on a busy machine.
const ROUND: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_at_once_under_load_costs_no_record_and_the_ca_is_back_by_itself() -> Outcome {
    let server = database::own()?;
    let dev = Dev::plain()?;
    dev.store_in(&server)?;
    facts::without_limits(&dev)?;
    let mut ca = dev.start_ca().await?;
    let callers = Callers::start(&dev, CALLERS)?;
    for _ in 0..5 {
        callers.receive(40, ROUND).await?;
        server.stop(Stop::Immediate).map_err(Failure::while_doing("stop the server"))?;
        ca.ready_is(false, ROUND).await?;
        server.start_again().map_err(Failure::while_doing("start the server again"))?;
        ca.ready_is(true, ROUND).await?;
    }
    callers.receive(40, ROUND).await?;
    callers.stop().await.is_on_record(&ca)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_killed_one_after_the_other_under_load_cost_no_record() -> Outcome {
    let mut pair = Pair::start(database::shared()?).await?;
    let callers = Callers::start(&pair.dev, CALLERS)?;
    for round in 0..20 {
        callers.receive(40, ROUND).await?;
        if round % 2 == 0 {
            pair.first.process.kill();
            callers.receive(10, ROUND).await?;
            pair.first = pair.dev.start_ca().await?;
        } else {
            pair.second.process.kill();
            callers.receive(10, ROUND).await?;
            pair.second = pair.replica.start(&pair.dev).await?;
        }
    }
    callers.receive(40, ROUND).await?;
    let received = callers.stop().await;
    received.is_on_record(&pair.first)?;
    received.is_on_record(&pair.second)
}
