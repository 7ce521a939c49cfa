//! cert-manager as the backend, put together out of the configuration.

use std::sync::Arc;

use signet_core::authority::Root;
use signet_core::clock::SystemClock;
use signet_core::identity::TrustDomain;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_plugins::authority::{CertManagerAuthority, CertManagerSettings, IssuerRef, ObjectKey, RootsFrom, Tried};

use super::kubernetes::{credentials, files};
use crate::config::{self, CertManager, CertManagerRoots};
use crate::health::{CaFiles, FileProblems};
use crate::rotator::Executor;

/// The issuer of the configuration.
#[derive(Clone)]
pub(super) struct Opened(Arc<CertManagerAuthority>);

impl Opened {
    /// Touches nothing yet.
    pub(super) fn new(section: &CertManager, trust_domain: &TrustDomain) -> Self {
        let settings = CertManagerSettings {
            trust_domain: trust_domain.clone(),
            namespace: section.namespace.clone(),
            issuer: IssuerRef { name: section.name.clone(), kind: section.kind.clone(), group: section.group.clone() },
            roots: match &section.roots {
                CertManagerRoots::File(path) => RootsFrom::File(path.clone()),
                CertManagerRoots::ConfigMap(at) => RootsFrom::ConfigMap(key(at)),
                CertManagerRoots::Secret(at) => RootsFrom::Secret(key(at)),
                CertManagerRoots::StatusCa => RootsFrom::Requests,
            },
            deadline: section.deadline,
            approve: section.approve,
            leaves: section.leaves.is_some(),
        };
        let credentials = credentials(&section.api_server);
        Self(Arc::new(CertManagerAuthority::new(settings, credentials, files(), Arc::new(SystemClock))))
    }

    pub(super) fn upstream(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.0) as _
    }

    /// The roots that it offers.
    pub(super) async fn roots(&self) -> Result<Vec<Root>, SignError> {
        Ok(self.0.offer().await?.map(|offer| offer.roots).unwrap_or_default())
    }

    /// What is wrong with its files.
    pub(super) async fn files(&self) -> Vec<String> {
        self.0.check_files().await.into_iter().map(named).collect()
    }

    /// What is wrong with it, what cannot be seen, and whether a signature may be tried; it is asked.
    pub(super) async fn probe(&self) -> (Vec<String>, Vec<String>, bool) {
        let found = self.0.probe().await;
        let may_sign = found.problems.is_empty() && self.0.certifies();
        (found.problems.into_iter().map(named).collect(), found.unseen.into_iter().map(named).collect(), may_sign)
    }

    /// Has a CA certified on trial.
    pub(super) async fn try_out(&self) -> Result<Tried, String> {
        self.0.try_out().await.map_err(|error| error.to_string())
    }

    /// The same with what the rotator makes of it.
    pub(super) fn watched(self, executor: Arc<Executor>) -> Arc<Watched> {
        Arc::new(Watched { authority: self.0, executor })
    }
}

/// What is about the section says so.
pub(super) fn named(text: String) -> String {
    if text.starts_with("authority.") { text } else { format!("authority.cert_manager: {text}") }
}

fn key(at: &config::ObjectKey) -> ObjectKey {
    ObjectKey { namespace: at.namespace.clone(), name: at.name.clone(), key: at.key.clone() }
}

/// cert-manager, as the rotator finds it.
pub(super) struct Watched {
    authority: Arc<CertManagerAuthority>,
    executor: Arc<Executor>,
}

#[async_trait::async_trait]
impl CaFiles for Watched {
    async fn problems(&self) -> FileProblems {
        let ca = self.authority.problem().or_else(|| self.executor.source_problem());
        FileProblems { ca, lists: None }
    }

    fn in_order(&self) -> &'static str {
        "can be used; nobody can revoke what is below it: cert-manager has no revocation list"
    }
}
