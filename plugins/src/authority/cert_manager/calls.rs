//! Calls about requests, each sent once and with a deadline, and what it means when one comes to nothing.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, Preconditions, WatchEvent, WatchParams};
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::seams::certificate_authority::SignError;

use super::request::{resource, shown};
use super::settings::CertManagerSettings;
use crate::kubernetes::{ApiServer, outage};

/// How long a call may take: longer than the 10 s that an API server waits for a webhook, so that it can say so itself.
const WITHIN: Duration = Duration::from_secs(15);
/// How long a watch lasts, in seconds; the API server ends it then.
const WATCH_FOR: u32 = 240;
/// How many left-overs are looked at at a time.
const MANY: u32 = 100;
/// By this name objects show who has written them.
const MANAGER: &str = "signet-ca";

/// A call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no such object, or nothing that it could be in.
    Absent(String),
    /// It is not allowed, by rights or by a webhook.
    Forbidden(String),
    /// It is not possible like this.
    Refused(String),
    /// The API server does not answer, has too much to do, or fails; or a webhook of its.
    Away(String),
}

impl Fault {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Absent(text) | Self::Forbidden(text) | Self::Refused(text) | Self::Away(text) => text,
        }
    }

    /// What it means for a signature that `what` came to nothing.
    pub(super) fn signing(&self, what: &str) -> SignError {
        let text = format!("{what}: {}", self.text());
        match self {
            Self::Away(_) => SignError::Unavailable(text),
            _ => SignError::Unusable(text),
        }
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        let detail = match outage(&error) {
            AuthenticationError::Unavailable { detail, .. } => shown(&detail),
            other => shown(&other.to_string()),
        };
        match error {
            kube::Error::Api(status) => match status.code {
                404 => Self::Absent(detail),
                403 => Self::Forbidden(detail),
                // Of 401 we are to blame, but credentials are read again.
                401 | 408 | 409 | 429 | 500..=599 => Self::Away(detail),
                _ => Self::Refused(detail),
            },
            _ => Self::Away(detail),
        }
    }
}

/// Sends one call.
pub(super) async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
    let late = |_| Fault::Away(format!("the API server has not answered within {WITHIN:?}"));
    tokio::time::timeout(WITHIN, call).await.map_err(late)?.map_err(Fault::from)
}

/// The requests of a namespace.
pub(super) struct Requests(Api<DynamicObject>);

impl Requests {
    pub(super) fn of(server: &ApiServer, settings: &CertManagerSettings) -> Self {
        Self(Api::namespaced_with(server.client(), &settings.namespace, &resource()))
    }

    /// Makes one; with `trial` everything but that.
    pub(super) async fn create(&self, object: &DynamicObject, trial: bool) -> Result<DynamicObject, Fault> {
        let params = PostParams { dry_run: trial, field_manager: Some(MANAGER.to_owned()) };
        within(self.0.create(&params, object)).await.map_err(|fault| match fault {
            Fault::Absent(text) => Fault::Absent(format!(
                "the API server has no CertificateRequests, or no such namespace: is cert-manager installed? ({text})"
            )),
            other => other,
        })
    }

    pub(super) async fn approve(&self, name: &str, object: &DynamicObject) -> Result<DynamicObject, Fault> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        within(self.0.replace_status(name, &params, object)).await
    }

    pub(super) async fn get(&self, name: &str) -> Result<DynamicObject, Fault> {
        within(self.0.get(name)).await
    }

    /// What happens to one after this version of it.
    pub(super) async fn watch(
        &self,
        name: &str,
        version: &str,
    ) -> Result<BoxStream<'static, Result<WatchEvent<DynamicObject>, Fault>>, Fault> {
        let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_FOR);
        let events = within(self.0.watch(&params, version)).await?;
        Ok(events.map_err(Fault::from).boxed())
    }

    /// Removes one, if it is there.
    pub(super) async fn delete(&self, name: &str, uid: Option<String>) -> Result<(), Fault> {
        let preconditions = uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match within(self.0.delete(name, &params)).await {
            Ok(_) | Err(Fault::Absent(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Those with these labels, or the first of them.
    pub(super) async fn list(&self, labels: &str) -> Result<Vec<DynamicObject>, Fault> {
        let params = ListParams::default().labels(labels).limit(MANY);
        Ok(within(self.0.list(&params)).await?.items)
    }
}
