//! What an API server lets us do, asked of itself: nothing is tried out for that.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use signet_core::seams::authenticator::AuthenticationError;

use super::api_server::ApiServer;
use super::pod_certificates::serves_pod_certificates;
use super::probe::within;

/// The group of requests for certificates.
pub(super) const CERTIFICATES: &str = "certificates.k8s.io";

/// One thing that may be done: verb, group, resource with its subresource, and the name where it is about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right<'a>(pub(super) &'a str, pub(super) &'a str, pub(super) &'a str, pub(super) Option<&'a str>);

/// Whether we may do something.
pub(super) async fn may(
    server: &ApiServer,
    Right(verb, group, resource, name): Right<'_>,
) -> Result<bool, AuthenticationError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(server.client());
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(one, sub)| (one, Some(sub)));
    // Of signers, all of a domain may be allowed under one name.
    let domain = name.and_then(|name| name.split_once('/')).map(|(domain, _)| format!("{domain}/*"));
    for name in [name.map(str::to_owned), domain] {
        let is_only = name.is_none();
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            verb: Some(verb.to_owned()),
            name,
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let asked = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = within(api.create(&PostParams::default(), &asked)).await?;
        if answer.status.is_some_and(|status| status.allowed) {
            return Ok(true);
        }
        if is_only {
            return Ok(false);
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
    if may(server, Right("create", CERTIFICATES, "podcertificaterequests", None)).await? {
        problems.push(
            "pod_certificates: the account of api_server may itself create podcertificaterequests, which only kubelets should; \
             take that right from it"
                .to_owned(),
        );
    }
    Ok(problems)
}
