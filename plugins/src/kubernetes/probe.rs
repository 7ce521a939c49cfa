//! What an API server lets us do of what a cluster's configuration needs, tried out: for `check --connect`. Nothing is changed
//! there, and no token is shown to it.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde::Deserialize;
use signet_core::seams::authenticator::{AuthenticationError, Outage};

use super::api_server::{ApiServer, outage};

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest discovery document that is read, in bytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// What the configuration of a cluster needs of its API server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Tokens are reviewed.
    pub reviews: bool,
    /// Pods are followed.
    pub pods: bool,
    /// Nodes are followed.
    pub nodes: bool,
    /// Service accounts are followed.
    pub accounts: bool,
    /// Whether its discovery document is to name one of `issuers`.
    pub is_issuer: bool,
    /// The issuers of its tokens; empty for any.
    pub issuers: Vec<String>,
    /// Audiences of which a token needs one.
    pub audiences: Vec<String>,
    /// Namespace and name of accounts that are to exist.
    pub trusted: Vec<(String, String)>,
}

impl Needs {
    /// The rights: verb, group and resource.
    fn rights(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut all = Vec::new();
        if self.reviews {
            all.push(("create", "authentication.k8s.io", "tokenreviews"));
        }
        for (needed, resource) in [(self.pods, "pods"), (self.nodes, "nodes"), (self.accounts, "serviceaccounts")] {
            if needed {
                all.extend(["list", "watch"].map(|verb| (verb, "", resource)));
            }
        }
        all
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
}

/// What is wrong, each thing in a sentence that begins with the field of the configuration that it is about.
///
/// # Errors
/// Why the server cannot be spoken to at all.
pub async fn probe(server: &ApiServer, needs: &Needs) -> Result<Vec<String>, String> {
    // Whoever is known may ask what they may do, so that this tells of the way there and of ourselves.
    let missing = missing_rights(server, needs).await;
    let mut problems = missing.map_err(|error| explained(&error, server))?;
    problems.extend(issuer_problems(server, needs).await);
    for (namespace, name) in &needs.trusted {
        problems.extend(account_problem(server, namespace, name).await);
    }
    Ok(problems)
}

async fn within<T>(asking: impl Future<Output = kube::Result<T>>) -> Result<T, AuthenticationError> {
    let late = |_| AuthenticationError::unavailable(Outage::ApiTimedOut, format!("no answer within {ANSWER:?}"));
    tokio::time::timeout(ANSWER, asking).await.map_err(late)?.map_err(|error| outage(&error))
}

/// The rights that are missing, in one sentence for each.
async fn missing_rights(server: &ApiServer, needs: &Needs) -> Result<Vec<String>, AuthenticationError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(server.client());
    let mut missing = Vec::new();
    let mut rights = needs.rights();
    if rights.is_empty() {
        // Asked all the same, for what else the answer tells.
        rights.push(("get", "", "pods"));
    }
    for (verb, group, resource) in rights {
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let asked = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = within(api.create(&PostParams::default(), &asked)).await?;
        let needed = needs.rights().contains(&(verb, group, resource));
        if needed && !answer.status.is_some_and(|status| status.allowed) {
            let group = if group.is_empty() { String::new() } else { format!(" of {group}") };
            missing.push(format!(
                "api_server: its account may not {verb} {resource}{group} in all namespaces; bind a ClusterRole with \
                 that right to it (docs/kubernetes.md)"
            ));
        }
    }
    Ok(missing)
}

/// Whether the issuer that the API server names is configured, and whether tokens for the API server itself would count.
async fn issuer_problems(server: &ApiServer, needs: &Needs) -> Vec<String> {
    let getting = server.get("/.well-known/openid-configuration", "*/*", MAX_DOCUMENT);
    let Ok(Ok(document)) = tokio::time::timeout(ANSWER, getting).await else { return Vec::new() };
    let Ok(Document { issuer }) = serde_json::from_slice(&document) else { return Vec::new() };
    let shown: String = issuer.chars().take(200).collect();
    let mut problems = Vec::new();
    if needs.is_issuer && !needs.issuers.is_empty() && !needs.issuers.contains(&issuer) {
        let configured = needs.issuers.join(", ");
        problems.push(format!(
            "tokens.issuer: is {configured}, but the API server issues tokens as {shown:?}; write exactly that"
        ));
    }
    // By default the API server's own audience is its issuer.
    if needs.audiences.contains(&issuer) {
        problems.push(format!(
            "audiences: {shown:?} is the audience of the API server itself, so that the token that every pod has for that \
             would count here; name one that only tokens for this CA have, such as istio-ca"
        ));
    }
    problems
}

/// That a trusted account does not exist, as far as can be seen.
async fn account_problem(server: &ApiServer, namespace: &str, name: &str) -> Option<String> {
    let field = format!("trusted_node_accounts: {namespace}/{name}");
    let accounts: Api<ServiceAccount> = Api::namespaced(server.client(), namespace);
    match within(accounts.get_opt(name)).await {
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("{field}: there is no such service account; compare namespace and name")),
        // It need not let us read accounts. Whether there is a pod of it, it must.
        Err(AuthenticationError::Unavailable { reason: Outage::ApiForbidden, .. }) => {
            let pods: Api<Pod> = Api::namespaced(server.client(), namespace);
            let selected = ListParams::default().fields(&format!("spec.serviceAccountName={name}")).limit(1);
            let found = within(pods.list_metadata(&selected)).await.ok()?;
            found.items.is_empty().then(|| {
                format!(
                    "{field}: no pod has this service account; compare namespace and name, or start the node agents"
                )
            })
        }
        Err(error) => Some(format!("{field}: cannot be looked up: {}", explained(&error, server))),
    }
}

/// What keeps the API server from answering, and what to look at.
fn explained(error: &AuthenticationError, server: &ApiServer) -> String {
    let AuthenticationError::Unavailable { reason, detail } = error else { return error.to_string() };
    let credentials = server.credentials();
    let advice = match reason {
        Outage::ApiUnauthorized => {
            format!(
                "it does not know the credentials in {credentials} (401): is the token or certificate there of this cluster, and has it not ended?"
            )
        }
        Outage::ApiForbidden => format!("it does not let the account in {credentials} do this (403)"),
        Outage::ApiUnreachable if detail.contains("certificate") => format!(
            "TLS fails: is the API server's certificate of the CA (certificate-authority) and for the host (server, tls-server-name) that {credentials} names?"
        ),
        Outage::ApiUnreachable => {
            format!("it cannot be reached: is the address (server) in {credentials} right, and the network open?")
        }
        Outage::ApiTimedOut => "it does not answer: look at the network in between, and at its load".to_owned(),
        Outage::ApiThrottled => "it has too much to do (429); try again".to_owned(),
        _ => "it fails, or something else answers at its address".to_owned(),
    };
    format!("{advice} ({detail})")
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
