//! Two releases of the chart on one database are one CA of two versions: clients of both accept each other, and move between them without
//! a failed request.

use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::Kubernetes;
use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::helm::chart;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Envoy, database};
use signet_tests::node::Pod;
use signet_tests::node::objects::core;
use signet_tests::node::sample::{move_to, sidecar_of};
use signet_tests::traffic::Traffic;
use signet_tests::upstream::Upstream;

use super::SOON;
use super::installed::{JOB, Release};

const SOCKET: &str = "/run/signet/agent.sock";

async fn roots(ca: &Pod) -> Outcome<Vec<String>> {
    let rotation = ca.admin()?.rotation().await.map_err(Failure::while_doing("ask for the authorities"))?;
    Ok(root_ids(&rotation))
}

async fn calm(ca: &Pod) -> Outcome {
    let mut last = Vec::new();
    let in_order = async || {
        last = ca.conditions().await.ok()?;
        last.retain(|check| check["state"] != "ready");
        last.is_empty().then_some(())
    };
    let calm = eventually("all conditions in order", SOON, in_order).await;
    calm.map_err(|late| Failure::unexpected(format!("{late}: {last:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn two_releases_on_one_database_are_one_ca_and_clients_move_between_them_without_a_failed_request() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let release = Release::prepare(kubernetes).await?;
    let (node, namespace, workloads) = (&release.node, release.namespace.as_str(), release.web.namespace.as_str());
    let server = database::shared()?;
    let url = server.url(&server.create_database().map_err(Failure::while_doing("make a database"))?);
    let chart = chart().display().to_string();
    let values = |more: Value| {
        let mut cluster = release.cluster();
        // Agents are node agents of nobody here, and a rotation is to wait for no kubelet.
        cluster["trusted_node_accounts"] = json!([]);
        let mut values = json!({
            "config": {
                "authority": {"rotation": {"automatic": false, "propagation": "2s"}},
                "clusters": [cluster],
            },
            "storage": {"kind": "postgres", "postgres": {"url": url, "tls": "off", "replicas": 1}},
        });
        if let (Some(values), Value::Object(more)) = (values.as_object_mut(), more) {
            values.extend(more);
        }
        [values]
    };
    release.helm(&["install", "mesh", &chart], &values(json!({})))?;
    let mut mesh = node.start(namespace, "deployment/mesh-signet-ca").await?;
    let (ended, said) = node.complete(namespace, JOB).await?;
    ensure(ended.success(), || said)?;
    mesh.ready().await?;

    // Whoever forgets the key of the first is told so, and harms nobody.
    release.helm(&["install", "other", &chart], &values(json!({"init": {"enabled": false}})))?;
    let other = node.start(namespace, "deployment/other-signet-ca").await?;
    let told = async || other.process.log().contains("needs the key-encryption key").then_some(());
    eventually("a CA that says which key it lacks", SOON, told).await?;
    ensure(other.probe("readinessProbe").await?.0 == 503, || "it is ready".to_owned())?;
    drop(other);
    release.helm(&["uninstall", "other"], &[])?;

    let shared = json!({"sealingKey": {"secret": "mesh-signet-ca-sealing-key"}, "init": {"enabled": false}, "image": {"tag": "next"}});
    let notes = release.helm(&["install", "canary", &chart], &values(shared))?;
    ensure(notes.contains("canary-signet-ca"), || notes.clone())?;
    let mut canary = node.start(namespace, "deployment/canary-signet-ca").await?;
    canary.ready().await?;
    let root = roots(&mesh).await?;
    ensure(root.len() == 1 && roots(&canary).await? == root, || format!("{root:?}"))?;
    release.client(&mesh).await?;
    for ca in [&mesh, &canary] {
        calm(ca).await?;
    }

    // A workload at each of them.
    let at = |name: &str| format!("https://{name}-signet-ca.{namespace}.svc:15012");
    let (first, second) = (at("mesh"), at("canary"));
    let id = |account: &str| format!("spiffe://cluster.local/ns/{workloads}/sa/{account}");
    let upstream = Upstream::start().await?;
    let mut client = sidecar_of(node, workloads, "client", &first).await?;
    let mut server = sidecar_of(node, workloads, "server", &second).await?;
    let bootstrap = Bootstrap::new(Side::Server, &server.path(SOCKET), upstream.address, &id("client"))?;
    let behind = Envoy::started("envoy-server", node.directory(), &bootstrap).await?;
    let bootstrap = Bootstrap::new(Side::Client, &client.path(SOCKET), behind.listen, &id("server"))?;
    let before = Envoy::started("envoy-client", node.directory(), &bootstrap.reconnect_every(3)?).await?;
    let traffic = Traffic::start(before.listen, 2, Duration::from_millis(20));
    let more = async || {
        let begun = traffic.tally().succeeded;
        eventually("requests", SOON, async || (traffic.tally().succeeded > begun + 100).then_some(())).await
    };
    more().await?;

    // There and back again, both of them at the other one's for a while.
    let serial = async || before.secrets().await?.serial();
    for (from, to) in [(&first, &second), (&second, &first)] {
        let held = serial().await?;
        move_to(node, &mut client, "client", (from, to)).await?;
        move_to(node, &mut server, "server", (to, from)).await?;
        let renewed = async || (serial().await.ok()? != held).then_some(());
        eventually("a certificate of the other one in Envoy", SOON, renewed).await?;
        more().await?;
    }

    // What one of them does is done by both.
    canary.ask(&["authority", "rotate"])?;
    let activated = async || {
        let rotation = mesh.admin().ok()?.rotation().await.ok()?;
        let active = active_root(&rotation);
        (!active.is_empty() && active != root[0]).then_some(active)
    };
    let new = eventually("the new root at the first one", SOON, activated).await?;
    more().await?;
    let published = node.objects.get(&core(workloads, "configmaps", "istio-ca-root-cert")).await?;
    let published = signet_tests::client::keys::ids(published["data"]["root-cert.pem"].as_str().unwrap_or_default())?;
    ensure(published.contains(&new), || format!("{new} is not in {published:?}"))?;

    // The canary goes, and takes nothing with it.
    move_to(node, &mut server, "server", (&second, &first)).await?;
    node.remove(canary).await?;
    release.helm(&["uninstall", "canary"], &[])?;
    more().await?;
    calm(&mesh).await?;
    let tally = traffic.stop().await;
    ensure(tally.failed == 0, || format!("{} of {}: {:#?}", tally.failed, tally.succeeded, tally.first_failures))
}

/// Two CAs, which have storages and roots of their own, are to write the same ConfigMap: that is a mistake, and both say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn two_releases_that_are_two_cas_and_publish_under_one_name_are_told_of_each_other() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let release = Release::prepare(kubernetes).await?;
    let (node, namespace) = (&release.node, release.namespace.as_str());
    let chart = chart().display().to_string();
    let mut cluster = release.cluster();
    cluster["trusted_node_accounts"] = json!([]);
    for name in ["pod_certificates", "client_certificates"] {
        cluster.as_object_mut().and_then(|cluster| cluster.remove(name));
    }
    let mut running = Vec::new();
    for name in ["one", "two"] {
        release.helm(&["install", name, &chart], &[json!({"config": {"clusters": [cluster]}})])?;
        let mut ca = node.start(namespace, &format!("statefulset/{name}-signet-ca")).await?;
        let (ended, said) = node.complete(namespace, &format!("job/{name}-signet-ca-init")).await?;
        ensure(ended.success(), || said)?;
        ca.ready().await?;
        running.push(ca);
    }
    let told = async || {
        for ca in &running {
            let all = ca.conditions().await.ok()?;
            let names_it = |check: &Value| {
                let text = |key: &str| check[key].as_str().unwrap_or_default();
                text("name").starts_with("publisher config-map/")
                    && text("detail").contains("another CA (field manager signet-ca)")
            };
            if all.iter().any(names_it) {
                return Some(());
            }
        }
        None
    };
    eventually("one of two CAs to name the other", SOON, told).await
}
