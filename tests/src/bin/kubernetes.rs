//! `make demo-kubernetes`: the CA as its chart installs it, beside a real API server. Pods prove themselves by their tokens, roots go where
//! pods look for them, and a root is replaced under requests of which none may fail. `--short` leaves out the wait for the old root's end.
#![allow(clippy::arithmetic_side_effects, reason = "times here are near, and a panic is a failed test")]

use std::process::ExitCode;
use std::time::Duration;

use signet_test_servers::kubernetes::{ApiServer, Kubernetes};
use signet_tests::demo::kubernetes::acts::Acts;
use signet_tests::demo::kubernetes::stage::{Mesh, made};
use signet_tests::demo::kubernetes::summary::Summary;
use signet_tests::demo::narrator::Narrator;
use signet_tests::demo::until_interrupted;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::tools;
use signet_tests::traffic::Traffic;

/// Clients, and the pause of each between two requests.
const WORKERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(40);

#[tokio::main]
async fn main() -> ExitCode {
    until_interrupted("demo-kubernetes", demo()).await
}

async fn demo() -> Outcome {
    tools::envoy()?;
    tools::openssl()?;
    tools::helm()?;
    let short = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--short") => true,
        Some(other) => return Err(Failure::unexpected(format!("{other}: the only option is --short"))),
    };
    let narrator = Narrator::default();
    narrator.chapter("A cluster, and the CA as its chart installs it");
    let kubernetes = Kubernetes::start(&ApiServer::default()).map_err(made("start an API server"))?;
    narrator.tell(&format!(
        "a real kube-apiserver with an etcd of its own answers on {}; kubelets and controllers are played",
        kubernetes.url()
    ));
    let mesh = Mesh::set(&kubernetes, |line| narrator.tell(line)).await?;

    narrator.chapter("Requests: application -> Envoy -> mutual TLS -> Envoy -> service, until the end");
    let traffic = Traffic::start(mesh.client_proxy.listen, WORKERS, PAUSE);
    let mut acts = Acts {
        mesh,
        kubernetes: &kubernetes,
        narrator: &narrator,
        traffic: &traffic,
        summary: Summary::default(),
        reasons: Vec::new(),
    };
    let result = play(&mut acts, &narrator, short).await;
    let Acts { mesh, mut summary, .. } = acts;
    let tally = traffic.stop().await;
    (summary.requests, summary.failed) = (tally.succeeded + tally.failed, tally.failed);
    // Written in any case: a failed demo is the one that is looked into.
    let path = summary.write()?;
    narrator.chapter("The outcome");
    for failure in &tally.first_failures {
        narrator.tell(&format!("failed: {failure}"));
    }
    drop(mesh);
    drop(kubernetes);
    summary.tell(&narrator);
    narrator.tell(&format!("every process is stopped; the same for programs is in {}", path.display()));
    result?;
    summary.judge()
}

async fn play(acts: &mut Acts<'_, '_>, narrator: &Narrator, short: bool) -> Outcome {
    acts.requests(100).await?;
    narrator.chapter("A node agent, as ztunnel is one, asks for the pods of its node");
    let agent = acts.node_agent().await?;
    narrator.chapter("The root is replaced");
    let (old, new) = acts.rotate().await?;
    let leaver = acts.leaver().await?;
    acts.moved(&new).await?;
    narrator.chapter("A pod without an agent has its certificate from its kubelet");
    acts.pod_certificate().await?;
    narrator.chapter("A pod that was deleted");
    acts.gone(leaver).await?;
    if !short {
        narrator.chapter("The old root leaves");
        acts.retired(&old).await?;
    }
    narrator.chapter("What there is in the end");
    acts.in_order().await?;
    acts.summary.impersonated = agent.certificates()?;
    Ok(())
}
