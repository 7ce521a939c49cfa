//! Objects of a cluster as JSON, by their paths in the API, in the hands of somebody who may do everything.

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{Cluster, Request};

use crate::failure::{Failure, Outcome, ensure};

/// The objects of a cluster.
#[derive(Clone)]
pub struct Objects(pub(super) Cluster);

/// The path of an object of the core group in a namespace.
#[must_use]
pub fn core(namespace: &str, plural: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{plural}/{name}")
}

impl Objects {
    /// Those of this cluster.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        Self(cluster.clone())
    }

    /// Any request: the status, and the body.
    ///
    /// # Errors
    /// [`Failure`] when nothing is answered.
    pub async fn send(&self, method: &str, path: &str, body: Value) -> Outcome<(u16, Value)> {
        let request = Request { method: method.to_owned(), path: path.to_owned(), accept: None, body };
        let answer = self.0.send(&request).await.map_err(Failure::while_doing("ask the API server"))?;
        Ok((answer.status, answer.body.into_iter().next().unwrap_or_default()))
    }

    async fn done(&self, method: &str, path: &str, body: Value) -> Outcome<Value> {
        let (status, answer) = self.send(method, path, body).await?;
        ensure(status < 300, || format!("{method} {path}: {status}: {answer}"))?;
        Ok(answer)
    }

    /// An object or a list that is there.
    ///
    /// # Errors
    /// [`Failure`] with what the server said.
    pub async fn get(&self, path: &str) -> Outcome<Value> {
        self.done("GET", path, Value::Null).await
    }

    /// The same, if it is there.
    ///
    /// # Errors
    /// [`Failure`] with what the server said.
    pub async fn find(&self, path: &str) -> Outcome<Option<Value>> {
        let (status, answer) = self.send("GET", path, Value::Null).await?;
        ensure(status < 300 || status == 404, || format!("GET {path}: {status}: {answer}"))?;
        Ok((status < 300).then_some(answer))
    }

    /// The items of a list.
    ///
    /// # Errors
    /// [`Failure`] with what the server said.
    pub async fn list(&self, path: &str) -> Outcome<Vec<Value>> {
        let list = self.get(path).await?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Makes an object below this path of its kind.
    ///
    /// # Errors
    /// [`Failure`] with what the server said.
    pub async fn make(&self, path: &str, object: Value) -> Outcome<Value> {
        self.done("POST", path, object).await
    }

    /// The same, unless there is one.
    ///
    /// # Errors
    /// [`Failure`] with what the server said.
    pub async fn make_if_absent(&self, path: &str, object: Value) -> Outcome {
        let (status, answer) = self.send("POST", path, object).await?;
        ensure(status < 300 || status == 409, || format!("POST {path}: {status}: {answer}"))
    }

    /// Changes an object by a merge patch.
    ///
    /// # Errors
    /// [`Failure`] with what the server said.
    pub async fn change(&self, path: &str, patch: Value) -> Outcome<Value> {
        self.done("PATCH", path, patch).await
    }

    /// Removes an object at once.
    ///
    /// # Errors
    /// [`Failure`] with what the server said.
    pub async fn remove(&self, path: &str) -> Outcome {
        self.done("DELETE", path, json!({"gracePeriodSeconds": 0})).await.map(drop)
    }
}
