//! Calls of publishers to an API server: each is sent once, has a deadline and is counted, and its answer says whether the
//! object, the load, or the way there is at fault.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::core::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kubernetes::{ApiServer, outage};
use signet_core::seams::authenticator::AuthenticationError;

/// How long a call may take: longer than the 10 s that an API server waits for a webhook, so that it can say so itself.
const WITHIN: Duration = Duration::from_secs(15);
/// The longest answer about one object: it holds 1 MiB, escaped.
pub(super) const OBJECT: usize = 8 << 20;
/// How long is waited at least and at most when the API server has too much to do.
const THROTTLED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// By this name objects show who has written them.
pub(super) const MANAGER: &str = "signet-ca";

/// What is asked of an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Which versions it serves.
    Discover,
    /// An object is read.
    Get,
    /// Objects are read.
    List,
    /// Objects are followed.
    Watch,
    /// An object is made.
    Create,
    /// An object is changed.
    Patch,
    /// An object is removed.
    Delete,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Discover, Self::Get, Self::List, Self::Watch, Self::Create, Self::Patch, Self::Delete];

    /// As a label of a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Patch | Self::Delete)
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It was done.
    Done,
    /// The object has changed since it was looked at, is gone, or is there already: it is looked at again.
    Changed,
    /// Its namespace is being removed.
    Terminating,
    /// It is not allowed, or not possible with this object.
    Refused,
    /// The API server has too much to do.
    Throttled,
    /// The API server does not answer, or fails.
    Away,
}

impl Came {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Changed, Self::Terminating, Self::Refused, Self::Throttled, Self::Away];

    /// As a label of a metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Changed => "changed",
            Self::Terminating => "terminating",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Away => "away",
        }
    }
}

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// What was asked.
    pub verb: Verb,
    /// What came of it; of a watch, that it was begun.
    pub came: Came,
    /// Bytes of the bodies that were sent and received; 0 for lists and watches of metadata, which are not measured.
    pub bytes: (usize, usize),
}

/// Is told of each call.
pub type OnCall = dyn Fn(Call) + Send + Sync;

/// Why a call has not done what it was to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The object is not there, or what it would be in.
    Absent {
        /// Whether it is the namespace that is not there.
        namespace: bool,
    },
    /// It is not as it was when it was looked at.
    Changed,
    /// Its namespace is being removed.
    Terminating,
    /// It is not allowed, or not possible with this object.
    Refused(String),
    /// Not now, but after this time.
    Throttled(Duration),
    /// The API server does not answer, or fails.
    Away(String),
}

impl Fault {
    fn came(&self) -> Came {
        match self {
            Self::Absent { .. } | Self::Changed => Came::Changed,
            Self::Terminating => Came::Terminating,
            Self::Refused(_) => Came::Refused,
            Self::Throttled(_) => Came::Throttled,
            Self::Away(_) => Came::Away,
        }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Absent { .. } => "it is gone".to_owned(),
            Self::Changed => "somebody else changes it again and again".to_owned(),
            Self::Terminating => "its namespace is being removed".to_owned(),
            Self::Throttled(_) => "the API server has too much to do (429)".to_owned(),
            Self::Refused(text) | Self::Away(text) => text.clone(),
        }
    }
}

/// The API server of a cluster, as publishers call it.
pub(super) struct Api {
    pub(super) server: Arc<ApiServer>,
    pub(super) on_call: Arc<OnCall>,
}

impl Api {
    /// Sends one call, and reads at most `most` bytes of the answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
        most: usize,
    ) -> Result<T, Fault> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (sent, mut received) = (body.len(), 0);
        let calling = self.send(verb, path, body, most, &mut received);
        let late = |_| Fault::Away(format!("the API server has not answered within {WITHIN:?}"));
        let answer = tokio::time::timeout(WITHIN, calling).await.map_err(late).and_then(|answer| answer);
        let read = answer.and_then(|answer| {
            serde_json::from_slice(&answer)
                .map_err(|error| Fault::Away(format!("the answer of the API server cannot be read: {error}")))
        });
        let came = read.as_ref().map_or_else(Fault::came, |_| Came::Done);
        (self.on_call)(Call { verb, came, bytes: (sent, received) });
        read
    }

    async fn send(
        &self,
        verb: Verb,
        path: &str,
        body: String,
        most: usize,
        received: &mut usize,
    ) -> Result<Vec<u8>, Fault> {
        let (method, content) = match verb {
            Verb::Create => (Method::POST, "application/json"),
            // With a resourceVersion in it, it is done to that version only; what it does not name stays.
            Verb::Patch => (Method::PATCH, "application/merge-patch+json"),
            Verb::Delete => (Method::DELETE, "application/json"),
            Verb::Discover | Verb::Get | Verb::List | Verb::Watch => (Method::GET, "application/json"),
        };
        let manager = if matches!(verb, Verb::Create | Verb::Patch) { MANAGER } else { "" };
        let path = if manager.is_empty() { path.to_owned() } else { format!("{path}?fieldManager={manager}") };
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header(header::ACCEPT, "application/json").header(header::CONTENT_TYPE, content);
        let request = request.body(Body::from(body.into_bytes())).map_err(|error| Fault::Refused(error.to_string()))?;
        let answer = self.server.client().send(request).await.map_err(|error| Fault::Away(words(&outage(&error))))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, most).collect().await;
        let body = body.map_err(|error| Fault::Away(format!("the answer of the API server ends early: {error}")))?;
        let body = body.to_bytes();
        *received = body.len();
        if head.status.is_success() {
            return Ok(body.to_vec());
        }
        let wait = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(fault(verb, head.status, wait, &body))
    }
}

/// What an answer that is no success means. One with too much to do is plain text; all else of an API server is a Status.
fn fault(verb: Verb, status: StatusCode, wait: Option<u64>, body: &[u8]) -> Fault {
    let said: Status = serde_json::from_slice(body).unwrap_or_default();
    let message = if said.message.is_empty() { String::from_utf8_lossy(body) } else { said.message.as_str().into() };
    let message: String = message.trim().chars().take(300).collect();
    let advice = match status.as_u16() {
        422 if message.contains("immutable") => {
            "; delete that object, or leave its namespace out (publish.config_maps.except)"
        }
        422 if message.contains("Too long") => {
            "; what else it holds leaves no room: take that out, or leave its namespace out \
            (publish.config_maps.except)"
        }
        _ => "",
    };
    let text = format!("the API server answered {}: {message}{advice}", status.as_u16());
    let (kind, causes) = said.details.map(|details| (details.kind, details.causes)).unwrap_or_default();
    match status.as_u16() {
        404 if said.reason == "NotFound" || verb == Verb::Discover => Fault::Absent { namespace: kind == "namespaces" },
        409 if verb.writes() => Fault::Changed,
        403 if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") => Fault::Terminating,
        429 => {
            let (least, most) = THROTTLED;
            Fault::Throttled(Duration::from_secs(wait.unwrap_or_default()).clamp(least, most))
        }
        // What does not answer for it may be a proxy in between.
        401 | 404 | 408 | 502 | 503 | 504 => Fault::Away(text),
        _ => Fault::Refused(text),
    }
}

/// An outage in words.
pub(super) fn words(error: &AuthenticationError) -> String {
    match error {
        AuthenticationError::Unavailable { reason, detail } => format!("{}: {detail}", reason.label()),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_says_whether_object_load_or_way_is_at_fault() {
        let status = |reason: &str, details: Value| {
            json!({"kind": "Status", "message": "no", "reason": reason, "details": details}).to_string()
        };
        let terminating = json!({"causes": [{"reason": "NamespaceTerminating"}]});
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (verb, code, wait, body, expected) in [
            (Verb::Get, 404, None, status("NotFound", json!({"kind": "configmaps"})), Came::Changed),
            (Verb::Create, 404, None, status("NotFound", json!({"kind": "namespaces"})), Came::Changed),
            (Verb::Get, 404, None, "404 page not found".into(), Came::Away),
            (Verb::Discover, 404, None, "404 page not found".into(), Came::Changed),
            (Verb::Create, 409, None, status("AlreadyExists", json!({})), Came::Changed),
            (Verb::Patch, 409, None, status("Conflict", json!({})), Came::Changed),
            (Verb::Create, 403, None, status("Forbidden", terminating), Came::Terminating),
            (Verb::Create, 403, None, status("Forbidden", json!({})), Came::Refused),
            (Verb::Create, 403, None, "terminating".into(), Came::Refused),
            (Verb::Create, 422, None, status("Invalid", json!({})), Came::Refused),
            // A webhook that fails is about what it looks at.
            (Verb::Patch, 500, None, status("InternalError", json!({})), Came::Refused),
            (Verb::Get, 401, None, status("Unauthorized", json!({})), Came::Away),
            (Verb::Get, 503, None, String::new(), Came::Away),
            (Verb::Get, 429, Some(7), "Too many requests, please try again later.\n".into(), Came::Throttled),
        ] {
            let found = fault(verb, StatusCode::from_u16(code).unwrap(), wait, body.as_bytes());
            assert_eq!(found.came(), expected, "{code} {body}");
            if let Fault::Absent { namespace } = found {
                assert_eq!(namespace, body.contains("namespaces"));
            }
        }
        for (wait, expected) in [(None, second), (Some(0), second), (Some(7), 7 * second), (Some(9_999), minute)] {
            let found = fault(Verb::Get, StatusCode::TOO_MANY_REQUESTS, wait, b"");
            assert_eq!(found, Fault::Throttled(expected));
        }
    }
}
