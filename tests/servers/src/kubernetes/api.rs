//! What tests do with the objects of a cluster, as few words as possible for each.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::ServerError;

/// The objects of a cluster, in the hands of somebody who may do everything.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

/// A pod that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadePod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl Cluster {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client, for what is not here.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes a namespace with a name that nobody else has, and gives the name.
    ///
    /// # Errors
    /// What the server said.
    pub async fn namespace(&self) -> Result<String, ServerError> {
        let made: Namespace = make(&Api::all(self.client()), json!({"metadata": {"generateName": "test-"}})).await?;
        made.metadata.name.ok_or_else(|| ServerError::refused("make a namespace", "it has no name"))
    }

    /// Makes a namespace of this name, unless there is one.
    ///
    /// # Errors
    /// What the server said.
    pub async fn namespace_called(&self, name: &str) -> Result<(), ServerError> {
        let api: Api<Namespace> = Api::all(self.client());
        if api.get_opt(name).await.map_err(said("look for a namespace"))?.is_none() {
            make(&api, json!({"metadata": {"name": name}})).await?;
        }
        Ok(())
    }

    /// Makes a service account and gives its UID.
    ///
    /// # Errors
    /// What the server said.
    pub async fn account(&self, namespace: &str, name: &str) -> Result<String, ServerError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        make(&api, json!({"metadata": {"name": name}})).await.map(|made| made.metadata.uid.unwrap_or_default())
    }

    /// The UID of a service account.
    ///
    /// # Errors
    /// What the server said.
    pub async fn account_uid(&self, namespace: &str, name: &str) -> Result<String, ServerError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let found = api.get(name).await.map_err(said("look for an account"))?;
        Ok(found.metadata.uid.unwrap_or_default())
    }

    /// Makes a node and gives its UID.
    ///
    /// # Errors
    /// What the server said.
    pub async fn node(&self, name: &str) -> Result<String, ServerError> {
        let api: Api<Node> = Api::all(self.client());
        make(&api, json!({"metadata": {"name": name}})).await.map(|made| made.metadata.uid.unwrap_or_default())
    }

    /// Has the server look at an object of the core group without keeping it, and refuse every field that it does not know.
    ///
    /// # Errors
    /// What the server said.
    pub async fn try_out(&self, namespace: &str, object: &Value) -> Result<(), ServerError> {
        let failed = |error: &dyn std::fmt::Display| ServerError::refused("try an object out", error.to_string());
        let plural = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
        let path = format!("/api/v1/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict");
        let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
        let request = request.body(object.to_string().into_bytes()).map_err(|error| failed(&error))?;
        self.client().request_text(request).await.map(drop).map_err(|error| failed(&error))
    }

    /// The UID of a node.
    ///
    /// # Errors
    /// What the server said.
    pub async fn node_uid(&self, name: &str) -> Result<String, ServerError> {
        let found = Api::<Node>::all(self.client()).get(name).await.map_err(said("look for a node"))?;
        Ok(found.metadata.uid.unwrap_or_default())
    }

    /// Deletes a node.
    ///
    /// # Errors
    /// What the server said.
    pub async fn delete_node(&self, name: &str) -> Result<(), ServerError> {
        self.delete::<Node>(Api::all(self.client()), name).await
    }

    /// Makes a pod of an account that runs on a node, as far as this server knows.
    ///
    /// # Errors
    /// What the server said.
    pub async fn pod(&self, namespace: &str, name: &str, account: &str, node: &str) -> Result<MadePod, ServerError> {
        self.pod_on(namespace, name, account, Some(node)).await
    }

    /// The same on a node, or on none yet.
    ///
    /// # Errors
    /// What the server said.
    pub async fn pod_on(
        &self,
        namespace: &str,
        name: &str,
        account: &str,
        node: Option<&str>,
    ) -> Result<MadePod, ServerError> {
        let spec = json!({
            "serviceAccountName": account,
            "nodeName": node,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none"}],
        });
        self.pod_of(namespace, name, spec).await
    }

    /// Makes a pod of this content.
    ///
    /// # Errors
    /// What the server said.
    pub async fn pod_of(&self, namespace: &str, name: &str, spec: Value) -> Result<MadePod, ServerError> {
        let api: Api<Pod> = Api::namespaced(self.client(), namespace);
        let made = make(&api, json!({"metadata": {"name": name}, "spec": spec})).await?;
        let uid = made.metadata.uid.unwrap_or_default();
        Ok(MadePod { namespace: namespace.to_owned(), name: name.to_owned(), uid })
    }

    /// Sets the phase of a pod, as its kubelet would.
    ///
    /// # Errors
    /// What the server said.
    pub async fn phase(&self, pod: &MadePod, phase: &str) -> Result<(), ServerError> {
        let api: Api<Pod> = Api::namespaced(self.client(), &pod.namespace);
        let patch = Patch::Merge(json!({"status": {"phase": phase}}));
        let patched = api.patch_status(&pod.name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(said("set the phase of a pod"))
    }

    /// Deletes a pod at once.
    ///
    /// # Errors
    /// What the server said.
    pub async fn delete_pod(&self, pod: &MadePod) -> Result<(), ServerError> {
        self.delete::<Pod>(Api::namespaced(self.client(), &pod.namespace), &pod.name).await
    }

    /// Deletes a service account.
    ///
    /// # Errors
    /// What the server said.
    pub async fn delete_account(&self, namespace: &str, name: &str) -> Result<(), ServerError> {
        self.delete::<ServiceAccount>(Api::namespaced(self.client(), namespace), name).await
    }

    /// A token by TokenRequest, for an hour.
    ///
    /// # Errors
    /// What the server said.
    pub async fn token(&self, namespace: &str, account: &str, audience: &str) -> Result<String, ServerError> {
        self.token_for(namespace, account, json!({"audiences": [audience], "expirationSeconds": 3600})).await
    }

    /// One that is bound to a pod.
    ///
    /// # Errors
    /// What the server said.
    pub async fn token_of_pod(&self, pod: &MadePod, account: &str, audience: &str) -> Result<String, ServerError> {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid});
        let spec = json!({"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound});
        self.token_for(&pod.namespace, account, spec).await
    }

    /// One by a whole `spec` of a TokenRequest.
    ///
    /// # Errors
    /// What the server said.
    pub async fn token_for(&self, namespace: &str, account: &str, spec: Value) -> Result<String, ServerError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let request: TokenRequest = object(json!({ "metadata": {}, "spec": spec }))?;
        let made = api.create_token_request(account, &PostParams::default(), &request).await;
        let status = made.map_err(said("request a token"))?.status;
        status.and_then(|status| status.token).ok_or_else(|| ServerError::refused("request a token", "there is none"))
    }

    /// Makes a Secret with nothing in it, unless there is one, and gives its UID.
    ///
    /// # Errors
    /// What the server said.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<String, ServerError> {
        let api: Api<Secret> = Api::namespaced(self.client(), namespace);
        let found = match api.get_opt(name).await.map_err(said("look for a Secret"))? {
            Some(found) => found,
            None => make(&api, json!({"metadata": {"name": name}})).await?,
        };
        Ok(found.metadata.uid.unwrap_or_default())
    }

    /// Keeps a text as the token of a Secret, as Kubernetes before 1.24 did with its own.
    ///
    /// # Errors
    /// What the server said.
    pub async fn secret_token(
        &self,
        namespace: &str,
        account: &str,
        name: &str,
        token: &str,
    ) -> Result<(), ServerError> {
        let api: Api<Secret> = Api::namespaced(self.client(), namespace);
        let annotations = BTreeMap::from([("kubernetes.io/service-account.name", account)]);
        let secret = json!({
            "metadata": {"name": name, "annotations": annotations},
            "type": "kubernetes.io/service-account-token",
            "stringData": {"token": token},
        });
        make(&api, secret).await.map(drop)
    }

    /// What the server says of an object, of any kind, that is made in this namespace, without making it; a field that it does not
    /// know is an error.
    ///
    /// # Errors
    /// What the server said.
    pub async fn would_make(&self, namespace: &str, object: Value) -> Result<(), ServerError> {
        let object: DynamicObject = self::object(object)?;
        let (types, name) = (object.types.clone().unwrap_or_default(), object.name_any());
        let kind = GroupVersionKind::try_from(&types);
        let kind = kind.map_err(|error| ServerError::refused("read the kind of an object", error.to_string()))?;
        let found = pinned_kind(&self.client, &kind).await;
        let (resource, capabilities) = found.map_err(said("look for the kind of an object"))?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client(), namespace, &resource),
        };
        let trial = PatchParams { dry_run: true, ..PatchParams::apply("signet-test").validation_strict() };
        api.patch(&name, &trial, &Patch::Apply(object)).await.map(drop).map_err(said("make an object for trial"))
    }

    /// An object, of a kind like `v1 Secret` or `batch/v1 Job`, as it is now; `None` when there is none.
    ///
    /// # Errors
    /// What the server said.
    pub async fn find(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>, ServerError> {
        let (version, kind) = kind.split_once(' ').unwrap_or(("v1", kind));
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let found = pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, kind)).await;
        let (resource, _) = found.map_err(said("look for the kind of an object"))?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client(), namespace, &resource);
        let found = api.get_opt(name).await.map_err(said("look for an object"))?;
        let shown = found.map(serde_json::to_value).transpose();
        shown.map_err(|error| ServerError::refused("read an object", error.to_string()))
    }

    /// Lets a service account do this, in the whole cluster: rules of a ClusterRole. Again for the same account: instead.
    ///
    /// # Errors
    /// What the server said.
    pub async fn allow(&self, namespace: &str, account: &str, rules: Value) -> Result<(), ServerError> {
        let subject = json!({"kind": "ServiceAccount", "namespace": namespace, "name": account});
        self.bind(&format!("test:{namespace}:{account}"), rules, subject).await
    }

    /// Lets anybody do this who comes without credentials.
    ///
    /// # Errors
    /// What the server said.
    pub async fn allow_everybody(&self, rules: Value) -> Result<(), ServerError> {
        let group = "rbac.authorization.k8s.io";
        let subject = json!({"apiGroup": group, "kind": "Group", "name": "system:unauthenticated"});
        self.bind("test:everybody", rules, subject).await
    }

    async fn bind(&self, name: &str, rules: Value, subject: Value) -> Result<(), ServerError> {
        let manager = PatchParams::apply("signet-test").force();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        });
        let roles: Api<ClusterRole> = Api::all(self.client());
        roles.patch(name, &manager, &Patch::Apply(role)).await.map_err(said("write a role"))?;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [subject],
        });
        let bindings: Api<ClusterRoleBinding> = Api::all(self.client());
        bindings.patch(name, &manager, &Patch::Apply(binding)).await.map(drop).map_err(said("bind a role"))
    }

    async fn delete<K>(&self, api: Api<K>, name: &str) -> Result<(), ServerError>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        api.delete(name, &now).await.map(drop).map_err(said("delete an object"))
    }
}

async fn make<K>(api: &Api<K>, fields: Value) -> Result<K, ServerError>
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    api.create(&PostParams::default(), &object(fields)?).await.map_err(said("make an object"))
}

fn object<K: DeserializeOwned>(fields: Value) -> Result<K, ServerError> {
    serde_json::from_value(fields).map_err(|error| ServerError::refused("write an object", error.to_string()))
}

fn said(doing: &'static str) -> impl FnOnce(kube::Error) -> ServerError {
    move |error| ServerError::refused(doing, error.to_string())
}
