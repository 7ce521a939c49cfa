//! What the controllers of a cluster do with the objects of the chart: pods of their templates, and the claims of a StatefulSet.

use serde_json::{Value, json};

use super::objects::Objects;
use crate::failure::{Failure, Outcome};

/// The pod that the controller of this object makes, on a node.
///
/// # Errors
/// [`Failure`] with what the server said.
pub(super) async fn pod_of(objects: &Objects, owner: &Value, node: &str) -> Outcome<Value> {
    let kind = owner["kind"].as_str().unwrap_or_default();
    let metadata = &owner["metadata"];
    let (namespace, name) = match (metadata["namespace"].as_str(), metadata["name"].as_str()) {
        (Some(namespace), Some(name)) => (namespace, name),
        _ => return Err(Failure::unexpected(format!("an object without a name: {metadata}"))),
    };
    let mut pod = owner["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["spec"]["nodeName"] = json!(node);
    if kind == "StatefulSet" {
        pod["metadata"]["name"] = json!(format!("{name}-0"));
        for template in owner["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
            let volume = template["metadata"]["name"].as_str().unwrap_or_default();
            let claim = format!("{volume}-{name}-0");
            let object = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim}, "spec": template["spec"],
            });
            let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
            objects.make_if_absent(&path, object).await?;
            if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
                volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
            }
        }
    } else {
        pod["metadata"]["generateName"] = json!(format!("{name}-"));
    }
    objects.make(&format!("/api/v1/namespaces/{namespace}/pods"), pod).await
}

/// The path of a workload in the API, such as `statefulset/mesh-signet-ca`, as `kubectl` takes it.
///
/// # Errors
/// [`Failure`] for another kind.
pub(super) fn path(namespace: &str, workload: &str) -> Outcome<String> {
    let (kind, name) = workload.split_once('/').unwrap_or(("", workload));
    let group = match kind {
        "statefulset" | "deployment" | "daemonset" => "apps",
        "job" => "batch",
        _ => return Err(Failure::unexpected(format!("{workload}: write statefulset/name or the like"))),
    };
    Ok(format!("/apis/{group}/v1/namespaces/{namespace}/{kind}s/{name}"))
}
