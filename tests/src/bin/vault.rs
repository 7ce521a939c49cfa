//! `make demo-vault`: a CA of Signet's own moves to an OpenBao under requests of which none may fail, and goes on while that is
//! sealed; then OpenBao signs each leaf. `--short` leaves out that OpenBao is sealed then, and the wait for the old root's end.
#![allow(clippy::arithmetic_side_effects, reason = "times here are near, and a panic is a failed test")]

use std::process::ExitCode;
use std::time::Duration;

use signet_tests::demo::narrator::Narrator;
use signet_tests::demo::until_interrupted;
use signet_tests::demo::vault::acts::Acts;
use signet_tests::demo::vault::stage::Vault;
use signet_tests::demo::vault::summary::Summary;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::rotation::Pace;
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::stage::Stage;
use signet_tests::tools;
use signet_tests::traffic::Traffic;

/// How long the certificates of the two workloads live: they are renewed at about half of it.
const SVID_TTL: &str = "24s";
/// Clients, and the pause of each between two requests.
const WORKERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(40);

#[tokio::main]
async fn main() -> ExitCode {
    until_interrupted("demo-vault", demo()).await
}

async fn demo() -> Outcome {
    tools::envoy()?;
    tools::openssl()?;
    tools::openbao()?;
    let short = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--short") => true,
        Some(other) => return Err(Failure::unexpected(format!("{other}: the only option is --short"))),
    };
    let narrator = Narrator::default();
    narrator.chapter("Setting the stage: a CA with a root of its own, two workloads, each with an agent and an Envoy");
    let dev = Dev::init(&DevOptions { svid_ttl: Some(SVID_TTL.into()), ..DevOptions::default() })?;
    dev.set_pace(&Pace { propagation: "3s", renewal_window: "8s", issuing_ttl: "10m", serving_ttl: "4m" })?;
    // The role of OpenBao for the CA's own certificate has names in it and no addresses.
    dev.set_ca("serving.ip_addresses", serde_json::json!([]))?;
    dev.start_over()?;
    let stage = Stage::set(dev, 3, |line| narrator.tell(line)).await?;

    narrator.chapter(
        "An OpenBao with a root, and no more rights for Signet than deploy/vault/signet-intermediate.hcl gives",
    );
    let vault = Vault::set_up(&stage.dev).await?;
    narrator
        .tell(&format!("a real OpenBao answers on http://{}; deploy/vault/setup.sh has set it up", vault.bao.address));

    narrator.chapter("Requests: application -> Envoy -> mutual TLS -> Envoy -> service, until the end");
    let traffic = Traffic::start(stage.entrance(), WORKERS, PAUSE);
    let (told, before) = (String::new(), 0);
    let mut acts =
        Acts { stage, vault, narrator: &narrator, traffic: &traffic, summary: Summary::default(), told, before };
    let result = play(&mut acts, &narrator, short).await;
    let Acts { stage, vault, mut summary, .. } = acts;
    let tally = traffic.stop().await;
    (summary.requests, summary.failed) = (tally.succeeded + tally.failed, tally.failed);
    // Written in any case: a failed demo is the one that is looked into.
    let path = summary.write()?;
    narrator.chapter("The outcome");
    for failure in &tally.first_failures {
        narrator.tell(&format!("failed: {failure}"));
    }
    drop((vault, stage));
    summary.tell(&narrator);
    narrator.tell(&format!("every process is stopped; the same for programs is in {}", path.display()));
    result?;
    summary.judge()
}

async fn play(acts: &mut Acts<'_>, narrator: &Narrator, short: bool) -> Outcome {
    let old = acts.settle().await?;
    narrator.chapter("authority.backend: native becomes vault");
    let root = acts.switch(&old).await?;
    narrator.chapter("mode: intermediate: OpenBao certifies issuing CAs, and Signet signs leaves");
    acts.intermediate().await?;
    narrator.chapter("mode: intermediate, and OpenBao is sealed for two renewals");
    acts.sealed().await?;
    narrator.chapter("mode: leaf: OpenBao signs each certificate");
    acts.leaf(&root).await?;
    if !short {
        narrator.chapter("mode: leaf, and OpenBao is sealed until both agents are due and have asked in vain");
        acts.sealed_leaf().await?;
        narrator.chapter("The old root leaves");
        acts.retired(&old).await?;
    }
    Ok(())
}
