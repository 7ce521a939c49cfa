//! Node agents ask for the identities of their node: every reason to refuse, over the wire, with what ztunnel sends.

use serde_json::json;
use signet_test_servers::kubernetes::{ApiServer, ISSUER, Kubernetes, MadePod};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Ca, Dev};
use tonic::Code;

use super::{SOON, Workload, condition, credentials, may_watch};

const OPAQUE: &str = "request impersonation authentication failure";

fn made<T>(result: Result<T, signet_test_servers::ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("change the cluster"))
}

/// A node agent beside the workload's pod, and what it asks with.
struct Stage {
    dev: Dev,
    web: Workload,
    agent: MadePod,
    own: Workload,
}

impl Stage {
    async fn new(kubernetes: &Kubernetes) -> Outcome<Self> {
        let (dev, web) = (Dev::plain()?, Workload::of(kubernetes).await?);
        made(web.cluster.account(&web.namespace, "ztunnel").await)?;
        let agent = made(web.cluster.pod(&web.namespace, "ztunnel-1", "ztunnel", &web.node).await)?;
        let own = credentials(&dev, kubernetes, may_watch()).await?;
        // Keys, not reviews: pods that are gone are to be seen by this check.
        dev.set_ca(
            "clusters",
            json!([{
                "id": "Kubernetes", "aliases": ["cluster-1"], "trust_domain": "cluster.local",
                "api_server": dev.path("kubeconfig").display().to_string(),
                "trusted_node_accounts": [format!("{}/ztunnel", web.namespace)],
                "tokens": {"kind": "jwks", "issuer": ISSUER, "from": "api-server"},
            }]),
        )?;
        Ok(Self { dev, web, agent, own })
    }

    async fn token(&self, pod: &MadePod, account: &str) -> Outcome<String> {
        made(self.web.cluster.token_of_pod(pod, account, "istio-ca").await)
    }

    fn identity(&self, account: &str) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{account}", self.web.namespace)
    }
}

/// What became of a question: `issued`, or the reason that is on record.
async fn ask(ca: &Ca, client: &Client, token: &str, asked: &str, cluster: &str) -> Outcome<String> {
    let csr = csr::like_ztunnel(Some(asked))?.csr;
    let ask = Ask { cluster: vec![cluster.to_owned()], ..Ask::like_ztunnel(&csr, token, asked) };
    match client.call(&ask).await {
        Ok(_) => Ok("issued".to_owned()),
        Err(status) if status.code() == Code::Unavailable => Ok("unavailable".to_owned()),
        Err(status) => {
            ensure((status.code(), status.message()) == (Code::Unauthenticated, OPAQUE), || format!("{status:?}"))?;
            let newest = ca.audit(&["--outcome", "refused"])?;
            let reason = newest.first().and_then(|event| event["reason"].as_str());
            Ok(reason.unwrap_or("a reason that is not on record yet").to_owned())
        }
    }
}

/// Asks until this comes of it: changes of a cluster arrive when they do.
async fn until(ca: &Ca, client: &Client, token: &str, asked: &str, expected: &str) -> Outcome {
    let mut last = String::new();
    let asking = async {
        loop {
            let before = ca.not_issued(expected).await?;
            last = ask(ca, client, token, asked, "Kubernetes").await?;
            // Repeated refusals share a record, which is made later; the counter is at once.
            if last == expected || (last != "issued" && ca.not_issued(expected).await? > before) {
                return Ok::<_, Failure>(());
            }
        }
    };
    let over = tokio::time::timeout(SOON, asking).await;
    over.map_err(|_| Failure::unexpected(format!("{asked}: {last}, never {expected}")))?
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_node_agent_gets_the_identities_of_its_node_and_every_refusal_has_its_reason() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let stage = Stage::new(kubernetes).await?;
    let Stage { web, agent, .. } = &stage;
    let (cluster, namespace, node) = (&web.cluster, &web.namespace, &web.node);
    for account in ["elsewhere", "done", "idle"] {
        made(cluster.account(namespace, account).await)?;
    }
    let far = format!("far-{node}");
    made(cluster.node(&far).await)?;
    made(cluster.pod(namespace, "elsewhere-1", "elsewhere", &far).await)?;
    let done = made(cluster.pod(namespace, "done-1", "done", node).await)?;
    made(cluster.phase(&done, "Succeeded").await)?;

    let mut ca = stage.dev.start_ca().await?;
    let client = Client::connect(&stage.dev).await?;
    let token = stage.token(agent, "ztunnel").await?;
    let id = |account: &str| stage.identity(account);
    until(&ca, &client, &token, &id("web"), "issued").await?;
    let record = ca.newest(&["--identity", &id("web"), "--outcome", "issued"])?;
    ensure(record["who"]["service_account"] == "ztunnel" && record["who"]["spiffe_id"] == id("web").as_str(), || {
        format!("{record}")
    })?;

    let unbound = made(cluster.token(namespace, "ztunnel", "istio-ca").await)?;
    let workload = stage.token(&web.pod, "web").await?;
    let own = id("ztunnel");
    for (token, asked, expected) in [
        (&token, own.as_str(), "issued"),
        (&token, &id("elsewhere"), "impersonated_not_on_node"),
        (&token, &id("done"), "impersonated_not_on_node"),
        (&token, &id("idle"), "impersonated_not_on_node"),
        (&token, &id("nobody"), "impersonated_not_on_node"),
        (&token, &id("web").replace("cluster.local", "other"), "impersonation_foreign_trust_domain"),
        (&token, &format!("{}/", id("web")), "impersonation_malformed"),
        (&token, &id("web").replace("cluster.local", "cluster.local,evil"), "impersonation_malformed"),
        (&workload, &own, "impersonator_not_trusted"),
        (&unbound, &id("web"), "impersonator_without_pod"),
    ] {
        until(&ca, &client, token, asked, expected).await?;
    }
    ensure(ask(&ca, &client, &token, &id("web"), "cluster-1").await? == "issued", || "by an alias".to_owned())?;

    // What becomes of the agent's own pod and node.
    made(cluster.delete_node(node).await)?;
    made(cluster.node(node).await)?;
    until(&ca, &client, &token, &id("web"), "impersonator_node_differs").await?;
    let fresh = stage.token(agent, "ztunnel").await?;
    until(&ca, &client, &fresh, &id("web"), "issued").await?;
    made(cluster.phase(agent, "Failed").await)?;
    until(&ca, &client, &fresh, &id("web"), "impersonator_pod_ended").await?;
    made(cluster.delete_pod(agent).await)?;
    until(&ca, &client, &fresh, &id("web"), "impersonator_pod_unknown").await?;
    let next = made(cluster.pod(namespace, "ztunnel-1", "ztunnel", node).await)?;
    until(&ca, &client, &fresh, &id("web"), "impersonator_pod_replaced").await?;
    let token = stage.token(&next, "ztunnel").await?;
    until(&ca, &client, &token, &id("web"), "issued").await?;
    made(cluster.delete_pod(&web.pod).await)?;
    until(&ca, &client, &token, &id("web"), "impersonated_not_on_node").await?;
    let (state, detail) = condition(&mut ca, "pods of Kubernetes").await?;
    ensure(state == "ready" && detail.contains("pods on"), || format!("{state}: {detail}"))
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn while_its_pods_are_not_known_a_node_agent_is_neither_allowed_nor_refused() -> Outcome {
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let stage = Stage::new(&kubernetes).await?;
    let Stage { web, own, agent, .. } = &stage;
    made(own.cluster.allow(&own.namespace, "web", json!([])).await)?;
    let token = stage.token(agent, "ztunnel").await?;
    let mut ca = stage.dev.start_ca().await?;
    let client = Client::connect(&stage.dev).await?;
    let asked = stage.identity("web");
    until(&ca, &client, &token, &asked, "unavailable").await?;
    let (state, detail) = condition(&mut ca, "pods of Kubernetes").await?;
    ensure(state == "degraded" && detail.contains("pods_not_synced"), || format!("{state}: {detail}"))?;
    made(own.cluster.allow(&own.namespace, "web", may_watch()).await)?;
    until(&ca, &client, &token, &asked, "issued").await?;

    // Away for a moment, it is believed that nothing has changed; back, what has changed meanwhile is seen.
    made(kubernetes.stop())?;
    ensure(ask(&ca, &client, &token, &asked, "Kubernetes").await? == "issued", || "not believed".to_owned())?;
    made(kubernetes.start_again(&ApiServer::default()))?;
    made(web.cluster.delete_pod(&web.pod).await)?;
    until(&ca, &client, &token, &asked, "impersonated_not_on_node").await
}
