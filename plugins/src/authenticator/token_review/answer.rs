//! What the API server's answer to a TokenReview says about the caller.

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use signet_core::caller::{BoundNode, BoundObject, Caller};
use signet_core::seams::authenticator::{AuthenticationError, Denial, Outage};

use crate::authenticator::jwt::claims::is_uid;
use crate::authenticator::jwt::{TokenRules, shorten};

/// The group of every service account.
const ACCOUNTS: &str = "system:serviceaccounts";
/// What begins the names of extra fields that the API server itself fills.
const EXTRA: &str = "authentication.kubernetes.io/";

/// The caller that a review proves. `claimed` is what the token says of itself; an API server that says otherwise (it may have
/// other authenticators, or another one stands in its place) proves nobody.
///
/// # Errors
/// [`Denial::TokenRejected`] when the API server does not know the token, [`Denial::AudienceMismatch`] when it knows it for
/// others only, [`Denial::ClaimsInvalid`] when it is not a workload's, [`Outage::ApiFailed`] when there is no answer in the
/// answer.
pub(super) fn caller(
    status: Option<TokenReviewStatus>,
    claimed: &Caller,
    rules: &TokenRules,
) -> Result<Caller, AuthenticationError> {
    let status = status.ok_or_else(|| {
        AuthenticationError::unavailable(Outage::ApiFailed, "the answer to a TokenReview has no status")
    })?;
    let error = status.error.filter(|error| !error.is_empty());
    if status.authenticated != Some(true) || error.is_some() {
        let error = error.unwrap_or_else(|| "it gives no reason".to_owned());
        let detail = format!("the API server does not know the token: {}", shorten(&error));
        return Err(AuthenticationError::denied(Denial::TokenRejected, detail));
    }
    // A server that knows nothing of audiences leaves them out, and has not checked them then.
    let audiences = status.audiences.unwrap_or_default();
    if !audiences.iter().any(|audience| rules.audiences.contains(audience)) {
        let detail = format!(
            "the API server knows the token for [{}], expected one of [{}]",
            shorten(&audiences.join(", ")),
            rules.audiences.join(", ")
        );
        return Err(AuthenticationError::denied(Denial::AudienceMismatch, detail));
    }
    of(&status.user.unwrap_or_default(), claimed)
}

fn of(user: &UserInfo, claimed: &Caller) -> Result<Caller, AuthenticationError> {
    let invalid = |detail: String| AuthenticationError::denied(Denial::ClaimsInvalid, detail);
    let (namespace, account) = (claimed.identity.namespace(), claimed.identity.service_account());
    let name = user.username.as_deref().unwrap_or_default();
    if name != format!("system:serviceaccount:{namespace}:{account}") {
        return Err(invalid(format!(
            "the API server knows the token as {:?}, but its sub is the service account {namespace}/{account}",
            shorten(name)
        )));
    }
    let groups = user.groups.as_deref().unwrap_or_default();
    let of_namespace = format!("{ACCOUNTS}:{namespace}");
    if let Some(missing) = [ACCOUNTS, &of_namespace].into_iter().find(|group| !groups.iter().any(|is| is == group)) {
        return Err(invalid(format!("the API server does not count the account in the group {missing}")));
    }
    let extra = |name: &str| {
        let values = user.extra.as_ref().and_then(|extra| extra.get(&format!("{EXTRA}{name}")));
        values.and_then(|values| values.first()).filter(|value| !value.is_empty()).cloned()
    };
    // Tokens bound to a node have no pod; where the Node object is missing, there is no UID of it.
    let pod = extra("pod-name").zip(extra("pod-uid")).map(|(name, uid)| BoundObject { name, uid });
    let node = extra("node-name").map(|name| BoundNode { name, uid: extra("node-uid") });
    for (what, says, knows) in [
        ("UID", Some(&claimed.service_account_uid), user.uid.as_ref()),
        ("pod", claimed.pod.as_ref().map(|pod| &pod.uid), pod.as_ref().map(|pod| &pod.uid)),
    ] {
        if says != knows {
            let shown =
                |text: Option<&String>| text.map_or_else(|| "none".to_owned(), |text| format!("{:?}", shorten(text)));
            return Err(invalid(format!(
                "the {what} of the token is {}, but the API server says {}",
                shown(says),
                shown(knows)
            )));
        }
    }
    // API servers name the credential since 1.30.
    let named = extra("credential-id").and_then(|id| Some(id.strip_prefix("JTI=")?.to_owned()));
    let mut credential = claimed.credential.clone();
    credential.token_id = named.filter(|id| is_uid(id)).or(credential.token_id);
    Ok(Caller { pod, node, credential, ..claimed.clone() })
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
