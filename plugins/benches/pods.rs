//! Five thousand pods, changed over and over: what an index of them takes, and how long a look into it lasts. `make bench-pods`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    reason = "a bench ends where it fails"
)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signet_core::caller::{AuthMethod, BoundNode, BoundObject, Caller, Credential};
use signet_core::identity::WorkloadId;
use signet_core::seams::impersonation::ImpersonationAuthorizer as _;
use signet_core::seams::live_pods::LivePods as _;
use signet_plugins::kubernetes::{ApiServer, Credentials, Files, Followed, NodeAuthorizer, PodIndex};
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};
use tokio::sync::mpsc;

const PODS: u64 = 5000;
const NODES: u64 = 100;
/// How often all of them are replaced.
const ROUNDS: u64 = 20;
const LOOKS: u32 = 1_000_000;

/// A pod as a cluster has it: most of it is never read.
fn pod(slot: u64, round: u64) -> Value {
    let environment: Vec<Value> =
        (0..20).map(|n| json!({"name": format!("SETTING_{n}"), "value": "x".repeat(40)})).collect();
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "namespace": format!("ns-{}", slot % 50), "name": format!("web-{slot}-{round}"),
            "uid": format!("{slot:08}-0000-4000-8000-{round:012}"), "resourceVersion": format!("{}", 100 + round * PODS + slot),
            "labels": {"app": "web", "pod-template-hash": "abcdef"},
        },
        "spec": {
            "serviceAccountName": format!("sa-{}", slot % 500), "nodeName": format!("node-{}", slot % NODES),
            "containers": [{"name": "main", "image": "none", "env": environment}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    })
}

fn list(kind: &str, items: &[Value]) -> Answer {
    Answer::json(200, &json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "99"}, "items": items}))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn index() -> (ScriptedApi, Arc<PodIndex>, mpsc::UnboundedSender<String>) {
    let watch: Arc<Mutex<Option<mpsc::UnboundedSender<String>>>> = Arc::default();
    let kept = Arc::clone(&watch);
    let api = ScriptedApi::start(move |asked: Asked| {
        let is_watch = asked.path.contains("watch");
        let (sender, more) = mpsc::unbounded_channel();
        std::future::ready(match (asked.path.contains("/pods"), is_watch) {
            (true, true) => {
                *kept.lock().unwrap() = Some(sender);
                Answer::watch(&[], more)
            }
            (false, true) => {
                // Open for ever.
                std::mem::forget(sender);
                Answer::watch(&[], more)
            }
            (true, false) => list("PodList", &[]),
            (false, false) => {
                let node = |n| json!({"metadata": {"name": format!("node-{n}"), "uid": format!("node-uid-{n}")}});
                list("PartialObjectMetadataList", &(0..NODES).map(node).collect::<Vec<_>>())
            }
        })
    });
    let api = api.await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, api.kubeconfig()).unwrap();
    let read = |file: PathBuf| Box::pin(async move { std::fs::read(&file).map_err(|error| error.to_string()) }) as _;
    let files = Files::read_by(read);
    let server = ApiServer::open(Credentials::Kubeconfig(kubeconfig), files).await.unwrap();
    let index = PodIndex::new(Followed { nodes: true, accounts: false });
    let followed = Arc::clone(&index);
    #[expect(clippy::disallowed_methods, reason = "it ends with the bench")]
    tokio::spawn(async move { followed.follow(&server).await });
    until(|| watch.lock().unwrap().is_some() && index.health().unknown.is_none()).await;
    let sender = watch.lock().unwrap().take().unwrap();
    (api, index, sender)
}

fn agent() -> Caller {
    Caller {
        identity: WorkloadId::parse("spiffe://td/ns/ns-7/sa/sa-7").unwrap(),
        service_account_uid: "u".into(),
        pod: Some(BoundObject {
            name: format!("web-7-{ROUNDS}"),
            uid: format!("{:08}-0000-4000-8000-{ROUNDS:012}", 7),
        }),
        node: Some(BoundNode { name: "node-7".into(), uid: Some("node-uid-7".into()) }),
        cluster: "Kubernetes".into(),
        method: AuthMethod::Jwks,
        made_at: None,
        until: None,
        credential: Credential::default(),
    }
}

fn each_ns(what: impl Fn()) -> f64 {
    let start = Instant::now();
    for _ in 0..LOOKS {
        what();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKS)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo passes `--bench`, and `--test` where it only tries whether this starts.
    let (_api, index, watch) = index().await;
    let mut resident = Vec::new();
    let mut took = Duration::ZERO;
    for round in 0..=ROUNDS {
        let start = Instant::now();
        for slot in 0..PODS {
            let event = |kind: &str, object: Value| {
                watch.send(format!("{}\n", json!({"type": kind, "object": object}))).unwrap()
            };
            if let Some(before) = round.checked_sub(1) {
                event("DELETED", pod(slot, before));
            }
            event("ADDED", pod(slot, round));
            // Not all of a round lies in memory.
            if slot % 100 == 99 {
                let newest = format!("{slot:08}-0000-4000-8000-{round:012}");
                until(|| !index.is_gone(&newest)).await;
            }
        }
        took += start.elapsed();
        resident.push(resident_kib());
    }
    assert_eq!(index.health().pods as u64, PODS);
    let events = PODS * (2 * ROUNDS + 1);
    println!("{events} events of {PODS} pods in {:.1} s, made and read in this process", took.as_secs_f64());
    let kib: Vec<String> = resident.iter().map(ToString::to_string).collect();
    println!("resident KiB after each round: {}", kib.join(" "));

    let authorizer = NodeAuthorizer::new([("ns-7".to_owned(), "sa-7".to_owned())], Arc::clone(&index));
    let (agent, beside) = (agent(), WorkloadId::parse("spiffe://td/ns/ns-7/sa/sa-107").unwrap());
    assert!(authorizer.authorize(&agent, &beside).is_ok());
    let elsewhere = WorkloadId::parse("spiffe://td/ns/ns-7/sa/sa-8").unwrap();
    assert!(authorizer.authorize(&agent, &elsewhere).is_err());
    let allowed = each_ns(|| drop(black_box(authorizer.authorize(&agent, &beside))));
    let refused = each_ns(|| drop(black_box(authorizer.authorize(&agent, &elsewhere))));
    let gone = each_ns(|| {
        black_box(index.is_gone("00000007-0000-4000-8000-000000000001"));
    });
    println!("a look: allowed {allowed:.0} ns, refused {refused:.0} ns, whether a pod is gone {gone:.0} ns");
    let (first, last) = (resident.get(1).copied().unwrap_or_default(), resident.last().copied().unwrap_or_default());
    println!(
        "{}",
        json!({
            "events": events, "resident_kib_second_round": first, "resident_kib_last_round": last,
            "allowed_ns": allowed, "refused_ns": refused, "gone_ns": gone,
        })
    );
}
