//! `make demo-rotation`: two roots are replaced and a third is taken back, under more than 200 requests a second through
//! proxies of both kinds, none of which may fail. With STORE=postgres two CA processes share a database, and one of them is
//! killed half way. `--short` shows the planned rotation only.
#![allow(clippy::arithmetic_side_effects, reason = "times here are near, and a panic is a failed test")]

use std::process::ExitCode;

use signet_tests::demo::narrator::Narrator;
use signet_tests::demo::rotation::phases;
use signet_tests::demo::rotation::record::{Plan, Record};
use signet_tests::demo::rotation::stage::Cast;
use signet_tests::demo::rotation::watch::Watch;
use signet_tests::demo::until_interrupted;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::database::Store;
use signet_tests::tools;

#[tokio::main]
async fn main() -> ExitCode {
    until_interrupted("demo-rotation", demo()).await
}

async fn demo() -> Outcome {
    tools::envoy()?;
    tools::openssl()?;
    let narrator = Narrator::default();
    let short = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--short") => true,
        Some(other) => return Err(Failure::unexpected(format!("{other}: the only option is --short"))),
    };
    let (replicas, what) = match Store::wanted()? {
        Store::Sqlite => (1, "one CA"),
        Store::Postgres => (2, "two CA processes on one PostgreSQL"),
    };
    let plan = Plan { replicas, short };
    narrator.chapter(&format!(
        "Setting the stage: {what}, four workloads, three Envoys, certificates that live half a minute"
    ));
    let cast = Cast::enter(|line| narrator.tell(line)).await?;

    narrator.chapter("Requests on both paths, new connections all the time, until the end");
    let requests = cast.requests();
    let mut watch = Watch::new(&narrator, cast.stage.ca.admin()?, &requests);
    let result = acts(&cast, &narrator, &mut watch, plan).await;
    let seen = watch.finish();
    let tally = requests.stop().await;
    let record = Record { requests: tally.succeeded + tally.failed, failed: tally.failed, ..seen };
    // Written in any case: a failed demo is the one that is looked into.
    let path = record.write()?;

    narrator.chapter("The outcome");
    narrator.tell(&format!(
        "{} requests in {:.0} s ({:.0} a second), {} failed; {} client certificates of {} identities were used",
        record.requests,
        record.seconds,
        record.rate(),
        record.failed,
        tally.client_certificates.len(),
        tally.client_identities.len()
    ));
    for failure in &tally.first_failures {
        narrator.tell(&format!("failed: {failure}"));
    }
    narrator.tell(&format!("{} of {} phases; see {}", record.phases.len(), plan.phases().len(), path.display()));
    drop(cast);
    narrator.tell("every process is stopped");
    result?;
    record.judge(plan)
}

async fn acts(cast: &Cast, narrator: &Narrator, watch: &mut Watch<'_>, plan: Plan) -> Outcome {
    let first = phases::settle(cast, watch).await?;
    narrator.chapter("A planned rotation to a new root key, with one agent that does not listen");
    let second = phases::rotate(cast, &first, watch).await?;
    if plan.short {
        return Ok(());
    }
    narrator.chapter("The new root is compromised");
    let third = phases::emergency(cast, &second, watch).await?;
    narrator.chapter("A further root, taken back before it signed anything");
    phases::take_back(cast, &third, watch).await
}
