//! An API server that is away, or does not let tokens be reviewed, is told of before anybody shows a token, and so is its
//! return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use signet_test_servers::scripted::{Answer, Asked};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};

use super::{Cluster, SOON, put};

const GONE: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{name: a, user: {token: t}}]\n\
    clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
    contexts: [{name: a, context: {cluster: a, user: a}}]\n";

/// Waits until readiness says this of the tokens of a cluster, and `status` has a problem or none.
async fn told(ca: &mut Ca, cluster: usize, id: &str, (state, words): (&str, &str)) -> Outcome<Value> {
    let (mut last, mut status) = (Value::Null, Value::Null);
    let telling = async {
        loop {
            last = ca.ready_is(true, SOON).await?;
            status = ca.ask(&["status"])?["clusters"][cluster].clone();
            let name = format!("tokens of {id}");
            let check = last["checks"].as_array().into_iter().flatten().find(|check| check["name"] == name.as_str());
            let says = check.is_some_and(|check| {
                check["state"] == state && check["detail"].as_str().is_some_and(|detail| detail.contains(words))
            });
            if says && status["reviews"]["problem"].is_string() == (state == "degraded") {
                return Ok::<_, Failure>(());
            }
        }
    };
    let over = tokio::time::timeout(SOON, telling).await;
    over.map_err(|_| Failure::unexpected(format!("{id}: never {state}, {words}: {last} {status}")))??;
    Ok(status)
}

#[tokio::test]
async fn it_is_told_before_any_token_whether_a_cluster_can_be_asked_and_again_when_that_changes() -> Outcome {
    let dev = Dev::plain()?;
    let allowed = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&allowed);
    let instead = move |asked: &Asked| {
        let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        (asked.path.trim_end_matches('?') == reviews).then(|| {
            let mut answer = asked.body.clone();
            answer["status"] = json!({"allowed": may.load(Ordering::SeqCst)});
            Answer::json(201, &answer)
        })
    };
    let cluster = Cluster::start_with(&dev, Box::new(instead)).await?;
    std::fs::write(dev.path("gone"), GONE).map_err(Failure::io("write a kubeconfig"))?;
    let of = |id: &str, kubeconfig: &str| {
        json!({
            "id": id, "trust_domain": "cluster.local", "api_server": dev.path(kubeconfig).display().to_string(),
            "tokens": {"kind": "token-review"},
        })
    };
    let mut clusters = json!([of("here", "kubeconfig"), of("away", "gone")]);
    clusters[1]["trusted_node_accounts"] = json!(["demo/ztunnel"]);
    put(&dev, |config| config["clusters"] = clusters)?;
    let mut ca = dev.start_ca().await?;
    let shown = told(&mut ca, 0, "here", ("degraded", "api_forbidden")).await?;
    ensure(shown["reviews"]["at"].is_null(), || format!("nobody has shown a token: {shown}"))?;
    told(&mut ca, 1, "away", ("degraded", "api_unreachable")).await?;
    let unavailable = async |clusters: f64| {
        let metrics = ca.metrics().await.ok()?;
        (metrics.sum("signet_ca_token_reviews_unavailable", &[]) == clusters).then_some(())
    };
    eventually("both in metrics", SOON, async || unavailable(2.0).await).await?;

    allowed.store(true, Ordering::SeqCst);
    told(&mut ca, 0, "here", ("ready", "not asked about any yet")).await?;
    std::fs::write(dev.path("gone"), cluster.api.kubeconfig()).map_err(Failure::io("write a kubeconfig"))?;
    told(&mut ca, 1, "away", ("ready", "not asked about any yet")).await?;
    ensure(ca.metrics().await?.sum("signet_ca_token_reviews_unavailable", &[]) == 0.0, || {
        "still in trouble".to_owned()
    })?;
    let reviewed = cluster.api.asked().iter().filter(|asked| asked.path.contains("tokenreviews")).count();
    ensure(reviewed == 0, || format!("{reviewed} reviews, and nobody has shown a token"))?;

    // One line for each change, of our own.
    let log = ca.process.log();
    let of_ours = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    ensure(of_ours("the API server does not judge tokens") == 2, || log.clone())?;
    ensure(of_ours("the API server can be asked about tokens again") == 2, || log.clone())?;
    for pods in ["the pods of a cluster are not known", "the pods of a cluster are known"] {
        eventually(pods, SOON, async || (ca.process.log().matches(pods).count() == 1).then_some(())).await?;
    }
    ensure(of_ours("kube_client") == 0, || log.clone())?;
    ca.process.stop().await.map(drop)
}
