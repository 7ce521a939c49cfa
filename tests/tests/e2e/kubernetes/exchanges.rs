//! What real API servers once said is what this one says: tests without one stand on the recorded exchanges.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{
    AccountKey, ApiServer, Cluster, Exchange, ISSUER, Kubernetes, MadePod, Request, Response, claims,
};
use signet_tests::client::token::{ClusterKey, Token};
use signet_tests::failure::{Failure, Outcome, ensure};

use super::{SOON, published_objects};

fn made<T>(result: Result<T, signet_test_servers::ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("prepare a cluster like the recorded one"))
}

/// Those that are not asked again, and why.
const LEFT: [(&str, &str); 2] = [
    ("tokenreview-expired", "a token lives for ten minutes at least"),
    ("throttled-429", "a server of its own: `a_throttled_server…` in matrix.rs meets one"),
];

/// A cluster with the objects that were there when the exchanges were recorded.
struct Stage<'k> {
    kubernetes: &'k Kubernetes,
    cluster: Cluster,
    accounts: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
    pods: BTreeMap<String, MadePod>,
    /// Tokens of Secrets by their names.
    legacy: BTreeMap<String, String>,
}

impl<'k> Stage<'k> {
    async fn new(kubernetes: &'k Kubernetes) -> Outcome<Self> {
        let cluster = made(kubernetes.cluster().await)?;
        let mut stage = Self {
            kubernetes,
            cluster,
            accounts: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            legacy: BTreeMap::new(),
        };
        for (namespace, account) in [
            ("demo", "web"),
            ("demo", "web.v1.2"),
            ("demo", "nobody"),
            ("demo", "gone"),
            ("demo", "again"),
            ("istio-system", "ztunnel"),
            ("istio-system", "signet-ca"),
        ] {
            made(stage.cluster.namespace_called(namespace).await)?;
            stage.account(namespace, account).await?;
        }
        for node in ["node-a", "ip-10-0-0-1.eu-test-1.compute.internal"] {
            let uid = made(stage.cluster.node(node).await)?;
            stage.nodes.insert(node.to_owned(), uid);
        }
        for (namespace, pod, account, node, phase) in [
            ("demo", "web-1", "web", Some("node-a"), "Running"),
            ("demo", "web-failed", "web", Some("node-a"), "Failed"),
            ("demo", "unscheduled", "web", None, "Pending"),
            ("istio-system", "ztunnel-abcde", "ztunnel", Some("node-a"), "Running"),
        ] {
            let pod = stage.pod(namespace, pod, account, node).await?;
            made(stage.cluster.phase(&pod, phase).await)?;
        }
        let reviews =
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]);
        made(stage.cluster.allow("istio-system", "signet-ca", reviews).await)?;
        Ok(stage)
    }

    async fn account(&mut self, namespace: &str, name: &str) -> Outcome {
        let key = format!("{namespace}/{name}");
        if !self.accounts.contains_key(&key) {
            let uid = made(self.cluster.account(namespace, name).await)?;
            self.accounts.insert(key, uid);
        }
        Ok(())
    }

    async fn pod(&mut self, namespace: &str, name: &str, account: &str, node: Option<&str>) -> Outcome<MadePod> {
        let key = format!("{namespace}/{name}");
        if let Some(pod) = self.pods.get(&key) {
            return Ok(pod.clone());
        }
        let pod = made(self.cluster.pod_on(namespace, name, account, node).await)?;
        self.pods.insert(key, pod.clone());
        Ok(pod)
    }

    /// A new token with the claims of a recorded one, for objects that are made first.
    async fn token(&mut self, name: &str) -> Outcome<String> {
        let claims = made(claims(name))?;
        let text = |pointer: &str| claims.pointer(pointer).and_then(Value::as_str);
        if let Some(secret) = text("/kubernetes.io~1serviceaccount~1secret.name") {
            return self.legacy(name, secret).await;
        }
        let at = |path: &str| text(&format!("/kubernetes.io/{path}"));
        let (Some(namespace), Some(account)) = (at("namespace"), at("serviceaccount/name")) else {
            return Err(Failure::unexpected(format!("{name}: {claims}")));
        };
        made(self.cluster.namespace_called(namespace).await)?;
        self.account(namespace, account).await?;
        let number = |name: &str| claims[name].as_i64().unwrap_or_default();
        let mut spec = json!({"expirationSeconds": number("exp") - number("iat")});
        if claims["aud"] != json!([ISSUER]) {
            spec["audiences"] = claims["aud"].clone();
        }
        let bound = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "name": name});
        if let Some(pod) = at("pod/name") {
            let node = at("node/name");
            self.pod(namespace, pod, account, node).await?;
            spec["boundObjectRef"] = bound("Pod", pod);
        } else if let Some(node) = at("node/name") {
            spec["boundObjectRef"] = bound("Node", node);
        } else if let Some(secret) = at("secret/name") {
            made(self.cluster.secret(namespace, secret).await)?;
            spec["boundObjectRef"] = bound("Secret", secret);
        }
        made(self.cluster.token_for(namespace, account, spec).await)
    }

    /// One of a Secret, as Kubernetes before 1.24 made for each account.
    async fn legacy(&mut self, name: &str, secret: &str) -> Outcome<String> {
        if let Some(token) = self.legacy.get(secret) {
            return Ok(token.clone());
        }
        let mut claims = made(claims(name))?;
        let uid = self.accounts.get("demo/web").cloned().unwrap_or_default();
        claims["kubernetes.io/serviceaccount/service-account.uid"] = uid.into();
        let key = ClusterKey::parse(&made(self.kubernetes.account_key(AccountKey::Rsa))?)?;
        let token = key.sign(&Token { header: json!({"alg": "RS256"}), claims })?;
        made(self.cluster.secret_token("demo", "web", secret, &token).await)?;
        self.legacy.insert(secret.to_owned(), token.clone());
        Ok(token)
    }

    /// The token that a recorded review was about, after what became of its objects.
    async fn reviewed(&mut self, review: &str) -> Outcome<Option<String>> {
        let name = match review {
            "empty-token" | "garbage" => return Ok(None),
            "bad-signature" => {
                let good = self.token("bound").await?;
                let cut = good.len().saturating_sub(9);
                return Ok(Some(format!("{}AAAAAAAAA", good.get(..cut).unwrap_or_default())));
            }
            "by-service-account"
            | "caller-anonymous"
            | "caller-forbidden"
            | "caller-unauthenticated"
            | "istio-ca-token-without-spec-audiences"
            | "two-audiences-asked-one-held" => "bound",
            "default-audience-token-for-istio-ca" | "default-audience-token-without-spec-audiences" => "noaud",
            "other-audience" => "vault",
            "several-audiences-asked-and-held" => "several",
            "deleted-pod-at-once" => "deleted_pod",
            "deleted-account" => "deleted_sa",
            "recreated-account" => "recreated_sa",
            "deleted-pod" | "recreated-pod" | "failed-pod" => &review.replace('-', "_"),
            legacy if legacy.starts_with("legacy-hand") => "legacy-hand",
            legacy if legacy.starts_with("legacy") => "legacy",
            other => other,
        };
        let token = self.token(name).await?;
        let pod = |stage: &mut Self, name: &str| stage.pods.remove(&format!("demo/{name}"));
        match review {
            "deleted-pod" | "deleted-pod-at-once" => {
                if let Some(pod) = pod(self, "web-gone") {
                    made(self.cluster.delete_pod(&pod).await)?;
                }
            }
            "recreated-pod" => {
                if let Some(before) = pod(self, "web-again") {
                    made(self.cluster.delete_pod(&before).await)?;
                    self.pod("demo", "web-again", "web", Some("node-a")).await?;
                }
            }
            "deleted-account" | "recreated-account" => {
                let name = if review == "deleted-account" { "gone" } else { "again" };
                made(self.cluster.delete_account("demo", name).await)?;
                self.accounts.remove(&format!("demo/{name}"));
                if review == "recreated-account" {
                    self.account("demo", name).await?;
                }
            }
            _ => {}
        }
        Ok(Some(token))
    }

    /// Who asked then.
    async fn caller(&self, name: &str) -> Outcome<Cluster> {
        let account = match name {
            name if published_objects::caller(name).is_some() => published_objects::caller(name).unwrap_or_default(),
            name if name.ends_with("by-service-account") => ("istio-system", "signet-ca"),
            name if name.ends_with("forbidden") => ("demo", "nobody"),
            name if name.ends_with("anonymous") => return made(self.kubernetes.cluster_of(None).await),
            name if name.ends_with("unauthenticated") => {
                return made(self.kubernetes.cluster_of(Some("nonsense")).await);
            }
            _ => return Ok(self.cluster.clone()),
        };
        let token = made(self.cluster.token(account.0, account.1, ISSUER).await)?;
        made(self.kubernetes.cluster_of(Some(&token)).await)
    }

    /// Sends the request of a recorded exchange with what belongs to this server.
    async fn again(&mut self, exchange: &Exchange) -> Outcome<Response> {
        let Exchange { name, request, .. } = exchange;
        let mut request = request.clone();
        if let Some(review) = name.strip_prefix("tokenreview-")
            && let Some(token) = self.reviewed(review).await?
        {
            request.body["spec"]["token"] = token.into();
        }
        if name.starts_with("tokenrequest-") {
            self.bind(name, &mut request).await?;
        }
        request = published_objects::prepare(&self.cluster, exchange, request).await?;
        let who = self.caller(name).await?;
        match name.as_str() {
            "pods-watch-by-node" | "pods-watch-phase-selector" => self.watch(request).await,
            // The server has to hear of it from etcd, and remembers a yes of before for ten seconds.
            name if name.contains("deleted") || name.contains("recreated") => {
                let asking = async {
                    loop {
                        let answer = made(who.send(&request).await)?;
                        if answer.shape() == exchange.response.shape() {
                            return Ok::<_, Failure>(answer);
                        }
                    }
                };
                let never = |_| Failure::unexpected(format!("{name}: never as it was recorded"));
                tokio::time::timeout(SOON, asking).await.map_err(never)?
            }
            _ => made(who.send(&request).await),
        }
    }

    /// Makes what a recorded TokenRequest binds to.
    async fn bind(&mut self, name: &str, request: &mut Request) -> Outcome {
        let parts: Vec<&str> = request.path.split('/').collect();
        let (namespace, account) = (parts.get(4).copied().unwrap_or("demo"), parts.get(6).copied().unwrap_or("web"));
        if name.contains("refused") {
            self.pod("demo", "web-1", "web", Some("node-a")).await?;
            self.pod("istio-system", "ztunnel-abcde", "ztunnel", Some("node-a")).await?;
        } else {
            made(self.cluster.namespace_called(namespace).await)?;
            self.account(namespace, account).await?;
        }
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        let bound = &mut request.body["spec"]["boundObjectRef"];
        let (kind, called) = (bound["kind"].clone(), bound["name"].as_str().unwrap_or_default().to_owned());
        match kind.as_str() {
            Some("Pod") if !name.contains("refused") => {
                let node = match called.as_str() {
                    "unscheduled" => None,
                    "ghost-1" => Some("no-such-node"),
                    _ => Some("node-a"),
                };
                bound["uid"] = self.pod(&namespace, &called, &account, node).await?.uid.into();
            }
            Some("Secret") => bound["uid"] = made(self.cluster.secret(&namespace, &called).await)?.into(),
            Some("Node") => bound["uid"] = self.nodes.get(&called).cloned().unwrap_or_default().into(),
            _ => {}
        }
        Ok(())
    }

    /// What happens to a pod while a watch listens from now on.
    async fn watch(&mut self, mut request: Request) -> Outcome<Response> {
        let list = Request { path: "/api/v1/pods?limit=1".to_owned(), ..request.clone() };
        let list = made(self.cluster.send(&list).await)?;
        let version = list.body.first().and_then(|list| list["metadata"]["resourceVersion"].as_str());
        let version = version.ok_or_else(|| Failure::unexpected("a list without a version"))?;
        request.path = request.path.replace("resourceVersion=271", &format!("resourceVersion={version}"));
        request.path = request.path.replace("resourceVersion=278", &format!("resourceVersion={version}"));
        let change = async {
            let pod = made(self.cluster.pod("demo", "churn", "web", "node-a").await)?;
            for phase in ["Running", "Succeeded"] {
                made(self.cluster.phase(&pod, phase).await)?;
            }
            made(self.cluster.delete_pod(&pod).await)
        };
        let (heard, changed) = tokio::join!(self.cluster.send(&request), change);
        changed?;
        made(heard)
    }
}

/// Asks all of these again, and says which are answered in another way.
async fn compare(stage: &mut Stage<'_>, exchanges: &[&Exchange]) -> Outcome<Vec<String>> {
    let mut other = Vec::new();
    for exchange in exchanges {
        let now = stage.again(exchange).await?.shape();
        let then = exchange.response.shape();
        if now != then {
            other.push(format!("{}:\n  then {then}\n  now  {now}", exchange.name));
        }
    }
    Ok(other)
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_real_server_answers_recorded_requests_as_it_did_when_they_were_recorded() -> Outcome {
    let all = made(Exchange::all())?;
    let special = ["two-issuers", "trailing-slash", "two-keys", "three-keys", "warnafter", "watch-gone"];
    let is_special = |exchange: &&Exchange| special.iter().any(|special| exchange.name.contains(special));
    let is_left = |exchange: &&Exchange| LEFT.iter().any(|(name, _)| exchange.name == *name);
    let usual: Vec<&Exchange> = all.iter().filter(|one| !is_special(one) && !is_left(one)).collect();
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let mut stage = Stage::new(&kubernetes).await?;
    let mut other = compare(&mut stage, &usual).await?;
    let mut compared = usual.len();

    let issuers = |issuers: &[&str]| issuers.iter().map(|issuer| (*issuer).to_owned()).collect::<Vec<_>>();
    let stretched = ["--service-account-extend-token-expiration=true", "--api-audiences=istio-ca"];
    for (how, names) in [
        (
            ApiServer {
                issuers: issuers(&["https://new.example", ISSUER]),
                keys: vec![AccountKey::Rsa, AccountKey::OtherRsa],
                ..ApiServer::default()
            },
            &["two-issuers", "two-keys"][..],
        ),
        (
            ApiServer {
                issuers: issuers(&[&format!("{ISSUER}/")]),
                keys: vec![AccountKey::Rsa, AccountKey::OtherRsa, AccountKey::Ec],
                ..ApiServer::default()
            },
            &["trailing-slash", "three-keys"],
        ),
        (
            ApiServer { flags: stretched.map(str::to_owned).to_vec(), ..ApiServer::default() },
            &["warnafter", "watch-gone"],
        ),
    ] {
        made(kubernetes.stop())?;
        made(kubernetes.start_again(&how))?;
        let special: Vec<&Exchange> =
            all.iter().filter(|one| names.iter().any(|name| one.name.contains(name))).collect();
        compared += special.len();
        other.extend(compare(&mut stage, &special).await?);
    }
    ensure(compared + LEFT.len() == all.len(), || format!("{compared} of {}", all.len()))?;
    ensure(other.is_empty(), || format!("{} of {compared} differ:\n{}", other.len(), other.join("\n")))
}
