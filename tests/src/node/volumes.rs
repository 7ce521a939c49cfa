//! What a kubelet puts into the volumes of a pod, from the objects of the cluster as they are.

use serde_json::{Value, json};

use super::objects::{Objects, core};
use crate::failure::{Failure, Outcome};
use crate::harness::volume::File;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The mode of a token where the pod has a group of its own.
const OF_A_GROUP: u32 = 0o640;

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The files of a volume; `None` for one whose files are the pod's own.
///
/// # Errors
/// [`Failure`], also for a kind of volume that is not known here.
pub(super) async fn files(objects: &Objects, pod: &Value, volume: &Value) -> Outcome<Option<Vec<File>>> {
    let namespace = text(pod, "/metadata/namespace");
    if let Some(map) = volume.get("configMap") {
        return keys(objects, namespace, "configmaps", (text(map, "/name"), map)).await.map(Some);
    }
    if let Some(secret) = volume.get("secret") {
        return keys(objects, namespace, "secrets", (text(secret, "/secretName"), secret)).await.map(Some);
    }
    if let Some(projected) = volume.get("projected") {
        let mut all = Vec::new();
        for source in list(projected, "sources") {
            all.extend(source_files(objects, pod, source).await?);
        }
        return Ok(Some(all));
    }
    let own = ["emptyDir", "persistentVolumeClaim", "hostPath"].iter().any(|kind| volume.get(kind).is_some());
    if own { Ok(None) } else { Err(Failure::unexpected(format!("nobody here knows such a volume: {volume}"))) }
}

/// The keys of a ConfigMap or a Secret.
async fn keys(objects: &Objects, namespace: &str, plural: &str, (name, wanted): (&str, &Value)) -> Outcome<Vec<File>> {
    let object = objects.find(&core(namespace, plural, name)).await?;
    let optional = wanted.get("optional") == Some(&json!(true));
    let Some(object) = object else {
        let missing = || Failure::unexpected(format!("the pod waits for {plural} {name} in {namespace}"));
        return if optional { Ok(Vec::new()) } else { Err(missing()) };
    };
    let data = object.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    let content = |key: &str| -> Outcome<Vec<u8>> {
        let value = data.get(key).and_then(Value::as_str);
        let value = value.ok_or_else(|| Failure::unexpected(format!("{plural} {name} has no key {key}")))?;
        match plural {
            "secrets" => STANDARD.decode(value).map_err(Failure::while_doing("read a Secret")),
            _ => Ok(value.as_bytes().to_vec()),
        }
    };
    let mode = |item: &Value| {
        let mode = item.get("mode").or(wanted.get("defaultMode")).and_then(Value::as_u64);
        mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
    };
    match list(wanted, "items") {
        [] => data
            .keys()
            .map(|key| Ok(File { name: key.clone(), content: content(key)?, mode: mode(&Value::Null) }))
            .collect(),
        items => items
            .iter()
            .map(|item| {
                Ok(File {
                    name: text(item, "/path").to_owned(),
                    content: content(text(item, "/key"))?,
                    mode: mode(item),
                })
            })
            .collect(),
    }
}

async fn source_files(objects: &Objects, pod: &Value, source: &Value) -> Outcome<Vec<File>> {
    let namespace = text(pod, "/metadata/namespace");
    if let Some(map) = source.get("configMap") {
        return keys(objects, namespace, "configmaps", (text(map, "/name"), map)).await;
    }
    if let Some(wanted) = source.get("serviceAccountToken") {
        let token = token(objects, pod, wanted).await?;
        let has_group = pod.pointer("/spec/securityContext/fsGroup").is_some();
        let mode = if has_group { OF_A_GROUP } else { 0o644 };
        return Ok(vec![File { name: text(wanted, "/path").to_owned(), content: token.into(), mode }]);
    }
    if let Some(wanted) = source.get("clusterTrustBundle") {
        let mut roots = Vec::new();
        for bundle in objects.list("/apis/certificates.k8s.io/v1/clustertrustbundles").await? {
            let of_signer = wanted.get("signerName").is_some_and(|name| *name == bundle["spec"]["signerName"]);
            if of_signer || wanted.get("name").is_some_and(|name| *name == bundle["metadata"]["name"]) {
                roots.push(text(&bundle, "/spec/trustBundle").to_owned());
            }
        }
        return Ok(vec![File::new(text(wanted, "/path"), roots.concat())]);
    }
    let Some(wanted) = source.get("downwardAPI") else {
        return Err(Failure::unexpected(format!("nobody here knows such a source: {source}")));
    };
    let items = list(wanted, "items").iter();
    let field = |item: &Value| match text(item, "/fieldRef/fieldPath") {
        "metadata.namespace" => Ok(File::new(text(item, "/path"), namespace)),
        other => Err(Failure::unexpected(format!("nobody here knows the field {other}"))),
    };
    items.map(field).collect()
}

/// A token for a pod, as its volume wants it. The audience that is not named is the API server's.
async fn token(objects: &Objects, pod: &Value, wanted: &Value) -> Outcome<String> {
    let (namespace, account) = (text(pod, "/metadata/namespace"), text(pod, "/spec/serviceAccountName"));
    let mut spec = json!({"boundObjectRef": {
        "apiVersion": "v1", "kind": "Pod", "name": text(pod, "/metadata/name"), "uid": text(pod, "/metadata/uid"),
    }, "audiences": []});
    if let Some(spec) = spec.as_object_mut() {
        spec.extend(wanted.get("audience").map(|audience| ("audiences".to_owned(), json!([audience]))));
        spec.extend(wanted.get("expirationSeconds").map(|seconds| ("expirationSeconds".to_owned(), seconds.clone())));
    }
    let path = format!("{}/token", core(namespace, "serviceaccounts", account));
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = objects.make(&path, request).await?;
    Ok(text(&answer, "/status/token").to_owned())
}
