//! Exchanges with API servers: those that were recorded, the same requests sent again, and what both have in common.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Map, Value, json};

use super::api::Cluster;
use crate::error::ServerError;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, `PUT`, `PATCH` for a merge patch, or `DELETE`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What answers are taken, if it says so.
    pub accept: Option<String>,
    /// JSON; null for none.
    pub body: Value,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// What the body is, without parameters.
    pub content_type: String,
    /// Whether it says when to come again.
    pub has_retry_after: bool,
    /// The body: each line of it that is JSON; a text where it is none.
    pub body: Vec<Value>,
}

/// One that was recorded.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The name of its file.
    pub name: String,
    /// What was asked.
    pub request: Request,
    /// What was answered.
    pub response: Response,
}

impl Exchange {
    /// All that were recorded, in the order of their names.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn all() -> Result<Vec<Self>, ServerError> {
        let mut all = Vec::new();
        for (name, recorded) in files()? {
            if recorded.get("request").is_some() {
                all.push(Self::read(name, &recorded));
            }
        }
        Ok(all)
    }

    fn read(name: String, recorded: &Value) -> Self {
        let (request, response) = (&recorded["request"], &recorded["response"]);
        let header = |part: &Value, name: &str| part["headers"].get(name).and_then(Value::as_str).map(str::to_owned);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines = response["events"].as_array().cloned();
        let body = lines.unwrap_or_else(|| vec![response["body"].clone()]);
        Self {
            name,
            request: Request {
                method: text(&request["method"]),
                path: text(&request["path"]),
                accept: header(request, "Accept"),
                body: request["body"].clone(),
            },
            response: Response {
                status: response["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or_default(),
                content_type: media_type(&header(response, "Content-Type").unwrap_or_default()),
                has_retry_after: header(response, "Retry-After").is_some(),
                body,
            },
        }
    }
}

/// The claims of the recorded token of this name.
///
/// # Errors
/// When there is none.
pub fn claims(name: &str) -> Result<Value, ServerError> {
    let wanted = format!("token-{name}");
    let found = files()?.into_iter().find(|(name, _)| *name == wanted);
    let found = found.ok_or_else(|| ServerError::refused("read a recorded token", format!("there is no {name}")))?;
    Ok(found.1.get("claims").cloned().unwrap_or_default())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes/exchanges")
}

fn files() -> Result<Vec<(String, Value)>, ServerError> {
    let doing = "read recorded exchanges";
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory()).map_err(ServerError::io(doing))? {
        let path = entry.map_err(ServerError::io(doing))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let content = std::fs::read(&path).map_err(ServerError::io(doing))?;
            let content =
                serde_json::from_slice(&content).map_err(|error| ServerError::refused(doing, error.to_string()))?;
            all.push((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), content));
        }
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(all)
}

fn media_type(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_owned()
}

impl Cluster {
    /// Sends a request as it is, and waits for the end of the answer.
    ///
    /// # Errors
    /// When there is none. A refusal is an answer.
    pub async fn send(&self, request: &Request) -> Result<Response, ServerError> {
        let doing = "ask kube-apiserver";
        let refused = |error: &dyn std::fmt::Display| ServerError::refused(doing, error.to_string());
        let mut made = http::Request::builder().method(request.method.as_str()).uri(&request.path);
        made = made.header(ACCEPT, request.accept.as_deref().unwrap_or("application/json"));
        let body = match &request.body {
            Value::Null => Body::empty(),
            body => {
                let is_patch = request.method == "PATCH";
                let kind = if is_patch { "application/merge-patch+json" } else { "application/json" };
                made = made.header(CONTENT_TYPE, kind);
                Body::from(body.to_string().into_bytes())
            }
        };
        let made = made.body(body).map_err(|error| refused(&error))?;
        let answer = self.client().send(made).await.map_err(|error| refused(&error))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| refused(&error))?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let lines: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Response {
            status: head.status.as_u16(),
            content_type: media_type(header(CONTENT_TYPE).unwrap_or_default()),
            has_retry_after: header(RETRY_AFTER).is_some(),
            body: lines.unwrap_or_else(|_| vec![text.clone().into_owned().into()]),
        })
    }
}

impl Response {
    /// What has to be alike in two answers to the same request: the status, the kind of body, the names and types of all
    /// fields that are read of it, and texts without what only one server can say, such as UIDs.
    #[must_use]
    pub fn shape(&self) -> Value {
        // A bookmark comes when it does, and of what is alike there may be more or less.
        let is_bookmark =
            |event: &&Value| event["type"] == "BOOKMARK" && event.pointer("/object/metadata/annotations").is_none();
        let mut body: Vec<Value> = self.body.iter().filter(|event| !is_bookmark(event)).map(shape).collect();
        body.dedup();
        json!({
            "status": self.status, "content_type": self.content_type, "has_retry_after": self.has_retry_after,
            "body": body,
        })
    }
}

/// What of an object of the core group is read here.
const READ: [(&str, &[&str]); 3] = [
    ("metadata", &["name", "namespace", "uid", "resourceVersion", "annotations"]),
    ("spec", &["serviceAccountName", "nodeName"]),
    ("status", &["phase"]),
];

/// Texts that are the same whoever says them.
const WORDS: [&str; 11] =
    ["kind", "apiVersion", "reason", "status", "type", "phase", "message", "error", "alg", "kty", "use"];

fn shape(value: &Value) -> Value {
    let kind = value["kind"].as_str().unwrap_or_default();
    if matches!(kind, "Pod" | "PartialObjectMetadata") || (kind.is_empty() && value.get("spec").is_some()) {
        return fields(&read_of(value));
    }
    fields(value)
}

fn read_of(object: &Value) -> Value {
    let mut read = Map::new();
    for (part, names) in READ {
        let known = names.iter().filter_map(|name| Some(((*name).to_owned(), object[part].get(name)?.clone())));
        let known: Map<String, Value> = known.collect();
        if !known.is_empty() {
            read.insert(part.to_owned(), known.into());
        }
    }
    read.extend(["kind", "apiVersion"].iter().filter_map(|name| Some(((*name).to_owned(), object.get(name)?.clone()))));
    read.into()
}

fn fields(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let known = object.iter().filter(|(name, _)| *name != "managedFields");
            let field = |(name, value): (&String, &Value)| {
                let text = value.as_str().filter(|_| WORDS.contains(&name.as_str()));
                let shaped = match text {
                    Some(text) => without_names(text).into(),
                    None if name == "code" || name == "annotations" => value.clone(),
                    None => shape(value),
                };
                (name.clone(), shaped)
            };
            Value::Object(known.map(field).collect())
        }
        // However many there are: each kind once.
        Value::Array(all) => {
            let kinds: BTreeSet<String> = all.iter().map(|one| shape(one).to_string()).collect();
            Value::Array(kinds.into_iter().map(Value::String).collect())
        }
        Value::String(_) => "a text".into(),
        Value::Number(_) => "a number".into(),
        other => other.clone(),
    }
}

/// Leaves out UIDs and numbers.
fn without_names(text: &str) -> String {
    let is_uid = |word: &str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    let words = text.split_inclusive(|byte: char| !(byte.is_ascii_alphanumeric() || byte == '-'));
    let mut out = String::new();
    for word in words {
        let name = word.trim_end_matches(|byte: char| !(byte.is_ascii_alphanumeric() || byte == '-'));
        let rest = word.get(name.len()..).unwrap_or_default();
        match name {
            name if is_uid(name) => out.push_str("UID"),
            name if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) => out.push('N'),
            name => out.push_str(name),
        }
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_tells_what_is_read_and_not_who_has_said_it() {
        let pod = |uid: &str, more: Value| json!({"kind": "Pod", "metadata": {"uid": uid}, "spec": {"nodeName": "n"}, "more": more});
        assert_eq!(shape(&pod("a", 1.into())), shape(&pod("b", json!(["x"]))));
        assert_ne!(
            shape(&pod("a", 1.into())),
            shape(&json!({"kind": "Pod", "metadata": {}, "spec": {"nodeName": "n"}}))
        );
        let said = |message: &str| shape(&json!({"kind": "Status", "code": 410, "message": message}));
        assert_eq!(said("too old resource version: 1 (346)"), said("too old resource version: 77 (9)"));
        assert_ne!(said("too old"), said("too new"));
        let uid = "330b455d-c191-4de3-b017-7a3400b02d53";
        assert_eq!(without_names(&format!("UID ({uid}) of web-1, 2^32")), "UID (UID) of web-1, N^N");
    }
}
