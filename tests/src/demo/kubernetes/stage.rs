//! The stage of the Kubernetes demo: an API server, the CA as the chart installs it, and two pods with an agent and an Envoy each, as in
//! deploy/samples/sidecar.yaml.

use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::ServerError;
use signet_test_servers::kubernetes::{Kubernetes, MadePod};

use crate::client::certify::Client;
use crate::failure::{Failure, Outcome, ensure};
use crate::harness::envoy::{Bootstrap, Side};
use crate::harness::process::eventually;
use crate::harness::{Envoy, helm};
use crate::node::objects::core;
use crate::node::sample::sidecar;
use crate::node::{Node, Pod};
use crate::upstream::Upstream;

/// Where the CA is installed.
pub const SYSTEM: &str = "signet-system";
/// Where the workloads are.
pub const WORKLOADS: &str = "demo";
/// What kubelet's certificates and the ClusterTrustBundle belong to.
pub const SIGNER: &str = "signet.internal/workload";
const NODE: &str = "node-1";
/// How long something may take that follows at once, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// For `map_err`, of what test servers say.
pub fn made(doing: &str) -> impl FnOnce(ServerError) -> Failure {
    Failure::while_doing(doing)
}

/// The identity of a service account of the workloads' namespace.
#[must_use]
pub fn identity(account: &str) -> String {
    format!("spiffe://cluster.local/ns/{WORKLOADS}/sa/{account}")
}

/// Everything that runs. Fields are stopped from top to bottom.
pub struct Mesh<'k> {
    /// The proxy beside the caller.
    pub client_proxy: Envoy,
    /// The proxy in front of the service.
    pub server_proxy: Envoy,
    /// The caller's pod, of which the agent runs.
    pub client: Pod,
    /// The service's pod.
    pub server: Pod,
    /// The CA's pod.
    pub ca: Pod,
    /// The service.
    pub upstream: Upstream,
    /// The node that all pods are on.
    pub node: Node<'k>,
}

/// The values of the demo: those of the page, and everything a little faster than in a mesh.
fn values() -> Value {
    json!({"config": {
        "trust_domain": "cluster.local",
        "authority": {"rotation": {"automatic": false, "propagation": "3s"}},
        "serving": {"ttl": "40s"},
        "clusters": [{
            "id": "Kubernetes", "trust_domain": "cluster.local", "api_server": "in-cluster",
            "tokens": {"kind": "token-review", "remember": "1s"},
            "trusted_node_accounts": ["istio-system/ztunnel"],
            "pod_certificates": {"signer": SIGNER},
            "publish": {"config_maps": {}, "cluster_trust_bundle": {}},
        }],
    }})
}

impl<'k> Mesh<'k> {
    /// Installs and starts everything.
    ///
    /// # Errors
    /// [`Failure`] of the first part that does not start.
    pub async fn set(kubernetes: &'k Kubernetes, mut tell: impl FnMut(&str)) -> Outcome<Self> {
        let node = Node::join(kubernetes, NODE).await?;
        let (chart, admin) = (helm::chart().display().to_string(), kubernetes.admin_file().display().to_string());
        let install =
            ["install", "signet", &chart, "--namespace", SYSTEM, "--create-namespace", "--kubeconfig", &admin];
        helm::done(&install, &[values()])?;
        tell(
            "helm install signet: ServiceAccount, ClusterRole, Secret with the sealing key, ConfigMap, StatefulSet, Service, Job",
        );
        let mut ca = node.start(SYSTEM, "statefulset/signet-ca").await?;
        let told = async || Some(ca.probe("readinessProbe").await.ok()?.0);
        let told = eventually("an answer of the readiness probe", SOON, told).await;
        let status = told.map_err(|late| Failure::unexpected(format!("{late}: {}", ca.process.log())))?;
        ensure(status == 503, || format!("a CA without an authority says {status}"))?;
        tell("the pod of its template runs, alive and not ready: an empty volume makes no root by itself");
        let (ended, said) = node.complete(SYSTEM, "job/signet-ca-init").await?;
        ensure(ended.success(), || said)?;
        ca.ready().await?;
        tell(
            "the Job of the installation has made the first authority; no upgrade has that Job, so a lost volume makes no new root",
        );

        node.cluster.namespace_called(WORKLOADS).await.map_err(made("make a namespace"))?;
        let roots = published(&node, WORKLOADS, |_| true).await?;
        tell(&format!(
            "a new namespace, {WORKLOADS}, has ConfigMap istio-ca-root-cert a moment later: pods learn there whom to trust ({} root)",
            crate::client::keys::ids(&roots)?.len()
        ));
        let upstream = Upstream::start().await?;
        let (client, server) = (sidecar(&node, WORKLOADS, "client").await?, sidecar(&node, WORKLOADS, "server").await?);
        for (name, pod) in [("client", &client), ("server", &server)] {
            tell(&format!(
                "pod {}: its agent showed the pod's token, the CA asked the API server (TokenReview), and it is {}",
                pod.made().name,
                identity(name)
            ));
        }
        let socket = "/run/signet/agent.sock";
        let bootstrap = Bootstrap::new(Side::Server, &server.path(socket), upstream.address, &identity("client"))?;
        let server_proxy = Envoy::started("envoy-server", node.directory(), &bootstrap).await?;
        let bootstrap = Bootstrap::new(Side::Client, &client.path(socket), server_proxy.listen, &identity("server"))?;
        let client_proxy = Envoy::started("envoy-client", node.directory(), &bootstrap.reconnect_every(3)?).await?;
        tell(
            "an Envoy in each pod has certificate and roots from its agent over SDS; each admits the other's identity only",
        );
        Ok(Self { client_proxy, server_proxy, client, server, ca, upstream, node })
    }

    /// A client of the CA that trusts what is published in the workloads' namespace.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn connect(&self) -> Outcome<Client> {
        let roots = published(&self.node, WORKLOADS, |_| true).await?;
        Client::called(&format!("signet-ca.{SYSTEM}.svc"), self.ca.port("grpc")?, &roots).await
    }

    /// A pod of an account, on this node or on another one.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn pod(&self, namespace: &str, account: &str, node: &str) -> Outcome<MadePod> {
        let cluster = &self.node.cluster;
        cluster.namespace_called(namespace).await.map_err(made("make a namespace"))?;
        cluster.account(namespace, account).await.map_err(made("make an account"))?;
        let pod = cluster.pod(namespace, &format!("{account}-1"), account, node).await;
        pod.map_err(made("make a pod"))
    }

    /// A token for the CA, as the volume of a pod has it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn token(&self, pod: &MadePod, account: &str) -> Outcome<String> {
        self.node.cluster.token_of_pod(pod, account, "istio-ca").await.map_err(made("request a token"))
    }

    /// What kubelets do once a minute: pods see the ConfigMaps as they are.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn refresh(&mut self) -> Outcome {
        for pod in [&mut self.client, &mut self.server] {
            self.node.refresh(pod).await?;
        }
        Ok(())
    }

    /// Both proxies with their names.
    #[must_use]
    pub fn proxies(&self) -> [(&'static str, &Envoy); 2] {
        [("client", &self.client_proxy), ("server", &self.server_proxy)]
    }
}

/// The published roots of a namespace, once they are as wanted.
///
/// # Errors
/// [`Failure`].
pub async fn published(node: &Node<'_>, namespace: &str, wanted: impl Fn(&str) -> bool) -> Outcome<String> {
    let path = core(namespace, "configmaps", "istio-ca-root-cert");
    let there = async || {
        let map = node.objects.find(&path).await.ok()??;
        map["data"]["root-cert.pem"].as_str().filter(|roots| wanted(roots)).map(str::to_owned)
    };
    eventually(&format!("the roots in namespace {namespace}"), SOON, there).await
}
