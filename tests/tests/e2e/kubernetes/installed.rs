//! The CA by what the chart has installed in a real cluster: its pod is made of the template, and holds what the objects hold. Each right
//! that is taken from it is named by the CA that runs.

use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::Kubernetes;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::helm::{chart, done, helm};
use signet_tests::harness::process::eventually;
use signet_tests::node::objects::core;
use signet_tests::node::{Node, Pod};
use signet_tests::tools;
use tonic::Code;

use super::chart::{every_right, parts};
use super::{SOON, Workload, ask, until};

pub(crate) const STATEFUL_SET: &str = "statefulset/mesh-signet-ca";
pub(crate) const JOB: &str = "job/mesh-signet-ca-init";

/// A release of the chart in a namespace of its own, and a workload in another one.
pub(crate) struct Release<'k> {
    pub(crate) kubernetes: &'k Kubernetes,
    pub(crate) web: Workload,
    pub(crate) namespace: String,
    pub(crate) node: Node<'k>,
}

impl<'k> Release<'k> {
    /// Nothing is installed yet.
    pub(crate) async fn prepare(kubernetes: &'k Kubernetes) -> Outcome<Self> {
        let web = Workload::of(kubernetes).await?;
        let namespace = web.cluster.namespace().await.map_err(Failure::while_doing("make a namespace"))?;
        let node = Node::join(kubernetes, &format!("ca-of-{namespace}")).await?;
        Ok(Self { kubernetes, web, namespace, node })
    }

    /// A cluster with every section there is, which publishes in the namespaces of this test alone.
    pub(crate) fn cluster(&self) -> Value {
        let mut cluster = every_right();
        let names = format!("kubernetes.io/metadata.name in ({}, {})", self.namespace, self.web.namespace);
        cluster["trusted_node_accounts"] = json!([format!("{}/web", self.web.namespace)]);
        cluster["pod_certificates"]["signer"] = json!(format!("{}.internal/workload", self.namespace));
        cluster["publish"] = json!({
            "config_maps": {"namespaces": names},
            "cluster_trust_bundle": {"signer": format!("{}.internal/workload", self.namespace)},
        });
        cluster
    }

    pub(crate) fn helm(&self, arguments: &[&str], values: &[Value]) -> Outcome<String> {
        let admin = self.kubernetes.admin_file().display().to_string();
        done(&[arguments, &["--kubeconfig", &admin, "--namespace", &self.namespace]].concat(), values)
    }

    /// A client that trusts what the CA has published in the workload's namespace.
    pub(crate) async fn client(&self, ca: &Pod) -> Outcome<Client> {
        let map = core(&self.web.namespace, "configmaps", "istio-ca-root-cert");
        let published = async || {
            let map = self.node.objects.find(&map).await.ok()??;
            map["data"]["root-cert.pem"].as_str().map(str::to_owned)
        };
        let roots = eventually("the published roots", SOON, published).await?;
        Client::called(&format!("mesh-signet-ca.{}.svc", self.namespace), ca.port("grpc")?, &roots).await
    }

    /// `helm test`, whose pod runs here.
    pub(crate) async fn helm_test(&self) -> Outcome<String> {
        let admin = self.kubernetes.admin_file().display().to_string();
        let namespace = self.namespace.clone();
        let testing = tokio::task::spawn_blocking(move || {
            helm(&["test", "mesh", "--kubeconfig", &admin, "--namespace", &namespace], &[])
        });
        let path = core(&self.namespace, "pods", "mesh-signet-ca-check");
        let there = async || self.node.objects.find(&path).await.ok()?;
        let pod = eventually("the pod of helm test", SOON, there).await?;
        self.node.to_its_end(pod).await?;
        let (good, said) = testing.await.map_err(Failure::while_doing("run helm test"))??;
        ensure(good, || said.clone()).map(|()| said)
    }
}

/// Waits until a condition of the running CA says this.
async fn says(ca: &Pod, name: &str, state: &str, words: &str) -> Outcome {
    let mut last = Value::Null;
    let said = async || {
        last = ca.conditions().await.ok()?.into_iter().find(|check| check["name"] == name)?;
        (last["state"] == state && last["detail"].as_str()?.contains(words)).then_some(())
    };
    let over = eventually(&format!("{name}: {state}, {words}"), SOON, said).await;
    over.map_err(|late| Failure::unexpected(format!("{late}; last: {last}; {}", ca.process.log())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_ca_runs_by_what_the_chart_has_installed_and_names_each_right_that_is_taken_from_it() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let release = Release::prepare(kubernetes).await?;
    let Release { web, namespace, node, .. } = &release;
    let chart = chart().display().to_string();
    release.helm(&["install", "mesh", &chart], &[json!({"config": {"clusters": [release.cluster()]}})])?;

    // Without an authority it lives and is not ready; the Job makes one.
    let mut ca = node.start(namespace, STATEFUL_SET).await?;
    let alive = async || ca.probe("livenessProbe").await.ok().filter(|(status, _)| *status == 200).map(drop);
    eventually("a CA that lives", SOON, alive).await?;
    let waits = async || {
        let (status, said) = ca.probe("readinessProbe").await.ok()?;
        (status == 503 && said.contains("no authority")).then_some(())
    };
    eventually("a CA that says what it lacks", SOON, waits).await?;
    let (ended, said) = node.complete(namespace, JOB).await?;
    ensure(ended.success(), || said.clone())?;
    ca.ready().await?;

    // Everything that needs a right works: reviews, pods of a node, publishers, certificates of pods.
    let client = release.client(&ca).await?;
    let token = web.token().await?;
    until(&client, &token, None).await?;
    let leaf = &ask(&client, &token).await?.map_err(Failure::while_doing("ask again"))?[0];
    let leaf = crate::facts::of(leaf)?;
    ensure(leaf.uris == [web.identity()], || format!("{leaf:?}"))?;
    let csr = csr::like_ztunnel(Some(&web.identity()))?.csr;
    let impersonated = async || client.call(&Ask::like_ztunnel(&csr, &token, &web.identity())).await.ok();
    eventually("a certificate for a pod of the node", SOON, impersonated).await?;
    let said = release.helm_test().await?;
    ensure(said.contains("Phase:          Succeeded"), || said.clone())?;
    says(&ca, "rights in Kubernetes", "ready", "all the rights").await?;
    let degraded = async || {
        let all = ca.conditions().await.ok()?;
        all.iter().all(|check| check["state"] == "ready").then_some(())
    };
    let calm = eventually("all conditions in order", SOON, degraded).await;
    if calm.is_err() {
        return Err(Failure::unexpected(format!("not in order: {:#?}", ca.conditions().await?)));
    }

    each_right_is_named(&release, &mut ca).await?;
    let role = role(namespace);
    let rules = node.objects.get(&role).await?["rules"].clone();
    ensure(rules.is_array(), || rules.to_string())?;
    until(&client_again(&release, &ca).await?, &web.token().await?, None).await
}

fn role(namespace: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{namespace}-mesh-signet-ca")
}

async fn client_again(release: &Release<'_>, ca: &Pod) -> Outcome<Client> {
    let connected = async || release.client(ca).await.ok();
    eventually("a connection", Duration::from_secs(30), connected).await
}

/// Takes one right after the other from the account; a CA that starts without it says so by itself.
async fn each_right_is_named(release: &Release<'_>, ca: &mut Pod) -> Outcome {
    let (node, role) = (&release.node, role(&release.namespace));
    let rules = node.objects.get(&role).await?["rules"].as_array().cloned().unwrap_or_default();
    let mut tried = 0;
    for (index, rule) in rules.iter().enumerate() {
        for part in parts(rule) {
            let mut left = rules.clone();
            left[index] = part.rest.clone();
            node.objects.change(&role, json!({"rules": left})).await?;
            known(release, rule, &part.missed).await?;
            node.restart(ca).await?;
            says(ca, "rights in Kubernetes", "degraded", &part.missed).await?;
            let log = ca.process.log();
            ensure(log.contains("the CA lacks rights in a cluster"), || log.clone())?;
            if part.missed == "may not create tokenreviews" {
                says(ca, "tokens of Kubernetes", "degraded", "does not let the CA's account create TokenReviews")
                    .await?;
                let client = client_again(release, ca).await?;
                let answer = ask(&client, &release.web.token().await?).await?.map_err(|status| status.code());
                ensure(answer == Err(Code::Unavailable), || format!("{answer:?}"))?;
            }
            tried += 1;
        }
    }
    ensure(tried >= 20, || format!("only {tried} rights were taken away"))?;
    // Given back, it says so without a restart.
    node.objects.change(&role, json!({"rules": rules})).await?;
    says(ca, "rights in Kubernetes", "ready", "all the rights").await
}

/// Waits until the API server itself knows that a right is gone.
async fn known(release: &Release<'_>, rule: &Value, missed: &str) -> Outcome {
    let (verb, resource) = missed.trim_start_matches("may not ").split_once(' ').unwrap_or_default();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let asked = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{}:mesh-signet-ca", release.namespace),
            "resourceAttributes": {
                "verb": verb, "resource": resource, "subresource": subresource, "group": rule["apiGroups"][0],
                "name": rule["resourceNames"][0].as_str().unwrap_or_default(),
            },
        },
    });
    let gone = async || {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = release.node.objects.make(path, asked.clone()).await.ok()?;
        (answer["status"]["allowed"] == false).then_some(())
    };
    eventually(&format!("the API server to know: {missed}"), SOON, gone).await
}

/// The socket's directory is the node's, which kubelet makes for root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_agent_of_a_node_serves_its_identity_on_the_socket_of_the_node() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let release = Release::prepare(kubernetes).await?;
    let (node, namespace) = (&release.node, release.namespace.as_str());
    let chart = chart().display().to_string();
    let agents = json!({"config": {"clusters": [release.cluster()]}, "agent": {"daemonSet": {"enabled": true}}});
    release.helm(&["install", "mesh", &chart], &[agents])?;
    let mut ca = node.start(namespace, STATEFUL_SET).await?;
    let (ended, said) = node.complete(namespace, JOB).await?;
    ensure(ended.success(), || said)?;
    ca.ready().await?;
    release.client(&ca).await?;
    // Its pod waits for the roots, which are there a moment later.
    let map = core(namespace, "configmaps", "istio-ca-root-cert");
    let there = async || node.objects.find(&map).await.ok()?;
    eventually("the roots in the namespace of the agent", SOON, there).await?;
    let mut agent = node.start(namespace, "daemonset/mesh-signet-agent").await?;
    agent.ready().await?;
    ensure(agent.path("/run/signet/agent.sock").exists(), || agent.process.log())?;
    let said = tools::run(&mut agent.exec(&["inspect", "--config", "/etc/signet/config/signet-agent.yaml"]))?;
    ensure(said.contains(&format!("spiffe://cluster.local/ns/{namespace}/sa/mesh-signet-agent")), || said.clone())
}
