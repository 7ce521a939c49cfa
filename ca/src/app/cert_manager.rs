//! cert-manager as the backend, put together out of the configuration.

use std::sync::Arc;
use std::time::Duration;

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

/// How often it is looked at when nobody else does.
const LOOK: Duration = Duration::from_secs(2);

const SECTION: &str = "authority.cert_manager";

/// The issuer of the configuration.
#[derive(Clone)]
pub(super) struct Opened {
    authority: Arc<CertManagerAuthority>,
    is_former: bool,
}

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
        let authority = CertManagerAuthority::new(settings, credentials, files(), Arc::new(SystemClock));
        Self { authority: Arc::new(authority), is_former: false }
    }

    /// The same as the one before.
    pub(super) fn being_left(self) -> Self {
        Self { is_former: true, ..self }
    }

    /// Looks at its roots, and removes what nobody waits for, again and again.
    pub(super) async fn keep_looking(&self) {
        loop {
            // What is wrong is told by `problem`.
            drop(self.authority.offer().await);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why it cannot be used.
    pub(super) fn problem(&self) -> Option<String> {
        self.authority.problem()
    }

    pub(super) fn upstream(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.authority) as _
    }

    /// The roots that it offers.
    pub(super) async fn roots(&self) -> Result<Vec<Root>, SignError> {
        Ok(self.authority.offer().await?.map(|offer| offer.roots).unwrap_or_default())
    }

    /// What is wrong with its files.
    pub(super) async fn files(&self) -> Vec<String> {
        self.authority.check_files().await.into_iter().map(|text| self.named(text)).collect()
    }

    /// What is wrong with it, what cannot be seen, and whether a signature may be tried; it is asked.
    pub(super) async fn probe(&self) -> (Vec<String>, Vec<String>, bool) {
        let found = self.authority.probe().await;
        let may_sign = found.problems.is_empty() && self.authority.certifies();
        let named = |all: Vec<String>| all.into_iter().map(|text| self.named(text)).collect();
        (named(found.problems), named(found.unseen), may_sign)
    }

    /// Has a CA certified on trial.
    pub(super) async fn try_out(&self) -> Result<Tried, String> {
        self.authority.try_out().await.map_err(|error| error.to_string())
    }

    /// The same with what the rotator makes of it.
    pub(super) fn watched(self, executor: Arc<Executor>) -> Arc<Watched> {
        Arc::new(Watched { authority: self.authority, executor })
    }

    /// What is about the section says so.
    pub(super) fn named(&self, text: String) -> String {
        let text = if text.starts_with("authority.") { text } else { format!("{SECTION}: {text}") };
        if self.is_former { text.replace(SECTION, "authority.former.cert_manager") } else { text }
    }
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
