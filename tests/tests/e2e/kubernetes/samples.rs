//! The samples of workloads, by a real API server, and the values of the chart that belong to them.

use std::process::Command;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::Kubernetes;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::tools;

use super::chart::{made, rendered_as, the};
use crate::plain_envoy;

/// Each object of a sample, and the configuration of the agent in it.
#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_sample_of_a_sidecar_is_taken_by_the_api_server_and_by_the_agent() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let cluster = made(kubernetes.cluster().await)?;
    let namespace = made(cluster.namespace().await)?;
    let file = tools::source_root().join("deploy/samples/sidecar.yaml");
    let text = std::fs::read_to_string(&file).map_err(Failure::io("read a sample"))?;
    let dev = Dev::plain()?;
    for document in text.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document).map_err(Failure::while_doing("read a sample"))?;
        made(cluster.would_make(&namespace, object.clone()).await)?;
        let Some(config) = object["data"]["signet-agent.yaml"].as_str() else { continue };
        let config = config
            .replace("/etc/signet/roots/root-cert.pem", &dev.path("root-cert.pem").display().to_string())
            .replace("/var/run/secrets/tokens/istio-token", &dev.path("tokens/client.jwt").display().to_string())
            .replace("/run/signet", &dev.directory().display().to_string());
        let path = dev.path("sidecar.yaml");
        std::fs::write(&path, config).map_err(Failure::io("write a configuration"))?;
        tools::run(Command::new(tools::own("signet-agent")?).arg("check").arg("--config").arg(path))?;
    }
    Ok(())
}

/// Workloads without a mesh find what the chart makes of the values beside them.
#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_sample_without_a_mesh_is_taken_and_finds_what_its_values_make() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let cluster = made(kubernetes.cluster().await)?;
    let (documents, values) = (plain_envoy::documents()?, plain_envoy::values()?);
    let namespace = made(cluster.namespace().await)?;
    for mut object in documents.clone() {
        if object["kind"] == "Namespace" {
            made(cluster.would_make(&namespace, object).await)?;
            continue;
        }
        object["metadata"]["namespace"] = namespace.clone().into();
        made(cluster.would_make(&namespace, object).await)?;
    }
    let objects = rendered_as("signet", "signet-system", &values)?;
    let service = the(&objects, "Service", "signet-ca")?;
    let agent = the(&documents, "ConfigMap", "signet-agent")?["data"]["signet-agent.yaml"].as_str().unwrap_or_default();
    let address = format!("https://signet-ca.signet-system.svc:{}", service["spec"]["ports"][0]["port"]);
    ensure(agent.contains(&address), || format!("{address} is not in {agent}"))?;
    let cluster = &values["config"]["clusters"][0];
    let label = &the(&documents, "Namespace", "shop")?["metadata"]["labels"]["signet"];
    ensure(
        cluster["publish"]["config_maps"]["namespaces"] == format!("signet={}", label.as_str().unwrap_or_default()),
        || format!("{label}"),
    )?;
    for name in ["frontend", "backend"] {
        let volumes = the(&documents, "Deployment", name)?["spec"]["template"]["spec"]["volumes"].to_string();
        let token =
            json!({"audience": cluster["audiences"][0], "expirationSeconds": 43200, "path": "token"}).to_string();
        let map =
            json!({"configMap": {"name": cluster["publish"]["config_maps"]["name"]}, "name": "roots"}).to_string();
        ensure(volumes.contains(&token) && volumes.contains(&map), || volumes.clone())?;
    }
    Ok(())
}
