//! How the Vault is that certifies issuing CAs or signs leaves, for readiness and metrics. What is wrong with it keeps what signs
//! in use; it stops that only where it is Vault itself that signs.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};
use signet_core::clock::rfc3339;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Condition;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// How often it is looked at how it is; nothing is asked for that.
const LOOK: Duration = Duration::from_secs(1);

/// Whether a Vault is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// It is.
    Closed,
    /// Not for a while, since calls keep failing.
    Open,
    /// The next call tries whether that is over.
    HalfOpen,
}

impl Circuit {
    const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How a Vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultLook {
    /// What it is for, in words.
    pub does: &'static str,
    /// Why nothing can be issued without it at present, when that is so.
    pub stops: Option<String>,
    /// Why what it offers is not used.
    pub problem: Option<String>,
    /// Why a revocation list of it is of no use.
    pub lists: Option<String>,
    /// Whether it is asked.
    pub circuit: Circuit,
    /// Until when its token for this CA holds, if that has an end.
    pub token_ends: Option<OffsetDateTime>,
    /// Calls that it has answered since the start.
    pub answered: u64,
    /// Calls that it has refused, or answered uselessly.
    pub refused: u64,
    /// Calls that have failed.
    pub failed: u64,
}

/// A Vault that may be away.
#[async_trait::async_trait]
pub trait VaultHealth: Send + Sync + 'static {
    /// How it is now.
    async fn look(&self) -> VaultLook;
}

/// Measurements of a Vault.
#[derive(Debug, Clone)]
pub struct VaultMetrics {
    refused: IntGauge,
    circuit: IntGaugeVec,
    token_ends: IntGauge,
    calls: IntCounterVec,
}

impl VaultMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let names = [
            "signet_ca_vault_refused",
            "signet_ca_vault_circuit",
            "signet_ca_vault_token_end_timestamp_seconds",
            "signet_ca_vault_calls_total",
        ];
        Self::named(metrics, names, "Vault")
    }

    /// The same of the one in `authority.former`.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn of_former(metrics: &Metrics) -> Result<Self, MetricError> {
        let names = [
            "signet_ca_former_vault_refused",
            "signet_ca_former_vault_circuit",
            "signet_ca_former_vault_token_end_timestamp_seconds",
            "signet_ca_former_vault_calls_total",
        ];
        Self::named(metrics, names, "the Vault of authority.former")
    }

    fn named(metrics: &Metrics, names: [&str; 4], vault: &str) -> Result<Self, MetricError> {
        let [refused, circuit, token_ends, calls] = names;
        let new = Self {
            refused: metrics.gauge(
                refused,
                &format!("1 while what {vault} offers is not used, and the issuing CA before goes on."),
            )?,
            circuit: metrics.gauges(
                circuit,
                &format!(
                    "1 for whether {vault} is asked: closed for yes, open for not before a pause is over, half_open for one try."
                ),
                &["state"],
            )?,
            token_ends: metrics.gauge(
                token_ends,
                &format!(
                    "When the token ends that {vault} has given this CA, in seconds since 1970; 0 for never, or without one."
                ),
            )?,
            calls: metrics.counters(calls, &format!("Calls to {vault}."), &["outcome"])?,
        };
        for state in Circuit::ALL {
            new.circuit.with_label_values(&[state.as_str()]).set(0);
        }
        for outcome in ["answered", "refused", "failed"] {
            new.calls.with_label_values(&[outcome]).inc_by(0);
        }
        Ok(new)
    }

    /// Sets them to how it is.
    pub fn set(&self, look: &VaultLook) {
        self.refused.set(i64::from(look.problem.is_some()));
        for state in Circuit::ALL {
            self.circuit.with_label_values(&[state.as_str()]).set(i64::from(state == look.circuit));
        }
        self.token_ends.set(look.token_ends.map_or(0, OffsetDateTime::unix_timestamp));
        for (outcome, all) in [("answered", look.answered), ("refused", look.refused), ("failed", look.failed)] {
            let counter = self.calls.with_label_values(&[outcome]);
            counter.inc_by(all.saturating_sub(counter.get()));
        }
    }
}

/// Says how the Vault is, until `stop`.
///
/// # Errors
/// None.
pub async fn watch_vault(
    vault: Arc<impl VaultHealth>,
    metrics: VaultMetrics,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        let Some(look) = stop.run_until_cancelled(vault.look()).await else { return Ok(()) };
        metrics.set(&look);
        match (&look.problem, look.token_ends) {
            _ if look.stops.is_some() => {
                condition.failing(format!("nothing can be issued: {}", look.stops.unwrap_or_default()));
            }
            (Some(problem), _) => {
                condition.degraded(format!("it is not used, the CA goes on with what it had: {problem}"));
            }
            _ if look.lists.is_some() => {
                let why = look.lists.as_deref().unwrap_or_default();
                condition.degraded(format!("{}, but its revocation lists are of no use: {why}", look.does));
            }
            (None, Some(end)) => condition.ready(format!("{}; its token holds until {}", look.does, rfc3339(end))),
            (None, None) => condition.ready(look.does),
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return Ok(());
        }
    }
}
