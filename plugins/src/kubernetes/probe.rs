//! What an API server lets us do of what a cluster's configuration needs, tried out: for `check --connect`. Nothing is changed
//! there, and no token is shown to it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::ListParams;
use serde::Deserialize;
use signet_core::seams::authenticator::{AuthenticationError, Outage};

use super::api_server::{ApiServer, outage};
use super::rights::{CERTIFICATES, Right, may, signer_problems};

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
    /// The signer whose PodCertificateRequests are answered.
    pub signer: Option<String>,
    /// Rights for all else.
    pub more: Vec<Right>,
}

impl Needs {
    fn rights(&self) -> Vec<Right> {
        let mut all = Vec::new();
        if self.reviews {
            all.push(REVIEWS);
        }
        for (needed, resource) in [(self.pods, "pods"), (self.nodes, "nodes"), (self.accounts, "serviceaccounts")] {
            if needed {
                all.extend(["list", "watch"].map(|verb| Right::new(verb, "", resource)));
            }
        }
        if let Some(signer) = &self.signer {
            let requests = |verb| Right::new(verb, CERTIFICATES, "podcertificaterequests");
            all.extend(["get", "list", "watch"].map(requests));
            all.push(Right::new("update", CERTIFICATES, "podcertificaterequests/status"));
            all.push(Right::new("sign", CERTIFICATES, "signers").called(signer));
            all.extend(["pods", "serviceaccounts", "nodes"].map(|resource| Right::new("get", "", resource)));
        }
        all.extend(self.more.iter().cloned());
        all
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
}

/// What was found, each thing in a sentence that begins with the field of the configuration that it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What the server does not let us see, so that it may be wrong.
    pub unseen: Vec<String>,
}

/// Tries out what `needs` needs.
///
/// # Errors
/// Why the server cannot be spoken to at all.
pub async fn probe(server: &ApiServer, needs: &Needs) -> Result<Probed, String> {
    // Whoever is known may ask what they may do, so that this tells of the way there and of ourselves.
    let missing = missing_rights(server, needs).await;
    let mut found = Probed { problems: missing.map_err(|error| explained(&error, server))?, unseen: Vec::new() };
    if needs.signer.is_some() {
        found.problems.extend(signer_problems(server).await.map_err(|error| explained(&error, server))?);
    }
    match issuer(server).await {
        Ok(issuer) => found.problems.extend(issuer_problems(&issuer, needs)),
        Err(why) => found.unseen.push(format!(
            "tokens.issuer, audiences: whether they fit the API server, whose discovery document cannot be read: {why}"
        )),
    }
    for (namespace, name) in &needs.trusted {
        match account(server, namespace, name).await {
            Account::Found => {}
            Account::Wrong(problem) => found.problems.push(problem),
            Account::Unseen(what) => found.unseen.push(what),
        }
    }
    Ok(found)
}

pub(super) async fn within<T>(asking: impl Future<Output = kube::Result<T>>) -> Result<T, AuthenticationError> {
    let late = |_| AuthenticationError::unavailable(Outage::ApiTimedOut, format!("no answer within {ANSWER:?}"));
    tokio::time::timeout(ANSWER, asking).await.map_err(late)?.map_err(|error| outage(&error))
}

/// What it takes to ask about tokens.
const REVIEWS: Right = Right::new("create", "authentication.k8s.io", "tokenreviews");

/// That the API server answers, and lets us ask about tokens; whether it says the latter, which not every one tells. It is
/// not asked about any: that costs it next to nothing.
///
/// # Errors
/// [`AuthenticationError::Unavailable`].
pub async fn may_review(server: &ApiServer) -> Result<bool, AuthenticationError> {
    match may(server, &REVIEWS).await {
        Ok(true) => Ok(true),
        Ok(false) => {
            let detail = "the API server answers, but does not let the CA's account create TokenReviews";
            Err(AuthenticationError::unavailable(Outage::ApiForbidden, detail))
        }
        Err(AuthenticationError::Unavailable { reason: Outage::ApiForbidden, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The rights that are missing, in one sentence for each.
async fn missing_rights(server: &ApiServer, needs: &Needs) -> Result<Vec<String>, AuthenticationError> {
    let missing = lacking(server, needs).await?.into_iter();
    Ok(missing.map(|right| format!("api_server: {}", in_words(&right))).collect())
}

/// What to do about a right that is missing.
fn in_words(right: &Right) -> String {
    format!("its account may not {right}; bind a ClusterRole with that right to it (docs/kubernetes.md)")
}

/// The rights that `needs` needs and the server does not give us, by what it says itself: nothing is tried out.
///
/// # Errors
/// [`AuthenticationError::Unavailable`] when it does not say.
pub async fn lacking(server: &ApiServer, needs: &Needs) -> Result<Vec<Right>, AuthenticationError> {
    let rights = needs.rights();
    if rights.is_empty() {
        // Asked all the same, for what else the answer tells.
        may(server, &Right::new("get", "", "pods")).await?;
    }
    let mut missing = Vec::new();
    for right in rights {
        if !may(server, &right).await? {
            missing.push(right);
        }
    }
    Ok(missing)
}

/// The issuer that the API server names.
async fn issuer(server: &ApiServer) -> Result<String, String> {
    let getting = server.get("/.well-known/openid-configuration", "*/*", MAX_DOCUMENT);
    let document = tokio::time::timeout(ANSWER, getting).await.map_err(|_| format!("no answer within {ANSWER:?}"))?;
    let document = document.map_err(|error| said(&error))?;
    let document: Document = serde_json::from_slice(&document).map_err(|error| error.to_string())?;
    Ok(document.issuer)
}

/// Whether that issuer is configured, and whether tokens for the API server itself would count.
fn issuer_problems(issuer: &String, needs: &Needs) -> Vec<String> {
    let shown: String = issuer.chars().take(200).collect();
    let mut problems = Vec::new();
    if needs.is_issuer && !needs.issuers.is_empty() && !needs.issuers.contains(issuer) {
        let configured = needs.issuers.join(", ");
        problems.push(format!(
            "tokens.issuer: is {configured}, but the API server issues tokens as {shown:?}; write exactly that"
        ));
    }
    // By default the API server's own audience is its issuer.
    if needs.audiences.contains(issuer) {
        problems.push(format!(
            "audiences: {shown:?} is the audience of the API server itself, so that the token that every pod has for that \
             would count here; name one that only tokens for this CA have, such as istio-ca"
        ));
    }
    problems
}

/// What can be seen of a trusted account.
enum Account {
    Found,
    Wrong(String),
    Unseen(String),
}

/// Looks for a trusted account, by a pod of it where accounts may not be read.
async fn account(server: &ApiServer, namespace: &str, name: &str) -> Account {
    let field = format!("trusted_node_accounts: {namespace}/{name}");
    let accounts: Api<ServiceAccount> = Api::namespaced(server.client(), namespace);
    match within(accounts.get_opt(name)).await {
        Ok(Some(_)) => Account::Found,
        Ok(None) => Account::Wrong(format!("{field}: there is no such service account; compare namespace and name")),
        // It need not let us read accounts. Whether there is a pod of it, it must.
        Err(AuthenticationError::Unavailable { reason: Outage::ApiForbidden, .. }) => {
            let pods: Api<Pod> = Api::namespaced(server.client(), namespace);
            let selected = ListParams::default().fields(&format!("spec.serviceAccountName={name}")).limit(1);
            match within(pods.list_metadata(&selected)).await {
                Ok(found) if !found.items.is_empty() => Account::Found,
                Ok(_) => Account::Wrong(format!(
                    "{field}: no pod has this service account; compare namespace and name, or start the node agents"
                )),
                Err(error) => Account::Unseen(format!(
                    "{field}: whether there is such a service account; accounts may not be read (403), nor pods be \
                     listed: {}",
                    said(&error)
                )),
            }
        }
        Err(error) => Account::Wrong(format!("{field}: cannot be looked up: {}", explained(&error, server))),
    }
}

/// What an API server has said, or kept it from saying anything.
fn said(error: &AuthenticationError) -> String {
    match error {
        AuthenticationError::Unavailable { detail, .. } => detail.clone(),
        error => error.to_string(),
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
