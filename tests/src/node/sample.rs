//! Workloads as deploy/samples/sidecar.yaml has them, with an agent of ours beside them.

use serde_json::{Value, json};

use super::objects::core;
use super::{Node, Pod};
use crate::failure::{Failure, Outcome};
use crate::tools;

/// The CA that the sample names.
const CA: &str = "https://signet-ca.signet-system.svc:15012";
const CONFIG: &str = "signet-agent";
/// Half a minute, so that there is something to see.
const TTL: &str = "svid: { ttl: 30s }\n";

fn config_of(name: &str) -> String {
    format!("{CONFIG}-{name}")
}

/// A workload of the sample, under another name; its agent is ready.
///
/// # Errors
/// [`Failure`].
pub async fn sidecar(node: &Node<'_>, namespace: &str, name: &str) -> Outcome<Pod> {
    sidecar_of(node, namespace, name, CA).await
}

/// The same with its certificates from this CA.
///
/// # Errors
/// [`Failure`].
pub async fn sidecar_of(node: &Node<'_>, namespace: &str, name: &str, ca: &str) -> Outcome<Pod> {
    let file = tools::source_root().join("deploy/samples/sidecar.yaml");
    let text = std::fs::read_to_string(&file).map_err(Failure::io("read a sample"))?;
    for document in text.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(document).map_err(Failure::while_doing("read a sample"))?;
        let (kind, mut group) = (object["kind"].as_str().unwrap_or_default().to_lowercase(), "/api/v1");
        object["metadata"]["name"] = json!(name);
        match kind.as_str() {
            "configmap" => {
                let config = object["data"]["signet-agent.yaml"].as_str().unwrap_or_default().replace(CA, ca);
                object["metadata"]["name"] = json!(config_of(name));
                object["data"]["signet-agent.yaml"] = json!(format!("{config}{TTL}"));
            }
            "deployment" => {
                group = "/apis/apps/v1";
                let spec = &mut object["spec"]["template"]["spec"];
                spec["serviceAccountName"] = json!(name);
                for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
                    if volume["configMap"]["name"] == CONFIG {
                        volume["configMap"]["name"] = json!(config_of(name));
                    }
                }
            }
            _ => {}
        }
        node.objects.make_if_absent(&format!("{group}/namespaces/{namespace}/{kind}s"), object).await?;
    }
    let mut pod = node.start(namespace, &format!("deployment/{name}")).await?;
    pod.ready().await?;
    Ok(pod)
}

/// Lets the agent of such a workload get its certificates from another CA from now on: its container is started again, and the proxy
/// beside it goes on.
///
/// # Errors
/// [`Failure`].
pub async fn move_to(node: &Node<'_>, pod: &mut Pod, name: &str, (from, to): (&str, &str)) -> Outcome {
    let map = core(&pod.made().namespace, "configmaps", &config_of(name));
    let config = node.objects.get(&map).await?["data"]["signet-agent.yaml"].as_str().unwrap_or_default().to_owned();
    let moved = config.replace(from, to);
    if moved == config {
        return Err(Failure::unexpected(format!("{name} is not at {from}: {config}")));
    }
    node.objects.change(&map, json!({"data": {"signet-agent.yaml": moved}})).await?;
    node.restart(pod).await?;
    pod.ready().await
}
