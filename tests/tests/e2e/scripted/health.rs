//! What is watched of a cluster goes on while others change; what operators are told of it; and whom its node agents may be.

use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools;

use super::{Cluster, SOON, no, put, trusting};

/// Waits until `status` shows this of its first cluster.
async fn first_cluster(ca: &Ca, what: &str, holds: impl Fn(&Value) -> bool) -> Outcome<Value> {
    let mut last = Value::Null;
    let seen = eventually(what, SOON, async || {
        let status = ca.ask(&["status"]).ok()?;
        let first = status["clusters"].get(0)?.clone();
        last = status;
        holds(&first).then_some(first)
    });
    seen.await.map_err(|late| Failure::unexpected(format!("{late}: {last}")))
}

fn ids(status: &Value) -> Vec<&str> {
    status["clusters"].as_array().into_iter().flatten().filter_map(|cluster| cluster["id"].as_str()).collect()
}

#[tokio::test]
async fn a_cluster_goes_on_being_watched_while_others_change_and_no_longer_than_it_is_served() -> Outcome {
    let dev = Dev::plain()?;
    let cluster = Cluster::start(&dev).await?;
    let (file, watched) = (signet_tests::harness::yaml::read(&dev.path("signet-ca.yaml"))?, trusting(&dev)?);
    let file = file["clusters"][0].clone();
    put(&dev, |config| config["clusters"] = json!([watched]))?;
    let mut ca = dev.start_ca().await?;
    first_cluster(&ca, "pods", |cluster| cluster["pods"]["synced"] == true && cluster["keys"]["usable"] == 1).await?;
    eventually("a watch", SOON, async || cluster.is_watched().then_some(())).await?;
    ensure(cluster.asked_for_pods() == (1, 1), || format!("{:?}", cluster.asked_for_pods()))?;

    // Another cluster comes, and this one gets another name, trusts somebody else, and believes other tokens.
    let mut other = file.clone();
    (other["id"], other["aliases"]) = (json!("other"), json!([]));
    put(&dev, |config| config["clusters"] = json!([watched, other]))?;
    let served = async |expected: &[&str]| {
        let both = async || (ids(&ca.ask(&["status"]).ok()?) == expected).then_some(());
        eventually("other clusters", SOON, both).await
    };
    served(&["Kubernetes", "other"]).await?;
    changed(&ca, "added", "other").await?;
    for (field, value) in [
        ("aliases", json!(["cluster-2"])),
        ("trusted_node_accounts", json!(["demo/ztunnel", "demo/other"])),
        ("audiences", json!(["istio-ca", "more"])),
    ] {
        put(&dev, |config| config["clusters"][0][field] = value)?;
        let changes = lines(&ca).len() + 1;
        eventually("the change", SOON, async || (lines(&ca).len() >= changes).then_some(())).await?;
        changed(&ca, "changed", "Kubernetes").await?;
    }
    ensure(cluster.asked_for_pods() == (1, 1) && cluster.is_watched(), || format!("{:?}", cluster.asked_for_pods()))?;
    let explained = ca.ask(&["explain", "--caller", "demo/other", "--for", "spiffe://cluster.local/ns/demo/sa/web"]);
    ensure(explained.is_err_and(|error| !error.to_string().contains("not in trusted_node_accounts")), || {
        "the new account is not trusted".to_owned()
    })?;

    put(&dev, |config| config["clusters"] = json!([other]))?;
    served(&["other"]).await?;
    changed(&ca, "removed", "Kubernetes").await?;
    eventually("the end of the watch", SOON, async || (!cluster.is_watched()).then_some(())).await?;
    let ready = ca.ready_is(true, SOON).await?.to_string();
    ensure(!ready.contains("of Kubernetes"), || ready.clone())?;
    ca.process.stop().await.map(drop)
}

/// The lines that other clusters were taken over.
fn lines(ca: &Ca) -> Vec<Value> {
    let log = ca.process.log();
    let lines = log.lines().filter(|line| line.contains("other clusters are served now"));
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// That the last of them says that one cluster was added, changed or removed, and nothing else happened.
async fn changed(ca: &Ca, how: &str, cluster: &str) -> Outcome {
    let expected =
        ["added", "changed", "removed"].map(|one| if one == how { format!("[{cluster:?}]") } else { "[]".into() });
    let told = async || {
        let last = lines(ca).pop()?;
        (["added", "changed", "removed"].map(|one| last[one].as_str().unwrap_or_default().to_owned()) == expected)
            .then_some(())
    };
    let late = eventually("the line that says which clusters", SOON, told).await;
    late.map_err(|late| Failure::unexpected(format!("{late}: {how} {cluster}: {:?}", lines(ca))))
}

#[tokio::test]
async fn status_shows_how_each_cluster_is() -> Outcome {
    let dev = Dev::plain()?;
    let instead = |asked: &signet_test_servers::scripted::Asked| {
        let forbidden = asked.path.starts_with("/api/v1/nodes") || asked.path.contains("tokenreviews");
        forbidden.then(|| no(403, "Forbidden", "you may not do this"))
    };
    let _cluster = Cluster::start_with(&dev, Box::new(instead)).await?;
    let mut reviewing = trusting(&dev)?;
    reviewing["tokens"] = json!({"kind": "token-review"});
    put(&dev, |config| config["clusters"] = json!([reviewing]))?;
    let mut ca = dev.start_ca().await?;
    let client = signet_tests::client::certify::Client::connect(&dev).await?;
    let _refused = client.certificate(&dev, "client").await;
    let shown = first_cluster(&ca, "what was asked", |cluster| {
        cluster["reviews"]["result"] == "api_forbidden" && cluster["pods"]["problem"].is_string()
    })
    .await?;
    ensure(
        shown["tokens"] == "token-review"
            && shown["trust_domain"] == "cluster.local"
            && shown["aliases"] == json!(["cluster-1"])
            && shown["reviews"]["at"].is_string()
            && shown["pods"]["synced"] == false
            && shown["pods"]["heard_at"].is_null(),
        || format!("{shown}"),
    )?;
    let mut command = ca.command(&["status"], &[])?;
    let table = tools::run(command.env("COLUMNS", "60"))?;
    let words = ["api_forbidden", "NOT KNOWN"];
    let squeezed = table.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure(words.iter().all(|word| squeezed.contains(word)), || table.clone())?;
    ensure(table.lines().all(|line| line.chars().count() <= 60), || table.clone())?;
    ca.process.stop().await.map(drop)
}

#[tokio::test]
async fn explain_tells_each_check_and_ends_as_the_request_would() -> Outcome {
    let dev = Dev::plain()?;
    let cluster = Cluster::start(&dev).await?;
    let plain = json!({
        "id": "plain", "trust_domain": "cluster.local",
        "tokens": {"kind": "jwks", "issuer": "i", "file": dev.path("jwks.json").display().to_string()},
    });
    let trusting = trusting(&dev)?;
    put(&dev, |config| config["clusters"] = json!([trusting, plain]))?;
    let mut ca = dev.start_ca().await?;
    first_cluster(&ca, "pods", |cluster| cluster["pods"]["synced"] == true).await?;
    let id = |account: &str| format!("spiffe://cluster.local/ns/demo/sa/{account}");
    for (caller, asked, cluster, code, words) in [
        ("demo/ztunnel", id("web"), "Kubernetes", 0, "run beside it on node-a"),
        ("pod/demo/agent", id("web"), "cluster-1", 0, "uid-agent"),
        (&id("ztunnel"), id("web"), "Kubernetes", 0, "demo/ztunnel is in trusted_node_accounts"),
        ("pod/demo/agent", id("far"), "Kubernetes", 1, "run on node-b, and none beside it"),
        ("demo/ztunnel", id("nobody"), "Kubernetes", 1, "compare namespace and service account"),
        ("demo/web", id("far"), "Kubernetes", 1, "not in trusted_node_accounts"),
        ("pod/demo/none", id("web"), "Kubernetes", 1, "there is no pod demo/none"),
        ("demo/ztunnel", "spiffe://other/ns/demo/sa/web".to_owned(), "Kubernetes", 1, "meshConfig.trustDomain"),
        ("demo/ztunnel", format!("{}/", id("web")), "Kubernetes", 1, "is no SPIFFE ID of a workload"),
        ("demo/ztunnel", id("web"), "plain", 1, "has no trusted_node_accounts"),
        ("demo/ztunnel", id("web"), "third", 1, "served are: Kubernetes, plain"),
        ("ztunnel", id("web"), "Kubernetes", 2, "namespace/name"),
        (&"z".repeat(100_000), id("web"), "Kubernetes", 2, "longer than the CA reads, 16 KiB"),
    ] {
        let args = ["explain", "--caller", caller, "--for", &asked, "--cluster", cluster];
        let output = tools::output(&mut ca.command(&args, &[])?)?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure(output.status.code() == Some(code) && text.contains(words), || format!("{args:?}: {text}"))?;
    }
    let answer = ca.ask(&["explain", "--caller", "demo/ztunnel", "--for", &id("web")])?;
    ensure(answer["verdict"] == "yes" && answer["checks"].as_array().is_some_and(|all| all.len() == 7), || {
        format!("{answer}")
    })?;
    ensure(
        ca.audit(&["--outcome", "issued"])?.iter().all(|event| event["who"]["service_account"] != "ztunnel"),
        || "something was issued".to_owned(),
    )?;
    ensure(cluster.asked_for_pods() == (1, 1), || "the API server was asked".to_owned())?;
    ca.process.stop().await.map(drop)
}
