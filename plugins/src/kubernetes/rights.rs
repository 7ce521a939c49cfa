//! What an API server lets us do, asked of itself: nothing is tried out for that.

use std::fmt;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use signet_core::seams::authenticator::AuthenticationError;

use super::api_server::ApiServer;
use super::pod_certificates::serves_pod_certificates;
use super::probe::within;

/// The group of requests for certificates.
pub(super) const CERTIFICATES: &str = "certificates.k8s.io";

/// A right, in all namespaces or in one: a verb on a kind of objects, or on the one of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: Option<String>,
    namespace: Option<String>,
}

impl Right {
    /// For all objects of a kind; a subresource stands behind a slash.
    #[must_use]
    pub const fn new(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self { verb, group, resource, name: None, namespace: None }
    }

    /// The same for the objects of one name.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// The same in one namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// The names that it may be allowed under: of signers, also all of a domain.
    fn names(&self) -> Vec<Option<String>> {
        let domain = self.name.as_deref().filter(|_| self.resource == "signers").and_then(|name| name.split_once('/'));
        let mut all = vec![self.name.clone()];
        all.extend(domain.map(|(domain, _)| Some(format!("{domain}/*"))));
        all
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, name, namespace } = self;
        write!(f, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(f, " of {group}")?;
        }
        if let Some(name) = name {
            write!(f, " called {name}")?;
        }
        match namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None if name.is_none() => f.write_str(" in all namespaces"),
            None => Ok(()),
        }
    }
}

/// Whether we have a right.
pub(crate) async fn may(server: &ApiServer, right: &Right) -> Result<bool, AuthenticationError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(server.client());
    let (resource, subresource) =
        right.resource.split_once('/').map_or((right.resource, None), |(one, sub)| (one, Some(sub)));
    for name in right.names() {
        let attributes = ResourceAttributes {
            group: Some(right.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            verb: Some(right.verb.to_owned()),
            namespace: right.namespace.clone(),
            name,
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let asked = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = within(api.create(&PostParams::default(), &asked)).await?;
        if answer.status.is_some_and(|status| status.allowed) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is not as it should be for the signer of pods' certificates, beside rights that are missing.
pub(super) async fn signer_problems(server: &ApiServer) -> Result<Vec<String>, AuthenticationError> {
    let mut problems = Vec::new();
    if !serves_pod_certificates(server).await? {
        problems.push(
            "pod_certificates: the API server has no PodCertificateRequests; use Kubernetes 1.37, or turn on the feature gate \
             PodCertificateRequest and certificates.k8s.io/v1beta1"
                .to_owned(),
        );
    }
    // Whoever may do that gets the identity of any pod that asks for certificates at all.
    if may(server, &Right::new("create", CERTIFICATES, "podcertificaterequests")).await? {
        problems.push(
            "pod_certificates: the account of api_server may itself create podcertificaterequests, which only kubelets should; \
             take that right from it"
                .to_owned(),
        );
    }
    Ok(problems)
}
