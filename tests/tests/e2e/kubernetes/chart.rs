//! The Helm chart, by Helm itself and a real API server: what it renders is taken, what is wrong is named, and its rights are those that
//! the CA needs.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{ISSUER, Kubernetes};
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::helm::{chart, helm};
use signet_tests::tools;

use super::chart_backends::backends;
use super::{Workload, connect};

pub(crate) fn made<T>(result: Result<T, signet_test_servers::ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("ask the API server"))
}

/// The objects that the chart makes of these values for the release `mesh` in `namespace`.
fn rendered(namespace: &str, values: &Value) -> Outcome<Vec<Value>> {
    rendered_as("mesh", namespace, values)
}

/// The same for another release.
pub(crate) fn rendered_as(release: &str, namespace: &str, values: &Value) -> Outcome<Vec<Value>> {
    let chart = chart().display().to_string();
    let (good, text) = helm(&["template", release, &chart, "--namespace", namespace], std::slice::from_ref(values))?;
    ensure(good, || text.clone())?;
    let documents = text.split("\n---").filter(|document| document.contains("kind:"));
    let read =
        |document: &str| serde_saphyr::from_str(document).map_err(Failure::while_doing("read what Helm renders"));
    documents.map(read).collect()
}

pub(crate) fn the<'v>(objects: &'v [Value], kind: &str, name: &str) -> Outcome<&'v Value> {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is).ok_or_else(|| Failure::unexpected(format!("no {kind} {name} in {objects:#?}")))
}

/// Values that are as different as can be, each by a name.
fn matrix() -> Vec<(&'static str, Value)> {
    [of_one_backend(), backends()].concat()
}

fn of_one_backend() -> Vec<(&'static str, Value)> {
    let postgres = json!({
        "kind": "postgres",
        "postgres": {"url": "postgres://signet@db.example:5432/signet", "passwordSecret": "db", "caSecret": "db-ca", "replicas": 3},
    });
    vec![
        ("as it is", json!({})),
        ("PostgreSQL", json!({"storage": postgres})),
        (
            "PostgreSQL and everything else",
            json!({
                "storage": postgres, "fullnameOverride": "ca", "sealingKey": {"secret": "mine", "key": "k"},
                "caFiles": {"secret": "cacerts"}, "init": {"replacing": ["ab".repeat(32)]},
                "image": {"digest": format!("sha256:{}", "0".repeat(64)), "pullSecrets": [{"name": "pull"}]},
                "networkPolicy": {"enabled": true, "from": [{"podSelector": {}}], "metricsFrom": [{"namespaceSelector": {}}]},
                "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "nodeSelector": {"e": "f"}, "priorityClassName": "high",
                "tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {}},
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {},
                }],
                "extraVolumes": [{"name": "more", "secret": {"secretName": "kubeconfigs"}}],
                "extraVolumeMounts": [{"name": "more", "mountPath": "/etc/signet/more"}],
                "serviceAccount": {"annotations": {"g": "h"}}, "service": {"type": "LoadBalancer", "annotations": {"i": "j"}},
            }),
        ),
        (
            "an agent on each node",
            json!({"agent": {"daemonSet": {"enabled": true}, "config": {"svid": {"ttl": "1h"}}}}),
        ),
        ("node agents and live objects", json!({"config": {"clusters": [every_right()]}})),
        (
            "neither account nor rights",
            json!({"serviceAccount": {"create": false, "name": "there"}, "rbac": {"create": false}}),
        ),
        ("no authority", json!({"init": {"enabled": false}, "storage": {"sqlite": {"storageClassName": "fast"}}})),
    ]
}

/// A cluster that needs every right there is.
pub(crate) fn every_right() -> Value {
    json!({
        "id": "Kubernetes", "trust_domain": "cluster.local", "api_server": "in-cluster",
        "trusted_node_accounts": ["istio-system/ztunnel"],
        "tokens": {"kind": "token-review", "issuer": ISSUER},
        "client_certificates": {"live_objects": true},
        "pod_certificates": {"signer": "signet.internal/workload"},
        "publish": {"config_maps": {}, "cluster_trust_bundle": {}},
    })
}

#[test]
#[ignore = "needs Helm; run it with: make test-kubernetes"]
fn the_chart_is_in_order_and_wrong_values_are_named_by_their_path() -> Outcome {
    let chart = chart().display().to_string();
    for (name, values) in matrix() {
        let (good, text) = helm(&["lint", "--strict", &chart], std::slice::from_ref(&values))?;
        ensure(good, || format!("{name}: {text}"))?;
    }
    for (values, words) in [
        (json!({"nonsense": 1}), "'nonsense' not allowed"),
        (json!({"image": {"repo": "x"}}), "at '/image': additional properties 'repo' not allowed"),
        (json!({"storage": {"kind": "mysql"}}), "at '/storage/kind': value must be one of 'sqlite', 'postgres'"),
        (json!({"storage": {"kind": "postgres"}}), "at '/storage/postgres/url'"),
        (json!({"sealingKey": {"secret": "UPPER"}}), "at '/sealingKey/secret'"),
        (json!({"config": {"clustrs": []}}), "at '/config': additional properties 'clustrs' not allowed"),
        (json!({"config": {"svid": {"default_ttl": "24x"}}}), "at '/config/svid/default_ttl': '24x' does not match"),
        (json!({"config": {"svid": {"default_ttl": ""}}}), "at '/config/svid/default_ttl'"),
        (json!({"config": {"listen": "[::]:1"}}), "at '/config': additional properties 'listen' not allowed"),
        (
            json!({"config": {"authority": {"backend": "files"}}}),
            "at '/config/authority': additional properties 'backend'",
        ),
        (json!({"config": {"clusters": [{"tokens": {"kind": "x"}}]}}), "at '/config/clusters/0/tokens/kind'"),
        (
            json!({"agent": {"config": {"sds": {"socket": "unix:///x"}}}}),
            "at '/agent/config/sds': additional properties 'socket'",
        ),
        (json!({"storage": {"postgres": {"replicas": 0}}}), "at '/storage/postgres/replicas'"),
    ] {
        let (good, text) = helm(&["template", "mesh", &chart], std::slice::from_ref(&values))?;
        ensure(!good && text.contains(words), || format!("{values}: {text}"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs Helm; run it with: make test-kubernetes"]
fn values_that_the_chart_takes_are_what_the_programs_read() -> Outcome {
    let schema = chart().join("values.schema.json");
    let before = std::fs::read_to_string(&schema).map_err(Failure::io("read the schema of the chart"))?;
    let copy = tempfile::NamedTempFile::new().map_err(Failure::io("make a file"))?;
    std::fs::write(copy.path(), &before).map_err(Failure::io("write a copy"))?;
    let mut fill = Command::new("python3");
    fill.arg(tools::source_root().join("deploy/helm/fill-schema.py")).arg(copy.path());
    let mut files = Vec::new();
    for program in ["signet-ca", "signet-agent"] {
        let said = tools::run(Command::new(tools::own(program)?).args(["check", "--schema"]))?;
        let file = tempfile::NamedTempFile::new().map_err(Failure::io("make a file"))?;
        std::fs::write(file.path(), said).map_err(Failure::io("write a schema"))?;
        fill.arg(file.path());
        files.push(file);
    }
    tools::run(&mut fill)?;
    let after = std::fs::read_to_string(copy.path()).map_err(Failure::io("read the copy"))?;
    ensure(before == after, || "values.schema.json is not what `make docs` makes".to_owned())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_real_api_server_takes_every_object_of_every_set_of_values() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let cluster = made(kubernetes.cluster().await)?;
    let namespace = made(cluster.namespace().await)?;
    let mut kinds = BTreeSet::new();
    for (name, values) in matrix() {
        for object in rendered(&namespace, &values)? {
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            if let Some(account) = object["spec"]["serviceAccountName"].as_str() {
                // A pod is taken only of an account that is there.
                if made(cluster.find("v1 ServiceAccount", &namespace, account).await)?.is_none() {
                    made(cluster.account(&namespace, account).await)?;
                }
            }
            let mut here = object.clone();
            if let Some(other) = here.pointer_mut("/metadata/namespace") {
                // Namespaces of others are not there.
                *other = json!(namespace);
            }
            let taken = cluster.would_make(&namespace, here).await;
            taken.map_err(Failure::while_doing(&format!("{name}: {object:#}")))?;
            kinds.insert(kind);
        }
    }
    // The Prometheus operator's kind is known to no API server of ours.
    let monitored =
        rendered(&namespace, &json!({"serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}}}))?;
    the(&monitored, "ServiceMonitor", "mesh-signet-ca")?;
    let expected = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "DaemonSet",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ];
    ensure(kinds.iter().eq(expected.iter()), || format!("{kinds:?}"))
}

/// The configuration that the chart makes, with its files below `dev`'s directory and the API server of a kubeconfig.
fn configuration(dev: &Dev, objects: &[Value]) -> Outcome<Value> {
    let text = the(objects, "ConfigMap", "mesh-signet-ca")?["data"]["signet-ca.yaml"].as_str().unwrap_or_default();
    let kubeconfig = dev.path("kubeconfig").display().to_string();
    let text = text.replace("in-cluster", &kubeconfig);
    serde_saphyr::from_str(&text).map_err(Failure::while_doing("read the configuration of the chart"))
}

/// With the chart's rights everything that the configuration needs is allowed, and with each of them taken away the CA says which one
/// it misses.
#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_rights_of_the_chart_are_those_that_the_ca_needs() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let (dev, own) = (Dev::plain()?, Workload::of(kubernetes).await?);
    let mut cluster = every_right();
    cluster["trusted_node_accounts"] = json!([format!("{}/web", own.namespace)]);
    let objects = rendered(&own.namespace, &json!({"config": {"clusters": [cluster]}}))?;
    let role = the(&objects, "ClusterRole", &format!("{}-mesh-signet-ca", own.namespace))?;
    let rules = role["rules"].as_array().cloned().unwrap_or_default();
    ensure(!rules.is_empty(), || format!("{role:#}"))?;
    super::credentials_of(&dev, kubernetes, &own, json!(rules)).await?;
    dev.set_ca("clusters", configuration(&dev, &objects)?["clusters"].clone())?;
    let (code, text) = connect::connect(&dev)?;
    ensure(code == Some(0), || text.clone())?;
    let mut ca = dev.start_ca().await?;
    let (client, token) = (Client::connect(&dev).await?, own.token().await?);
    super::until(&client, &token, None).await?;
    ca.process.stop().await?;
    let mut tried = 0;
    for (index, rule) in rules.iter().enumerate() {
        for part in parts(rule) {
            let mut left = rules.clone();
            left[index] = part.rest;
            made(own.cluster.allow(&own.namespace, "web", json!(left)).await)?;
            let (code, text) = missing(&dev).await?;
            ensure(code == Some(1) && text.contains(&part.missed), || format!("without {}: {text}", part.missed))?;
            tried += 1;
        }
    }
    ensure(tried >= 7, || format!("{tried}"))
}

/// A rule without one of its rights, and how that one is told.
pub(crate) struct Part {
    pub(crate) rest: Value,
    pub(crate) missed: String,
}

/// Each verb on each kind of a rule, without which the rest of it is left.
pub(crate) fn parts(rule: &Value) -> Vec<Part> {
    let texts = |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let mut all = Vec::new();
    for verb in texts("verbs") {
        for resource in texts("resources") {
            let mut rest = rule.clone();
            match (texts("resources").len(), texts("verbs").len()) {
                // A rule without verbs is none: it allows nothing.
                (1, 1) => rest["verbs"] = json!(["bind"]),
                (1, _) => rest["verbs"] = texts("verbs").into_iter().filter(|one| *one != verb).collect(),
                _ => rest["resources"] = texts("resources").into_iter().filter(|one| *one != resource).collect(),
            }
            all.push(Part { rest, missed: format!("may not {verb} {resource}") });
        }
    }
    all
}

/// What the CA says once the API server knows of a right that was taken away, which takes it a moment.
async fn missing(dev: &Dev) -> Outcome<(Option<i32>, String)> {
    let looking = async {
        loop {
            let (code, text) = connect::connect(dev)?;
            if code != Some(0) {
                return Ok((code, text));
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::SOON, looking).await.map_err(|_| Failure::unexpected("nothing is missed"))?
}

/// The manifests for who has no Helm, by their names, and the values that they are made of.
const PLAIN: [(&str, &[&str]); 2] = [
    ("sqlite.yaml", &[]),
    (
        "postgres.yaml",
        &[
            "storage.kind=postgres",
            "storage.postgres.url=postgres://signet@postgres:5432/signet",
            "storage.postgres.passwordSecret=signet-postgres",
        ],
    ),
];

#[test]
#[ignore = "needs Helm; run it with: make test-kubernetes"]
fn the_plain_manifests_are_what_the_chart_makes() -> Outcome {
    let chart = chart().display().to_string();
    for (name, values) in PLAIN {
        let mut arguments = vec!["template", "signet", &chart, "--namespace", "signet-system", "--skip-tests"];
        let sealing = "sealingKey.secret=signet-sealing-key";
        arguments.extend([sealing].iter().chain(values).flat_map(|value| ["--set", value]));
        let (good, text) = helm(&arguments, &[])?;
        ensure(good, || text.clone())?;
        let file = tools::source_root().join("deploy/kubernetes").join(name);
        let kept = std::fs::read_to_string(&file).map_err(Failure::io("read a manifest"))?;
        ensure(kept.ends_with(&text), || format!("{} is not what `make manifests` makes", file.display()))?;
    }
    Ok(())
}

/// What only an installation makes is made once: an upgrade keeps the key and makes no authority, whatever has become of the volume.
#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn an_upgrade_keeps_the_key_and_makes_no_authority() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let cluster = made(kubernetes.cluster().await)?;
    let namespace = made(cluster.namespace().await)?;
    let (chart, admin) = (chart().display().to_string(), kubernetes.admin_file().display().to_string());
    let run = |arguments: &[&str], values: &[Value]| {
        let common = ["--kubeconfig", &admin, "--namespace", &namespace];
        let (good, text) = helm(&[arguments, &common].concat(), values)?;
        ensure(good, || text.clone()).map(|()| text)
    };
    let said = run(&["install", "mesh", &chart], &[])?;
    ensure(said.contains("The Job mesh-signet-ca-init makes the first authority now"), || said.clone())?;
    let key = async || -> Outcome<Value> {
        let secret = made(cluster.find("v1 Secret", &namespace, "mesh-signet-ca-sealing-key").await)?;
        secret.map(|secret| secret["data"].clone()).ok_or_else(|| Failure::unexpected("there is no key"))
    };
    let job = async || made(cluster.find("batch/v1 Job", &namespace, "mesh-signet-ca-init").await);
    let first = key().await?;
    ensure(job().await?.is_some(), || "nothing makes the first authority".to_owned())?;

    let said = run(&["upgrade", "mesh", &chart], &[json!({"config": {"svid": {"max_ttl": "30d"}}})])?;
    ensure(said.contains("everything else with the new pods"), || said.clone())?;
    ensure(job().await?.is_none(), || "an upgrade would make an authority".to_owned())?;
    ensure(first == key().await?, || "an upgrade has replaced the key".to_owned())?;

    // Neither does whoever removes the release take the key away, nor does who installs it anew replace it.
    run(&["uninstall", "mesh"], &[])?;
    run(&["install", "mesh", &chart], &[])?;
    ensure(first == key().await?, || "a new installation has replaced the key".to_owned())
}
