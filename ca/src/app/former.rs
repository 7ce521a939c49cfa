//! The backend before, while one is left that signs leaves itself: opened beside the one of now, followed for as long as anything
//! of it is left, and told about.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGaugeVec;
use signet_core::clock::SharedClock;
use signet_core::identity::TrustDomain;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_plugins::authority::WithFormer;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Condition;
use tokio_util::sync::CancellationToken;

use super::{cert_manager, vault};
use crate::config::Backend;
use crate::notices::Notices;
use crate::signing_state::{SigningState, StateReader, current};
use crate::vault_health::VaultMetrics;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What it is left for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It signs leaves.
    Signs,
    /// What it has signed may be valid still.
    Drains,
    /// Nothing.
    Done,
}

impl Left {
    const ALL: [Self; 3] = [Self::Signs, Self::Drains, Self::Done];

    fn as_str(self) -> &'static str {
        match self {
            Self::Signs => "signs",
            Self::Drains => "drains",
            Self::Done => "done",
        }
    }

    /// What `state` leaves it for.
    fn of(state: &SigningState, both: &WithFormer) -> Self {
        let signs = &state.authority.limits().authority;
        let mut left = Self::Done;
        for issuing in state.authorities.roots.iter().flat_map(|root| &root.issuing) {
            if !both.is_formers(&issuing.ca) {
                continue;
            }
            if issuing.id == *signs {
                return Self::Signs;
            }
            left = Self::Drains;
        }
        left
    }
}

/// Measurements, which are there without one too.
#[derive(Debug, Clone)]
pub(super) struct FormerMetrics {
    left: IntGaugeVec,
    vault: VaultMetrics,
}

impl FormerMetrics {
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let help = "1 for what the backend of authority.former is left for: signs for leaves, drains for what it has signed and \
                    what is to be revoked of that, done for nothing; all 0 without one.";
        let left = metrics.gauges("signet_ca_former_backend", help, &["left_for"])?;
        for one in Left::ALL {
            left.with_label_values(&[one.as_str()]).set(0);
        }
        Ok(Self { left, vault: VaultMetrics::of_former(metrics)? })
    }

    fn set(&self, left: Left) {
        for one in Left::ALL {
            self.left.with_label_values(&[one.as_str()]).set(i64::from(one == left));
        }
    }
}

/// Whoever it is.
#[derive(Clone)]
enum Opened {
    Vault(vault::Opened),
    CertManager(cert_manager::Opened),
}

/// The backend before.
#[derive(Clone)]
pub(super) struct Former {
    opened: Opened,
    name: String,
}

impl Former {
    /// The one of this section, if it is one that signs leaves itself. Touches nothing yet.
    pub(super) fn open(section: &Backend, trust_domain: &TrustDomain, clock: SharedClock) -> Option<Self> {
        match section {
            Backend::Vault(section) => {
                let name = format!("Vault at {}, mount {}", section.address, section.mount);
                let opened = vault::Opened::new(section, trust_domain, clock).being_left();
                Some(Self { opened: Opened::Vault(opened), name })
            }
            Backend::CertManager(section) => {
                let name = format!("cert-manager's {} {}", section.kind, section.name);
                let opened = cert_manager::Opened::new(section, trust_domain).being_left();
                Some(Self { opened: Opened::CertManager(opened), name })
            }
            Backend::Native | Backend::Files(_) => None,
        }
    }

    pub(super) fn upstream(&self) -> Arc<dyn UpstreamAuthority> {
        match &self.opened {
            Opened::Vault(vault) => vault.upstream(),
            Opened::CertManager(opened) => opened.upstream(),
        }
    }

    /// Puts each login on record from now on.
    pub(super) fn record_logins(&self, notices: Notices) {
        if let Opened::Vault(vault) = &self.opened {
            vault.record_logins(notices);
        }
    }

    /// What is wrong with its files.
    pub(super) async fn files(&self) -> Vec<String> {
        match &self.opened {
            Opened::Vault(vault) => vault.files().await,
            Opened::CertManager(opened) => opened.files().await,
        }
    }

    /// What is wrong with it, and what cannot be seen; it is asked.
    pub(super) async fn probe(&self, ttl: Duration) -> (Vec<String>, Vec<String>) {
        let (problems, unseen, _) = match &self.opened {
            Opened::Vault(vault) => vault.probe(ttl).await,
            Opened::CertManager(opened) => opened.probe().await,
        };
        (problems, unseen)
    }

    /// Follows it for as long as anything of it is left, and tells how it is.
    ///
    /// # Errors
    /// None.
    pub(super) async fn run(
        self,
        both: Arc<WithFormer>,
        state: StateReader,
        metrics: FormerMetrics,
        condition: Condition,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let mut following: Option<Following> = None;
        let mut before = None;
        loop {
            let state = current(&state);
            let left = state.as_ref().map(|state| Left::of(state, &both));
            if let Some(left) = left {
                metrics.set(left);
                if left == Left::Done && before != Some(Left::Done) {
                    tracing::info!(
                        former = self.name,
                        "nothing is left of the former backend: authority.former may be removed"
                    );
                }
            }
            before = left;
            match left {
                Some(Left::Done) => following = None,
                _ => drop(following.get_or_insert_with(|| self.follow(stop.clone()))),
            }
            let told = async {
                self.tell(state.as_deref().zip(left), &metrics, &condition).await;
                tokio::time::sleep(LOOK).await;
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = go_on(&mut following) => following = None,
                () = told => {}
            }
        }
    }

    fn follow(&self, stop: CancellationToken) -> Following {
        match self.opened.clone() {
            Opened::Vault(vault) => Box::pin(async move {
                let Ok(()) = vault.run(stop).await;
            }),
            Opened::CertManager(opened) => Box::pin(async move { opened.keep_looking().await }),
        }
    }

    async fn tell(&self, found: Option<(&SigningState, Left)>, metrics: &FormerMetrics, condition: &Condition) {
        let name = &self.name;
        let Some((state, left)) = found else {
            return condition.ready(format!("{name}: it is not known yet whether it still signs"));
        };
        if left == Left::Done {
            return condition.ready(format!("nothing is left of {name}: `authority.former` may be removed"));
        }
        let problem = match &self.opened {
            Opened::Vault(vault) => {
                let look = vault.look().await;
                metrics.vault.set(&look);
                look.problem.or(look.lists)
            }
            Opened::CertManager(opened) => opened.problem(),
        };
        match (left, state.authority.ready(), problem) {
            (Left::Signs, Err(error), _) => {
                condition.failing(format!("nothing can be issued, {name} signs leaves: {error}"));
            }
            (Left::Signs, Ok(()), Some(problem)) => condition.degraded(format!("{name} signs leaves: {problem}")),
            (Left::Signs, Ok(()), None) => {
                condition.ready(format!("{name} signs leaves until another root is known everywhere"));
            }
            (_, _, Some(problem)) => condition.degraded(format!(
                "{name} signs no leaves any more; while some that it has signed are valid, revocation needs it: {problem}"
            )),
            (_, _, None) => condition.ready(format!(
                "{name} signs no leaves any more; it is told what to revoke while some that it has signed are valid"
            )),
        }
    }
}

type Following = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn go_on(following: &mut Option<Following>) {
    match following {
        Some(following) => following.await,
        None => pending().await,
    }
}
