//! `check --connect` and a cluster that is added at run time, beside a real API server.

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{ISSUER, Kubernetes};
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::tools;

use super::{Workload, credentials, may_review, may_watch, until};

fn made<T>(result: Result<T, signet_test_servers::ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("change the cluster"))
}

pub(crate) fn connect(dev: &Dev) -> Outcome<(Option<i32>, String)> {
    let output = tools::output(&mut dev.ca_command(&["check", "--connect"])?)?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text.into_owned()))
}

fn cluster(dev: &Dev, agents: &[String], tokens: Value) -> Value {
    json!({
        "id": "real", "trust_domain": "cluster.local", "api_server": dev.path("kubeconfig").display().to_string(),
        "trusted_node_accounts": agents, "tokens": tokens,
    })
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn what_a_real_server_does_not_allow_or_is_not_configured_as_is_named() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let dev = Dev::plain()?;
    let own = credentials(&dev, kubernetes, may_watch()).await?;
    let (there, missing) = (format!("{}/web", own.namespace), format!("{}/ztunnel", own.namespace));
    let jwks = |issuer: &str| json!({"kind": "jwks", "issuer": issuer, "from": "api-server", "live_objects": true});
    dev.set_ca("clusters", json!([cluster(&dev, std::slice::from_ref(&there), jwks(ISSUER))]))?;
    let (code, text) = connect(&dev)?;
    ensure(code == Some(0), || text.clone())?;

    let mut wrong =
        cluster(&dev, &[there, missing.clone()], json!({"kind": "token-review", "issuer": "https://other"}));
    wrong["audiences"] = json!([ISSUER]);
    dev.set_ca("clusters", json!([wrong]))?;
    let (code, text) = connect(&dev)?;
    let words = [
        "may not create tokenreviews of authentication.k8s.io".to_owned(),
        "tokens.issuer: is https://other".to_owned(),
        "audiences: ".to_owned(),
        // Of accounts it may not read single ones, but there is no pod of this one.
        format!("trusted_node_accounts: {missing}"),
    ];
    ensure(code == Some(1) && words.iter().all(|words| text.contains(words)), || text.clone())?;

    // A token that the server does not know, and a CA that is not its own.
    std::fs::write(dev.path("ca-token"), "x.y.z").map_err(Failure::io("write a token"))?;
    let (code, text) = connect(&dev)?;
    ensure(code == Some(1) && text.contains("(401)"), || text.clone())?;
    let kubeconfig = dev.text("kubeconfig")?;
    let strange = kubeconfig
        .replace(&kubernetes.ca_file().display().to_string(), &dev.path("root-cert.pem").display().to_string());
    ensure(strange != kubeconfig, || kubeconfig.clone())?;
    std::fs::write(dev.path("kubeconfig"), strange).map_err(Failure::io("write a kubeconfig"))?;
    let _ca = dev.start_ca().await?;
    let (code, text) = connect(&dev)?;
    ensure(code == Some(1) && text.contains("TLS fails"), || text.clone())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_cluster_that_is_added_while_the_ca_runs_is_served() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(kubernetes).await?);
    credentials(&dev, kubernetes, may_review()).await?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let token = made(web.cluster.token_of_pod(&web.pod, "web", "istio-ca").await)?;
    until(&client, &token, Some(tonic::Code::Unauthenticated)).await?;
    let mut real = cluster(&dev, &[], json!({"kind": "token-review", "issuer": ISSUER}));
    real["id"] = json!("Kubernetes");
    let config = |config: &mut Value| {
        config["clusters"] = json!([real]);
        Ok(())
    };
    dev.edit("signet-ca.yaml", config)?;
    until(&client, &token, None).await?;
    let status = ca.ask(&["status"])?;
    ensure(status["clusters"][0]["reviews"]["result"] == "authenticated", || format!("{status}"))?;
    ca.process.stop().await.map(drop)
}
