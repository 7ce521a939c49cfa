//! The objects of a scripted API server: listed, watched, made, changed and removed as a real one does, with versions and
//! conflicts. Tests beside a real one show that publishers find the same there.

#![allow(clippy::indexing_slicing, reason = "what a JSON value does not hold is null")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::scripted::{Answer, Asked};

/// Namespaces, ConfigMaps and ClusterTrustBundles, by their paths.
#[derive(Clone, Default)]
pub struct Objects(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    version: u64,
    by_path: BTreeMap<String, Value>,
    watches: Vec<Watch>,
    terminating: Vec<String>,
}

struct Watch {
    kind: String,
    name: Option<String>,
    sender: mpsc::UnboundedSender<String>,
}

/// The path of a namespace.
#[must_use]
pub fn namespace(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}

/// The path of a ConfigMap.
#[must_use]
pub fn config_map(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

/// An answer that is no success.
#[must_use]
pub fn refused(status: u16, reason: &str, details: &Value) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} by this test"), "reason": reason, "details": details, "code": status,
    });
    Answer::json(status, &body)
}

/// The kind of what is at a path: the resource of the object.
fn kind_of(path: &str) -> String {
    path.rsplit('/').nth(1).unwrap_or_default().to_owned()
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// JSON merge patch (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else { return into.clone_from(patch) };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(object) = into.as_object_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

impl Inner {
    fn tell(&mut self, event: &str, path: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": event, "object": object}));
        self.watches.retain(|watch| !watch.sender.is_closed());
        for watch in &self.watches {
            if watch.kind == kind_of(path) && watch.name.as_deref().is_none_or(|name| name == name_of(path)) {
                let _gone = watch.sender.send(line.clone());
            }
        }
    }

    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let before = self.by_path.get(path);
        let event = if before.is_some() { "MODIFIED" } else { "ADDED" };
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["name"] = json!(name_of(path));
        if kind_of(path) == "configmaps" {
            object["metadata"]["namespace"] = json!(path.split('/').nth(4));
        }
        self.by_path.insert(path.to_owned(), object.clone());
        self.tell(event, path, &object);
        object
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        let mut object = self.by_path.remove(path)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell("DELETED", path, &object);
        Some(object)
    }
}

impl Objects {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a namespace.
    pub fn namespace(&self, name: &str) {
        self.inner().put(&namespace(name), json!({"metadata": {}}));
    }

    /// Begins to remove a namespace: what is in it stays, and nothing can be made in it.
    pub fn terminate(&self, name: &str) {
        self.inner().terminating.push(name.to_owned());
    }

    /// What is at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        self.inner().by_path.get(path).cloned()
    }

    /// Puts an object there, whatever was there before, and gives its version.
    pub fn put(&self, path: &str, object: Value) -> String {
        let object = self.inner().put(path, object);
        object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
    }

    /// Removes what is there.
    pub fn remove(&self, path: &str) {
        let _was = self.inner().remove(path);
    }

    /// Ends all watches, of which nobody can go on where they were.
    pub fn end_watches(&self) {
        let gone =
            json!({"type": "ERROR", "object": {"kind": "Status", "message": "gone", "reason": "Expired", "code": 410}});
        for watch in self.inner().watches.drain(..) {
            let _gone = watch.sender.send(format!("{gone}\n"));
        }
    }

    /// What a real server answers.
    #[must_use]
    pub fn answer(&self, asked: &Asked) -> Answer {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let mut inner = self.inner();
        let known = inner.by_path.get(path).cloned();
        match asked.method.as_str() {
            "GET" if query.contains("watch=true") => {
                let (sender, more) = mpsc::unbounded_channel();
                inner.watches.push(Watch { kind: name_of(path).to_owned(), name: selected(query), sender });
                Answer::watch(&[], more)
            }
            "GET" if path.starts_with("/apis/") && path.split('/').count() == 4 => {
                Answer::json(200, &json!({"resources": [{"name": "clustertrustbundles"}]}))
            }
            "GET" if known.is_none() && matches!(name_of(path), "namespaces" | "configmaps") => {
                let (kind, name) = (name_of(path), selected(query));
                let wanted =
                    |path: &str| kind_of(path) == kind && name.as_deref().is_none_or(|name| name == name_of(path));
                let items: Vec<&Value> =
                    inner.by_path.iter().filter(|(path, _)| wanted(path)).map(|(_, object)| object).collect();
                let version = json!({"resourceVersion": inner.version.to_string()});
                Answer::json(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": version, "items": items}))
            }
            "GET" => known.map_or_else(|| absent(&kind_of(path)), |object| Answer::json(200, &object)),
            "POST" => {
                let namespace = path.split('/').nth(4).unwrap_or_default();
                let path = format!("{path}/{}", asked.body["metadata"]["name"].as_str().unwrap_or_default());
                let in_namespace = kind_of(&path) == "configmaps";
                if in_namespace && !inner.by_path.contains_key(&self::namespace(namespace)) {
                    return absent("namespaces");
                }
                if in_namespace && inner.terminating.iter().any(|ending| ending == namespace) {
                    let cause = json!({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
                    return refused(403, "Forbidden", &cause);
                }
                if inner.by_path.contains_key(&path) {
                    return refused(409, "AlreadyExists", &json!({}));
                }
                Answer::json(201, &inner.put(&path, asked.body.clone()))
            }
            "PATCH" => {
                let Some(mut object) = known else { return absent(&kind_of(path)) };
                let version = &asked.body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
                    return refused(409, "Conflict", &json!({}));
                }
                let before = object.clone();
                merge(&mut object, &asked.body);
                // What changes nothing is no new version.
                let object = if object == before { object } else { inner.put(path, object) };
                Answer::json(200, &object)
            }
            "DELETE" => {
                let Some(object) = known else { return absent(&kind_of(path)) };
                let version = &asked.body["preconditions"]["resourceVersion"];
                if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
                    return refused(409, "Conflict", &json!({}));
                }
                let _was = inner.remove(path);
                Answer::json(200, &json!({"kind": "Status", "status": "Success"}))
            }
            _ => refused(405, "MethodNotAllowed", &json!({})),
        }
    }
}

fn absent(kind: &str) -> Answer {
    refused(404, "NotFound", &json!({"kind": kind}))
}

/// The name that a field selector selects.
fn selected(query: &str) -> Option<String> {
    let selector = query.split('&').find_map(|part| part.strip_prefix("fieldSelector="))?;
    selector.replace("%3D", "=").strip_prefix("metadata.name=").map(str::to_owned)
}
