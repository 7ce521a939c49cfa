//! What was there when exchanges about ConfigMaps and ClusterTrustBundles were recorded.

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{Cluster, Exchange, Request};
use signet_tests::failure::{Failure, Outcome};

/// Who asked in an exchange, if it was one of these: namespace and name of a service account.
pub(super) fn caller(name: &str) -> Option<(&'static str, &'static str)> {
    (name == "ctb-create-forbidden-attest-missing").then_some(("demo", "maker"))
}

async fn send(cluster: &Cluster, method: &str, path: &str, body: Value) -> Outcome<Value> {
    let request = Request { method: method.to_owned(), path: path.to_owned(), accept: None, body };
    let answer = cluster.send(&request).await.map_err(Failure::while_doing("prepare an object"))?;
    Ok(answer.body.into_iter().next().unwrap_or_default())
}

/// The request, once the objects are as they were.
pub(super) async fn prepare(cluster: &Cluster, exchange: &Exchange, mut request: Request) -> Outcome<Request> {
    let path = request.path.clone();
    let own = |body: &Value| format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
    match exchange.name.as_str() {
        "configmap-create-exists" => drop(send(cluster, "POST", &path, request.body.clone()).await?),
        "configmap-create-in-terminating-namespace" | "namespace-terminating" => {
            // Nobody empties namespaces here, so that it stays as it is.
            cluster.namespace_called("ending").await.map_err(Failure::while_doing("make a namespace"))?;
            send(cluster, "DELETE", "/api/v1/namespaces/ending", Value::Null).await?;
        }
        "ctb-create-forbidden-attest-missing" => {
            let known = cluster.account_uid("demo", "maker").await.is_ok();
            if !known {
                cluster.account("demo", "maker").await.map_err(Failure::while_doing("make an account"))?;
            }
            let group = ["certificates.k8s.io"];
            let rights = json!([{"apiGroups": group, "resources": ["clustertrustbundles"], "verbs": ["create"]}]);
            cluster.allow("demo", "maker", rights).await.map_err(Failure::while_doing("give rights"))?;
        }
        "configmap-update-conflict" | "ctb-update" => {
            let now = send(cluster, "GET", &path, Value::Null).await?;
            request.body["metadata"]["uid"] = now["metadata"]["uid"].clone();
            request.body["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
            if exchange.name.ends_with("conflict") {
                // Somebody else was faster.
                let mut other = now;
                other["data"]["root-cert.pem"] = "another".into();
                send(cluster, "PUT", &path, other).await?;
            }
        }
        name if name.contains("create") && !name.contains("absent") => {
            drop(send(cluster, "DELETE", &own(&request.body), Value::Null).await?);
        }
        _ => {}
    }
    Ok(request)
}
