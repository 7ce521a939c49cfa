//! Callers who are believed only while what they are bound to exists: the pods and service accounts of the cluster are followed
//! for that, and nobody is asked about a single token or certificate.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use signet_core::caller::Caller;
use signet_core::seams::authenticator::{AuthenticationError, Denial, LiveWorkloads, Outage, TokenAuthenticator};
use signet_core::secret::Secret;
use signet_core::time_math;
use time::OffsetDateTime;

use crate::kubernetes::{Bound, PodIndex};

/// How long after a token was made its pod or account may be one that was not heard of yet.
const NEWS_WITHIN: Duration = Duration::from_secs(60);

/// Judges by what is followed whom a token, verified with published keys, has proved to `inner`.
pub struct LiveObjects {
    inner: Arc<dyn TokenAuthenticator>,
    pods: Arc<PodIndex>,
}

impl LiveObjects {
    /// Believes whom `inner` believes while `pods` knows the pod and the account.
    #[must_use]
    pub fn new(inner: Arc<dyn TokenAuthenticator>, pods: Arc<PodIndex>) -> Self {
        Self { inner, pods }
    }
}

#[async_trait]
impl TokenAuthenticator for LiveObjects {
    async fn authenticate(&self, token: &Secret, now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        let caller = self.inner.authenticate(token, now).await?;
        self.pods.check(&caller, now)?;
        Ok(caller)
    }
}

impl LiveWorkloads for PodIndex {
    fn check(&self, caller: &Caller, now: OffsetDateTime) -> Result<(), AuthenticationError> {
        let unknown = |detail: String| Err(AuthenticationError::unavailable(Outage::ObjectsUnknown, detail));
        let bound = match self.bound(caller) {
            Ok(bound) => bound,
            Err(reason) => {
                let why = self.health().problem.map_or_else(String::new, |problem| format!(": {problem}"));
                return unknown(format!("{}{why}", reason.label()));
            }
        };
        let (namespace, account) = (caller.identity.namespace(), caller.identity.service_account());
        let pod = caller.pod.as_ref().map_or("", |pod| pod.name.as_str());
        let (reason, what) = match bound {
            Bound::Alive => return Ok(()),
            Bound::PodUnknown => (Denial::PodGone, format!("there is no pod {namespace}/{pod}")),
            Bound::AccountUnknown => {
                (Denial::AccountGone, format!("there is no service account {namespace}/{account}"))
            }
            Bound::PodReplaced => (Denial::PodGone, format!("the pod {namespace}/{pod} is another one now")),
            Bound::PodEnded => (Denial::PodGone, format!("the pod {namespace}/{pod} has ended")),
            Bound::AccountReplaced => {
                (Denial::AccountGone, format!("the service account {namespace}/{account} is another one now"))
            }
        };
        // What was made a moment ago may not have been heard of: that is no reason to refuse whoever has just started.
        let is_new = caller.made_at.is_some_and(|made| now < time_math::after(made, NEWS_WITHIN));
        if is_new && bound.may_be_news() {
            return unknown(format!("{what}, as far as was heard"));
        }
        Err(AuthenticationError::denied(reason, what))
    }
}

#[cfg(test)]
#[path = "live_objects_tests.rs"]
mod tests;
