//! The trust bundle in a ClusterTrustBundle of a cluster, in the version of its API that the server has. There is one object for
//! the whole cluster, which is looked at again and again rather than followed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use signet_core::publication::cluster_trust_bundle;
use signet_core::seams::publisher::{BundlePublisher, Found, PublishedTrust};
use tokio::time::Instant;

use super::calls::{Api, Fault, OBJECT, OnCall, Verb};
use super::pace::Pace;
use crate::kubernetes::ApiServer;

/// How often the object is looked at when nothing is known to have changed.
const LOOK: Duration = Duration::from_secs(10);
/// How long after a failure it is tried again, the first time and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often an object that changes meanwhile is looked at again.
const ATTEMPTS: usize = 4;
/// The versions that are known, the newest first.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const RESOURCE: &str = "clustertrustbundles";

/// Publishes in one cluster.
pub struct ClusterTrustBundlePublisher {
    name: String,
    api: Api,
    signer: String,
    object: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The version of the API that the server has.
    version: Option<&'static str>,
    /// Failures since it was last in place.
    failures: u32,
    pace: Pace,
}

/// What a version of the API holds.
#[derive(Deserialize)]
struct Resources {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
}

#[derive(Deserialize)]
struct Held {
    metadata: HeldMetadata,
    spec: HeldSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeldMetadata {
    resource_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeldSpec {
    trust_bundle: String,
}

impl ClusterTrustBundlePublisher {
    /// The publisher of this name, for the signer and the name in `names`; nothing is sent.
    #[must_use]
    pub fn new(name: &str, server: Arc<ApiServer>, on_call: Arc<OnCall>, names: (&str, &str)) -> Self {
        let (signer, own) = names;
        Self {
            name: name.to_owned(),
            api: Api { server, on_call },
            signer: signer.to_owned(),
            object: cluster_trust_bundle(signer, own),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the API in which the server has such objects.
    async fn version(&self) -> Result<&'static str, Fault> {
        if let Some(version) = self.state().version {
            return Ok(version);
        }
        for version in VERSIONS {
            let path = format!("/apis/certificates.k8s.io/{version}");
            let served = match self.api.call::<Resources>(Verb::Discover, &path, None, OBJECT).await {
                Ok(served) => served.resources.iter().any(|resource| resource.name == RESOURCE),
                Err(Fault::Absent { .. }) => false,
                Err(fault) => return Err(fault),
            };
            if served {
                self.state().version = Some(version);
                return Ok(version);
            }
        }
        Err(Fault::Refused(
            "the API server has no ClusterTrustBundle: Kubernetes 1.37 has, 1.33 to 1.36 with the feature gate ClusterTrustBundle \
             and runtime-config certificates.k8s.io/v1beta1=true"
                .to_owned(),
        ))
    }

    /// Puts the object right, and gives the sequence of the bundle that is in it then.
    async fn put(&self, trust: &dyn PublishedTrust) -> Result<u64, Fault> {
        let version = self.version().await?;
        let all = format!("/apis/certificates.k8s.io/{version}/{RESOURCE}");
        let path = format!("{all}/{}", self.object);
        for _ in 0..ATTEMPTS {
            let held = match self.api.call::<Held>(Verb::Get, &path, None, OBJECT).await {
                Ok(held) => Some(held),
                // Without such a resource there are no details.
                Err(Fault::Absent { .. }) => None,
                Err(fault) => return Err(fault),
            };
            // After the look, before the write: see `put.rs` of ConfigMaps.
            let now = trust.now().await.map_err(|error| Fault::Refused(error.to_string()))?;
            let now = now.ok_or_else(|| {
                Fault::Refused("there is no authority yet, so that nothing is to be published".to_owned())
            })?;
            let pem = now.bundle.pem();
            let written = match held {
                Some(held) if held.spec.trust_bundle == pem => return Ok(now.bundle.sequence()),
                Some(held) => {
                    let change = json!({
                        "metadata": {"resourceVersion": held.metadata.resource_version},
                        "spec": {"trustBundle": pem},
                    });
                    self.api.call::<Held>(Verb::Patch, &path, Some(&change), OBJECT).await
                }
                None => self.api.call::<Held>(Verb::Create, &all, Some(&self.whole(version, pem)), OBJECT).await,
            };
            match written {
                Ok(written) if written.spec.trust_bundle == pem => return Ok(now.bundle.sequence()),
                Ok(_) => {
                    let text = "it is changed while it is written: look for a webhook that does so";
                    return Err(Fault::Refused(text.to_owned()));
                }
                Err(Fault::Changed | Fault::Absent { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        // The server may have been upgraded to one with another version.
        self.state().version = None;
        Err(Fault::Changed)
    }

    fn whole(&self, version: &str, pem: &str) -> Value {
        let (name, value) = super::config_map::OURS;
        json!({
            "apiVersion": format!("certificates.k8s.io/{version}"),
            "kind": "ClusterTrustBundle",
            "metadata": {"name": self.object, "labels": {name: value}},
            "spec": {"signerName": self.signer, "trustBundle": pem},
        })
    }

    fn explained(&self, fault: &Fault) -> String {
        let text = fault.text();
        if text.contains("attest") {
            return format!(
                "the CA's account may not attest for the signer {}: give it that verb ({text})",
                self.signer
            );
        }
        format!("ClusterTrustBundle {}: {text}", self.object)
    }
}

#[async_trait]
impl BundlePublisher for ClusterTrustBundlePublisher {
    fn name(&self) -> &str {
        &self.name
    }

    async fn follow(&self) {
        std::future::pending().await
    }

    async fn look(&self, trust: &dyn PublishedTrust) -> Found {
        let put = self.put(trust).await;
        let (mut state, now) = (self.state(), Instant::now());
        match put {
            Ok(sequence) => {
                state.failures = 0;
                state.pace.answered();
                Found { sequence: Some(sequence), wanted: 1, in_place: 1, problem: None, again_in: Some(LOOK) }
            }
            Err(fault) => {
                state.pace.failed(&fault, now);
                let (first, longest) = RETRY;
                let wait = first.saturating_mul(1 << state.failures.min(10)).min(longest).max(state.pace.wait(now));
                if !matches!(fault, Fault::Throttled(_)) {
                    state.failures = state.failures.saturating_add(1);
                }
                let problem = Some(self.explained(&fault));
                Found { sequence: None, wanted: 1, in_place: 0, problem, again_in: Some(wait) }
            }
        }
    }

    async fn changed(&self) {
        std::future::pending().await
    }
}

#[cfg(test)]
#[path = "cluster_trust_bundle_tests.rs"]
mod tests;
