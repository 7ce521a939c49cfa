//! The Vault or OpenBao that certifies issuing CAs or signs leaves, put together out of the configuration.

use std::sync::Arc;
use std::time::Duration;

use signet_core::audit::{EventKind, Outcome};
use signet_core::clock::SharedClock;
use signet_core::identity::TrustDomain;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_plugins::authority::{
    CircuitState, LeafRoles, LoggedIn, Login, Tried, VaultAuthority, VaultLogin, VaultSettings, WithFormer,
};
use signet_plugins::files::Files;
use signet_runtime::files as runtime_files;
use signet_runtime::output::error_chain;
use tokio_util::sync::CancellationToken;

use crate::config::{Mode, Vault, VaultAuth};
use crate::notices::{Notice, Notices};
use crate::rotator::Executor;
use crate::signing_state::StateReader;
use crate::vault_health::{Circuit, VaultHealth, VaultLook};

/// The largest file of credentials that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The Vault of the configuration.
#[derive(Clone)]
pub(super) struct Opened {
    vault: Arc<VaultAuthority>,
    is_former: bool,
}

impl Opened {
    /// Touches nothing yet.
    pub(super) fn new(vault: &Vault, trust_domain: &TrustDomain, clock: SharedClock) -> Self {
        let settings = VaultSettings {
            address: vault.address.clone(),
            ca_file: vault.ca_file.clone(),
            namespace: vault.namespace.clone(),
            mount: vault.mount.clone(),
            issuer: vault.issuer.clone(),
            login: login(&vault.auth),
            timeout: vault.timeout,
            refresh: vault.refresh,
            trust_domain: trust_domain.clone(),
            leaves: match vault.mode.clone() {
                Mode::Intermediate => None,
                Mode::Leaf { role, serving_role, at_once } => Some(LeafRoles {
                    serving: serving_role.unwrap_or_else(|| role.clone()),
                    workloads: role,
                    at_once: at_once.into(),
                }),
            },
        };
        // Files may hang: each costs one thread then, and nobody waits for it for long.
        let files = Files::read_by(|file| {
            Box::pin(
                async move { runtime_files::read_in_time(&file, MAX_FILE).await.map_err(|error| error_chain(&error)) },
            )
        });
        Self { vault: Arc::new(VaultAuthority::new(settings, files, clock)), is_former: false }
    }

    /// The same as the one before.
    pub(super) fn being_left(self) -> Self {
        Self { is_former: true, ..self }
    }

    pub(super) fn upstream(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.vault) as _
    }

    /// Puts each login on record from now on.
    pub(super) fn record_logins(&self, notices: Notices) {
        self.vault.tell_logins(Arc::new(move |login| notices.tell(login_notice(&login))));
    }

    /// Follows it until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        self.vault.run(stop).await
    }

    /// The roots that it offers.
    pub(super) async fn roots(&self) -> Result<Vec<signet_core::authority::Root>, SignError> {
        Ok(self.vault.offer().await?.map(|offer| offer.roots).unwrap_or_default())
    }

    /// What is wrong with its files.
    pub(super) async fn files(&self) -> Vec<String> {
        self.vault.files().await.err().map(|error| self.named(error.to_string())).into_iter().collect()
    }

    /// What is wrong with it, what cannot be seen, and whether a signature may be tried; it is asked. Issuing CAs are to last for
    /// `ttl`.
    pub(super) async fn probe(&self, ttl: Duration) -> (Vec<String>, Vec<String>, bool) {
        let found = self.vault.probe(ttl).await;
        let named = |all: Vec<String>| all.into_iter().map(|text| self.named(text)).collect();
        (named(found.problems), named(found.unseen), found.may_sign)
    }

    /// Has a CA certified on trial.
    pub(super) async fn try_out(&self) -> Result<Tried, String> {
        self.vault.try_out().await.map_err(|error| error.to_string())
    }

    /// The same with what the rotator makes of it, beside the one before.
    pub(super) fn watched(
        self,
        executor: Arc<Executor>,
        state: StateReader,
        former: Option<Arc<WithFormer>>,
    ) -> Arc<Watched> {
        Arc::new(Watched { vault: self, executor, state, former })
    }

    /// What is about the section says so.
    pub(super) fn named(&self, text: String) -> String {
        format!("{}: {text}", if self.is_former { "authority.former.vault" } else { "authority.vault" })
    }

    /// How it is.
    pub(super) async fn look(&self) -> VaultLook {
        let status = self.vault.status().await;
        VaultLook {
            does: if self.vault.signs_leaves() { "signs leaves" } else { "certifies issuing CAs" },
            stops: None,
            problem: status.problem,
            lists: status.lists,
            circuit: match status.circuit {
                CircuitState::Closed => Circuit::Closed,
                CircuitState::Open => Circuit::Open,
                CircuitState::HalfOpen => Circuit::HalfOpen,
            },
            token_ends: status.token_ends,
            answered: status.answered,
            refused: status.refused,
            failed: status.failed,
        }
    }
}

fn login_notice(login: &VaultLogin) -> Notice {
    let (outcome, reason) = match &login.result {
        LoggedIn::Accepted { .. } => (Outcome::Done, "login"),
        LoggedIn::Refused(_) => (Outcome::Refused, "login_refused"),
        LoggedIn::Failed(_) => (Outcome::Failed, "login_failed"),
    };
    Notice {
        kind: EventKind::Backend,
        subject: login.way.clone(),
        cluster: None,
        outcome,
        reason,
        detail: login.to_string(),
    }
}

fn login(auth: &VaultAuth) -> Login {
    match auth.clone() {
        VaultAuth::Kubernetes { mount, role, token_file } => Login::Kubernetes { mount, role, token_file },
        VaultAuth::AppRole { mount, role_id, secret_id_file } => Login::AppRole { mount, role_id, secret_id_file },
        VaultAuth::TokenFile(file) => Login::TokenFile(file),
        VaultAuth::Certificate { mount, role, certificate_file, key_file } => {
            Login::Certificate { mount, role, certificate_file, key_file }
        }
    }
}

/// A Vault, as the rotator finds it.
pub(super) struct Watched {
    vault: Opened,
    executor: Arc<Executor>,
    state: StateReader,
    former: Option<Arc<WithFormer>>,
}

impl Watched {
    /// Why nothing can be issued without it, when it is the one that signs.
    fn stops(&self) -> Option<String> {
        let state = self.state.borrow().as_ref().map(Arc::clone).filter(|_| self.vault.vault.signs_leaves())?;
        let signs = &state.authority.limits().authority;
        let mut all = state.authorities.roots.iter().flat_map(|root| &root.issuing);
        let is_formers = |both: &Arc<WithFormer>| all.any(|one| one.id == *signs && both.is_formers(&one.ca));
        if self.former.as_ref().is_some_and(is_formers) {
            return None;
        }
        state.authority.ready().err().map(|error| error.to_string())
    }
}

#[async_trait::async_trait]
impl VaultHealth for Watched {
    async fn look(&self) -> VaultLook {
        let look = self.vault.look().await;
        // It answers, but what it brings does not go with what is in use.
        let problem = look.problem.or_else(|| self.executor.source_problem());
        VaultLook { stops: self.stops(), problem, ..look }
    }
}
