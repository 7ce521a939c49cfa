//! Which tokens are believed in which mode, and what a server does that has enough or takes rights away.

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{AccountKey, ApiServer, Cluster, ISSUER, Kubernetes};
use signet_tests::client::certify::Client;
use signet_tests::client::token::{ClusterKey, Token};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use tokio::task::JoinSet;
use tonic::Code;

use super::{SOON, Workload, ask, cluster_of, condition, credentials, may_review, may_watch, told, until};

fn made<T>(result: Result<T, signet_test_servers::ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("change the cluster"))
}

/// Everything that an account of a pod may do, in one list of rules.
fn may_all() -> Value {
    let lists = [may_review(), may_watch()];
    lists.iter().flat_map(|rules| rules.as_array().cloned().unwrap_or_default()).collect()
}

/// A token as Secrets held them, signed by the cluster's key.
async fn legacy(kubernetes: &Kubernetes, web: &Workload, uid: &str) -> Outcome<String> {
    let claims = json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": web.namespace,
        "kubernetes.io/serviceaccount/secret.name": "web-token",
        "kubernetes.io/serviceaccount/service-account.name": "web",
        "kubernetes.io/serviceaccount/service-account.uid": uid,
        "sub": format!("system:serviceaccount:{}:web", web.namespace),
    });
    let key = ClusterKey::parse(&made(kubernetes.account_key(AccountKey::Rsa))?)?;
    let token = key.sign(&Token { header: json!({"alg": "RS256"}), claims })?;
    made(web.cluster.secret_token(&web.namespace, "web", "web-token", &token).await)?;
    Ok(token)
}

/// A token of `web` with this lifetime and these audiences, bound to what is said.
async fn token(
    cluster: &Cluster,
    web: &Workload,
    seconds: u64,
    audiences: &[&str],
    bound: Option<Value>,
) -> Outcome<String> {
    let mut spec = json!({"audiences": audiences, "expirationSeconds": seconds});
    if let Some(bound) = bound {
        spec["boundObjectRef"] = bound;
    }
    made(cluster.token_for(&web.namespace, "web", spec).await)
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn each_kind_of_token_is_believed_or_refused_for_its_reason_in_each_mode() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let jwks = json!({"kind": "jwks", "issuer": ISSUER, "from": "api-server"});
    let mut live = jwks.clone();
    live["live_objects"] = true.into();
    for (mode, tokens) in [
        ("reviews", json!({"kind": "token-review", "issuer": ISSUER, "remember": "0s"})),
        ("keys", jwks),
        ("live objects", live),
    ] {
        let (dev, web) = (Dev::plain()?, Workload::of(kubernetes).await?);
        credentials(&dev, kubernetes, may_all()).await?;
        cluster_of(&dev, tokens)?;
        let mut ca = dev.start_ca().await?;
        let client = Client::connect(&dev).await?;
        until(&client, &web.token().await?, None).await?;

        let cluster = &web.cluster;
        let uid = made(cluster.account_uid(&web.namespace, "web").await)?;
        let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "name": name});
        made(cluster.secret(&web.namespace, "plain").await)?;
        let unscheduled = made(cluster.pod_on(&web.namespace, "waits", "web", None).await)?;
        let bound = |kind, name| Some(object(kind, name));
        let ours = &["istio-ca"][..];
        let good = token(cluster, &web, 3600, ours, None).await?;
        let cut = good.len().saturating_sub(9);
        let forged = format!("{}AAAAAAAAA", good.get(..cut).unwrap_or_default());
        for (kind, token, reason) in [
            ("of nothing but its account", good.clone(), None),
            ("bound to a node", token(cluster, &web, 3600, ours, bound("Node", &web.node)).await?, None),
            ("bound to a Secret", token(cluster, &web, 3600, ours, bound("Secret", "plain")).await?, None),
            ("of a pod without a node", made(cluster.token_of_pod(&unscheduled, "web", "istio-ca").await)?, None),
            ("for several", token(cluster, &web, 3600, &["vault", "istio-ca"], None).await?, None),
            ("for somebody else", token(cluster, &web, 3600, &["vault"], None).await?, Some("audience_mismatch")),
            ("for the API server", token(cluster, &web, 3600, &[ISSUER], None).await?, Some("audience_mismatch")),
            ("of a Secret", legacy(kubernetes, &web, &uid).await?, Some("token_legacy")),
            ("forged", forged, Some("signature_invalid")),
        ] {
            let before = match reason {
                Some(reason) => ca.not_issued(reason).await?,
                None => 0.0,
            };
            let answer = ask(&client, &token).await?;
            match (reason, &answer) {
                (None, Ok(_)) => {}
                (Some(reason), Err(status)) if status.code() == Code::Unauthenticated => {
                    let after = ca.not_issued(reason).await?;
                    // A server that judges the signature itself says no more than that the token is no good.
                    let rejected = mode == "reviews" && ca.not_issued("token_rejected").await? > 0.0;
                    ensure(after > before || rejected, || format!("{mode}: {kind}: not for {reason}"))?;
                }
                _ => return Err(Failure::unexpected(format!("{mode}: {kind}: {answer:?}"))),
            }
        }

        // Pods and accounts that are gone, and others of their names.
        let (of_pod, of_account) = (web.token().await?, token(cluster, &web, 3600, ours, None).await?);
        made(cluster.delete_pod(&web.pod).await)?;
        made(cluster.pod(&web.namespace, "web-1", "web", &web.node).await)?;
        let expected = if mode == "keys" { None } else { Some(Code::Unauthenticated) };
        until(&client, &of_pod, expected).await?;
        made(cluster.delete_account(&web.namespace, "web").await)?;
        made(cluster.account(&web.namespace, "web").await)?;
        until(&client, &of_account, expected).await?;
        let (state, detail) = condition(&mut ca, "tokens of Kubernetes").await?;
        ensure(state == "ready", || format!("{mode}: {state}: {detail}"))?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_throttled_server_costs_callers_a_retry_and_no_refusal() -> Outcome {
    let flags =
        ["--enable-priority-and-fairness=false", "--max-requests-inflight=1", "--max-mutating-requests-inflight=1"];
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
    credentials(&dev, &kubernetes, may_review()).await?;
    cluster_of(&dev, json!({"kind": "token-review", "remember": "0s"}))?;
    let mut tokens = Vec::new();
    for _ in 0..40 {
        tokens.push(web.token().await?);
    }
    made(kubernetes.stop())?;
    made(kubernetes.start_again(&ApiServer { flags: flags.map(str::to_owned).to_vec(), ..ApiServer::default() }))?;
    let mut ca = dev.start_ca().await?;
    until(&Client::connect(&dev).await?, &web.token().await?, None).await?;
    let throttled = async {
        while ca.not_issued("api_throttled").await? < 1.0 {
            let mut asking = JoinSet::new();
            for token in tokens.clone() {
                let client = Client::connect(&dev).await?;
                asking.spawn(async move { ask(&client, &token).await });
            }
            while let Some(answer) = asking.join_next().await {
                let answer = answer.map_err(Failure::while_doing("ask"))??;
                let code = answer.err().map(|status| status.code());
                ensure(matches!(code, None | Some(Code::Unavailable)), || format!("{code:?}"))?;
            }
        }
        Ok::<_, Failure>(())
    };
    tokio::time::timeout(SOON, throttled).await.map_err(|_| Failure::unexpected("nobody was throttled"))??;
    for token in &tokens {
        until(&Client::connect(&dev).await?, token, None).await?;
    }
    let (state, detail) = condition(&mut ca, "tokens of Kubernetes").await?;
    ensure(state == "ready", || format!("{state}: {detail}"))
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn rights_that_are_taken_away_from_a_running_watch_are_told_and_what_was_known_is_believed_for_a_while() -> Outcome
{
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
    let own = credentials(&dev, &kubernetes, may_watch()).await?;
    cluster_of(&dev, json!({"kind": "jwks", "issuer": ISSUER, "from": "api-server", "live_objects": true}))?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    until(&client, &web.token().await?, None).await?;

    // A watch that is open goes on; the next one is refused.
    made(own.cluster.allow(&own.namespace, "web", json!([])).await)?;
    made(kubernetes.stop())?;
    made(kubernetes.start_again(&ApiServer::default()))?;
    told(&mut ca, "pods of Kubernetes", "degraded", "api_forbidden").await?;
    let answer = ask(&client, &web.token().await?).await?;
    ensure(answer.is_ok(), || format!("{answer:?}"))?;

    made(own.cluster.allow(&own.namespace, "web", may_watch()).await)?;
    told(&mut ca, "pods of Kubernetes", "ready", "pods on").await?;
    made(web.cluster.phase(&web.pod, "Failed").await)?;
    let token = web.token().await?;
    until(&client, &token, Some(Code::Unauthenticated)).await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_cluster_changes_its_issuer_and_the_new_one_is_taken_over_without_a_restart() -> Outcome {
    const NEW: &str = "https://new.example";
    for kind in ["token-review", "jwks"] {
        let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
        let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
        let own = credentials(&dev, &kubernetes, may_all()).await?;
        let tokens = |issuers: &[&str]| match kind {
            "jwks" => json!({"kind": kind, "issuer": issuers, "from": "api-server"}),
            _ => json!({"kind": kind, "issuer": issuers, "remember": "0s"}),
        };
        cluster_of(&dev, tokens(&[ISSUER]))?;
        let ca = dev.start_ca().await?;
        let client = Client::connect(&dev).await?;
        let old = web.token().await?;
        until(&client, &old, None).await?;

        let how = ApiServer { issuers: vec![NEW.to_owned(), ISSUER.to_owned()], ..ApiServer::default() };
        made(kubernetes.stop())?;
        made(kubernetes.start_again(&how))?;
        // The credentials of the CA are for the audience that the server had before, and its own are renewed like that.
        let token = made(own.cluster.token(&own.namespace, "web", NEW).await)?;
        std::fs::write(dev.path("ca-token"), token).map_err(Failure::io("write the CA's own token"))?;
        let new = web.token().await?;
        let refused = ask(&client, &new).await?.err().map(|status| status.code());
        ensure(refused == Some(Code::Unauthenticated), || format!("{kind}: {refused:?}"))?;
        ca.refused_for("issuer_mismatch").await?;
        cluster_of(&dev, tokens(&[ISSUER, NEW]))?;
        until(&client, &new, None).await?;
        until(&client, &old, None).await?;
    }
    Ok(())
}
