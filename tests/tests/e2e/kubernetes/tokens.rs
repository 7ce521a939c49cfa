//! Who a token proves, in each mode, while its cluster changes.

use serde_json::json;
use signet_test_servers::kubernetes::{AccountKey, ApiServer, ISSUER, Kubernetes};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use tonic::Code;

use super::{SOON, Workload, ask, cluster_of, condition, credentials, may_review, may_watch, told, until};

fn made<T>(result: Result<T, signet_test_servers::ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("change the cluster"))
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn reviewed_tokens_get_certificates_and_those_of_pods_that_are_gone_do_not() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(kubernetes).await?);
    credentials(&dev, kubernetes, may_review()).await?;
    cluster_of(&dev, json!({"kind": "token-review", "issuer": ISSUER, "remember": "0s"}))?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let token = web.token().await?;
    until(&client, &token, None).await?;
    let record = ca.newest(&["--identity", &web.identity(), "--outcome", "issued"])?;
    let who = &record["who"];
    ensure(
        who["auth_method"] == "token-review"
            && who["pod_uid"] == web.pod.uid.as_str()
            && who["node"] == web.node.as_str(),
        || format!("{record}"),
    )?;
    ensure(who["node_uid"].as_str().is_some_and(|uid| uid.len() == 36), || format!("{record}"))?;
    ensure(condition(&mut ca, "tokens of Kubernetes").await?.0 == "ready", || "not ready".to_owned())?;

    // An account of another name is another one; so is a pod.
    let second = web.token().await?;
    made(web.cluster.delete_pod(&web.pod).await)?;
    // The server has to hear of it from etcd first.
    until(&client, &second, Some(Code::Unauthenticated)).await?;
    ca.refused_for("token_rejected").await?;
    let metrics = ca.metrics().await?;
    for result in ["authenticated", "refused"] {
        let count = metrics.sum("signet_ca_token_reviews_total", &[&format!("result=\"{result}\"")]);
        ensure(count >= 1.0, || format!("{result}: {count}"))?;
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn trouble_with_the_api_server_is_ours_and_shown_and_callers_are_told_to_retry() -> Outcome {
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
    let own = credentials(&dev, &kubernetes, json!([])).await?;
    cluster_of(&dev, json!({"kind": "token-review", "remember": "0s", "deadline": "500ms"}))?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let token = web.token().await?;

    let unavailable = Some(Code::Unavailable);
    until(&client, &token, unavailable).await?;
    let (state, detail) = condition(&mut ca, "tokens of Kubernetes").await?;
    ensure(state == "degraded" && detail.contains("api_forbidden"), || format!("{state}: {detail}"))?;
    made(own.cluster.allow(&own.namespace, "web", may_review()).await)?;
    until(&client, &token, None).await?;
    let (state, detail) = condition(&mut ca, "tokens of Kubernetes").await?;
    ensure(state == "ready", || format!("{state}: {detail}"))?;

    made(kubernetes.hold(true))?;
    until(&client, &token, unavailable).await?;
    let (_, detail) = condition(&mut ca, "tokens of Kubernetes").await?;
    ensure(detail.contains("api_timed_out"), || detail)?;
    made(kubernetes.hold(false))?;
    until(&client, &token, None).await?;

    made(kubernetes.stop())?;
    until(&client, &token, unavailable).await?;
    made(kubernetes.start_again(&ApiServer::default()))?;
    until(&client, &token, None).await?;
    ensure(ca.not_issued("api_unreachable").await? >= 1.0, || "not counted".to_owned())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn keys_from_the_api_server_are_kept_while_it_is_away_and_new_ones_are_found_at_once() -> Outcome {
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
    credentials(&dev, &kubernetes, json!([])).await?;
    cluster_of(&dev, json!({"kind": "jwks", "issuer": ISSUER, "from": "api-server"}))?;
    let (first, second) = (web.token().await?, web.token().await?);
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    until(&client, &first, None).await?;
    // Nobody asks whether the pod is there: docs/kubernetes.md says so.
    made(web.cluster.delete_pod(&web.pod).await)?;
    until(&client, &second, None).await?;

    made(kubernetes.stop())?;
    let other = ask(&client, &first).await?;
    ensure(other.is_ok(), || format!("{other:?}"))?;

    let how = ApiServer { keys: vec![AccountKey::OtherRsa, AccountKey::Rsa], ..ApiServer::default() };
    made(kubernetes.start_again(&how))?;
    let of_the_new_key = made(web.cluster.token(&web.namespace, "web", "istio-ca").await)?;
    let answer = ask(&client, &of_the_new_key).await?;
    ensure(answer.is_ok(), || format!("{answer:?}"))?;
    // A server that has just started refuses the first look at its keys now and then.
    told(&mut ca, "tokens of Kubernetes", "ready", "").await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_ca_starts_while_its_clusters_keys_cannot_be_read_and_has_them_when_they_can() -> Outcome {
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
    credentials(&dev, &kubernetes, json!([])).await?;
    cluster_of(&dev, json!({"kind": "jwks", "issuer": ISSUER, "from": "api-server"}))?;
    let token = web.token().await?;
    made(kubernetes.stop())?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    until(&client, &token, Some(Code::Unavailable)).await?;
    let (state, detail) = condition(&mut ca, "tokens of Kubernetes").await?;
    ensure(state == "degraded" && detail.contains("no token can be verified"), || format!("{state}: {detail}"))?;
    made(kubernetes.start_again(&ApiServer::default()))?;
    until(&client, &token, None).await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn keys_of_an_issuer_are_found_by_its_discovery_document() -> Outcome {
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    // An issuer that can be asked, where anybody may.
    let url = kubernetes.url();
    let how = ApiServer {
        issuers: vec![url.clone()],
        flags: vec![format!("--service-account-jwks-uri={url}/openid/v1/jwks")],
        ..ApiServer::default()
    };
    made(kubernetes.start_again(&how))?;
    let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
    let paths =
        json!([{"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}]);
    made(web.cluster.allow_everybody(paths).await)?;
    let tokens = json!({
        "kind": "jwks", "issuer": url, "from": "issuer", "issuer_ca_file": kubernetes.ca_file().display().to_string(),
    });
    dev.set_ca("clusters", json!([{"id": "Kubernetes", "trust_domain": "cluster.local", "tokens": tokens}]))?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    until(&client, &web.token().await?, None).await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn offline_too_a_token_ends_with_its_pod_or_account_where_these_are_followed() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(kubernetes).await?);
    credentials(&dev, kubernetes, may_watch()).await?;
    cluster_of(&dev, json!({"kind": "jwks", "issuer": ISSUER, "from": "api-server", "live_objects": true}))?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let of_pod = web.token().await?;
    let of_account = made(web.cluster.token(&web.namespace, "web", "istio-ca").await)?;
    until(&client, &of_pod, None).await?;
    until(&client, &of_account, None).await?;
    // What ended is seen at once. What is gone is put off for as long as it may be news, which tokens of a minute are.
    made(web.cluster.phase(&web.pod, "Failed").await)?;
    until(&client, &of_pod, Some(Code::Unauthenticated)).await?;
    ca.refused_for("pod_gone").await?;
    made(web.cluster.delete_account(&web.namespace, "web").await)?;
    until(&client, &of_account, Some(Code::Unavailable)).await?;
    let (state, detail) = condition(&mut ca, "pods of Kubernetes").await?;
    ensure(state == "ready", || format!("{state}: {detail}"))
}

/// A server that hangs costs those who need it their time, and nobody else a place.
#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn while_the_api_server_of_one_cluster_hangs_strangers_with_its_tokens_keep_nobody_of_another_waiting() -> Outcome
{
    let kubernetes = made(Kubernetes::start(&ApiServer::default()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(&kubernetes).await?);
    credentials(&dev, &kubernetes, may_review()).await?;
    let remote = json!({
        "id": "remote", "trust_domain": "cluster.local", "api_server": dev.path("kubeconfig").display().to_string(),
        "tokens": {"kind": "token-review", "remember": "0s", "deadline": "9s"},
    });
    dev.edit("signet-ca.yaml", |config| {
        let clusters = config["clusters"].as_array_mut().ok_or_else(|| Failure::unexpected("no clusters"))?;
        clusters.push(remote);
        Ok(())
    })?;
    let token = web.token().await?;
    let mut ca = dev.start_ca().await?;
    made(kubernetes.hold(true))?;
    let csr = csr::like_ztunnel(None)?.csr;
    let mut strangers = tokio::task::JoinSet::new();
    for number in 0..400 {
        // One token many times, and many tokens: the signature is looked at by the API server alone, which hangs.
        let token = if number % 2 == 0 { token.clone() } else { format!("{token}{number:04}") };
        let (client, csr) = (Client::connect(&dev).await?, csr.clone());
        let ask = Ask { cluster: vec!["remote".to_owned()], ..Ask::new(&csr, &token) };
        strangers.spawn(async move { client.call(&ask).await.err().map(|status| status.code()) });
    }
    let busy = async {
        while ca.not_issued("api_busy").await? < 1.0 {}
        Ok::<_, Failure>(())
    };
    tokio::time::timeout(SOON, busy).await.map_err(|_| Failure::unexpected("nobody was told to retry"))??;
    let own = Client::connect(&dev).await?;
    for _ in 0..20 {
        own.certificate(&dev, "client").await?;
    }
    let (state, _) = condition(&mut ca, "tokens of Kubernetes").await?;
    ensure(state == "ready", || state)?;
    made(kubernetes.hold(false))?;
    while let Some(code) = strangers.join_next().await {
        let code = code.map_err(Failure::while_doing("ask"))?;
        let told = [None, Some(Code::Unavailable), Some(Code::Unauthenticated), Some(Code::ResourceExhausted)];
        ensure(told.contains(&code), || format!("{code:?}"))?;
    }
    Ok(())
}
