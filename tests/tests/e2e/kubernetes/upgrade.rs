//! An earlier chart is upgraded in place to the one of this tree, the notes say what to do next, and a volume that is lost makes no root.

use std::path::PathBuf;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::Kubernetes;
use signet_tests::client::admin::root_ids;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::helm::chart;
use signet_tests::harness::process::eventually;
use signet_tests::node::objects::core;
use signet_tests::node::shell::Shell;
use signet_tests::tools;

use super::SOON;
use super::installed::{JOB, Release, STATEFUL_SET};

/// Charts of before, each with its values.
fn earlier() -> Outcome<Vec<(PathBuf, PathBuf)>> {
    let directory = tools::source_root().join("tests/tests/e2e/kubernetes/charts");
    let entries = std::fs::read_dir(directory).map_err(Failure::io("look for earlier charts"))?;
    let charts =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "tgz"));
    Ok(charts.map(|chart| (chart.clone(), chart.with_extension("values.yaml"))).collect())
}

/// The commands that notes tell to run.
fn commands(notes: &str) -> Vec<String> {
    let lines = notes.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| line.starts_with("kubectl ") || line.starts_with("helm ")).map(str::to_owned).collect()
}

/// Runs all that the notes tell to run; gives the commands and what they print.
async fn follow(notes: &str, shell: &mut Shell<'_, '_>) -> Outcome<String> {
    let mut said = String::new();
    for command in commands(notes) {
        let printed = shell.run(&command, &tools::source_root()).await;
        said +=
            &format!("$ {command}\n{}\n", printed.map_err(|error| Failure::unexpected(format!("{command}: {error}")))?);
    }
    Ok(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn an_earlier_chart_is_upgraded_in_place_and_its_notes_can_be_followed() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let earlier = earlier()?;
    ensure(!earlier.is_empty(), || "there is no earlier chart".to_owned())?;
    for (old, values) in earlier {
        let release = Release::prepare(kubernetes).await?;
        let (node, namespace) = (&release.node, release.namespace.as_str());
        node_agent(&release).await?;
        let (old, values) = (old.display().to_string(), values.display().to_string());
        let notes = release.helm(&["install", "mesh", &old, "--values", &values], &[])?;
        let mut shell = Shell::on(node);
        let said = follow(&notes, &mut shell).await?;
        for word in ["rollout status", "encryption-key", "Kubernetes", "Phase:          Succeeded", "BEGIN CERTIFICATE"]
        {
            ensure(said.contains(word), || format!("no {word}: {said}"))?;
        }
        let objects = async || -> Outcome<[Value; 3]> {
            Ok([
                node.objects.get(&format!("/apis/apps/v1/namespaces/{namespace}/statefulsets/mesh-signet-ca")).await?,
                node.objects.get(&core(namespace, "secrets", "mesh-signet-ca-sealing-key")).await?,
                node.objects.get(&core(namespace, "persistentvolumeclaims", "data-mesh-signet-ca-0")).await?,
            ])
        };
        let (before, roots) = (objects().await?, roots(&mut shell, namespace).await?);

        // The API server refuses whatever cannot be changed in place.
        let chart = chart().display().to_string();
        let notes = release.helm(&["upgrade", "mesh", &chart, "--values", &values], &[])?;
        let after = objects().await?;
        for (before, after) in before.iter().zip(&after) {
            ensure(before["metadata"]["uid"] == after["metadata"]["uid"], || format!("another one: {after:#}"))?;
        }
        ensure(before[1]["data"] == after[1]["data"], || "an upgrade has replaced the key".to_owned())?;
        let job = node.objects.find(&format!("/apis/batch/v1/namespaces/{namespace}/jobs/mesh-signet-ca-init")).await?;
        ensure(job.is_none(), || "an upgrade would make an authority".to_owned())?;
        // The controller replaces the pod.
        shell.remove(namespace, STATEFUL_SET).await?;
        let said = follow(&notes, &mut shell).await?;
        ensure(said.contains("rollout status") && said.contains("Phase:          Succeeded"), || said.clone())?;
        let now = self::roots(&mut shell, namespace).await?;
        ensure(now == roots && now.len() == 1, || format!("{roots:?} became {now:?}"))?;
    }
    Ok(())
}

/// The node agent that the values trust: `helm test` looks for it.
async fn node_agent(release: &Release<'_>) -> Outcome {
    let Release { node, namespace, .. } = release;
    let failed = Failure::while_doing::<signet_test_servers::ServerError>;
    node.cluster.namespace_called("istio-system").await.map_err(failed("make a namespace"))?;
    let account = json!({"metadata": {"name": "ztunnel"}});
    node.objects.make_if_absent("/api/v1/namespaces/istio-system/serviceaccounts", account).await?;
    let pod = node.cluster.pod("istio-system", &format!("ztunnel-{namespace}"), "ztunnel", &node.name).await;
    pod.map(drop).map_err(failed("make a pod"))
}

async fn roots(shell: &mut Shell<'_, '_>, namespace: &str) -> Outcome<Vec<String>> {
    let pod = shell.pod(namespace, STATEFUL_SET).ok_or_else(|| Failure::unexpected("the CA does not run"))?;
    let rotation = pod.admin()?.rotation().await.map_err(Failure::while_doing("ask for the authorities"))?;
    Ok(root_ids(&rotation))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_volume_that_is_lost_makes_no_new_root_and_what_is_published_stays() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let release = Release::prepare(kubernetes).await?;
    let (node, namespace) = (&release.node, release.namespace.as_str());
    let chart = chart().display().to_string();
    let values = [json!({"config": {"clusters": [release.cluster()]}})];
    release.helm(&["install", "mesh", &chart], &values)?;
    let mut ca = node.start(namespace, STATEFUL_SET).await?;
    let (ended, said) = node.complete(namespace, JOB).await?;
    ensure(ended.success(), || said)?;
    ca.ready().await?;
    release.client(&ca).await?;
    let map = core(&release.web.namespace, "configmaps", "istio-ca-root-cert");
    let published = node.objects.get(&map).await?["data"].clone();

    node.remove(ca).await?;
    node.lose(namespace, "data-mesh-signet-ca-0");
    release.helm(&["upgrade", "mesh", &chart], &values)?;
    let ca = node.start(namespace, STATEFUL_SET).await?;
    let waits = async || {
        let (status, said) = ca.probe("readinessProbe").await.ok()?;
        (status == 503 && said.contains("no authority")).then_some(())
    };
    eventually("a CA that says what it lacks", SOON, waits).await?;
    ensure(ca.probe("livenessProbe").await?.0 == 200, || "kubelet would restart it".to_owned())?;
    let job = node.objects.find(&format!("/apis/batch/v1/namespaces/{namespace}/jobs/mesh-signet-ca-init")).await?;
    ensure(job.is_none(), || "something would make an authority".to_owned())?;
    let now = node.objects.get(&map).await?["data"].clone();
    ensure(now == published, || format!("{published} became {now}"))
}
