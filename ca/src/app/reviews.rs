//! How the reviews of a cluster's tokens fare, as operators are told: by what comes of each, and by looking whether the API
//! server could be asked while nobody gives it a token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus::{Histogram, IntCounterVec};
use signet_core::caller::Caller;
use signet_core::seams::authenticator::{AuthenticationError, Outage, TokenAuthenticator};
use signet_plugins::authenticator::{OnReview, PublishedKeys, ReviewLimits, TokenReviewAuthenticator, TokenRules};
use signet_plugins::kubernetes::may_review;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Condition;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cluster_set::Surroundings;
use super::kubernetes::Server;
use super::passing::Tasks;
use crate::config;

/// How often it is looked when nothing was heard of the API server meanwhile.
const IDLE: Duration = Duration::from_secs(60);

/// How soon it is looked again after trouble. Trouble that returns after each look is looked at less and less often, down
/// to [`IDLE`].
const SOON: Duration = Duration::from_secs(5);

/// What came of the last review of a cluster's tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct LastReview {
    pub(super) at: Option<Instant>,
    pub(super) result: Option<&'static str>,
    /// What keeps tokens from being reviewed now.
    pub(super) problem: Option<String>,
}

/// Counts reviews of tokens, of all clusters: labels never hold a name from outside.
pub(super) struct Reviews {
    results: IntCounterVec,
    seconds: Histogram,
}

impl Reviews {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let results = metrics.counters(
            "signet_ca_token_reviews_total",
            "TokenReviews by what came of them, of all clusters.",
            &["result"],
        )?;
        for result in ["authenticated", "refused"].into_iter().chain(Outage::OF_CLUSTERS.map(Outage::label)) {
            results.with_label_values(&[result]).reset();
        }
        let seconds =
            metrics.seconds("signet_ca_token_review_duration_seconds", "TokenReviews, until their answer.")?;
        Ok(Self { results, seconds })
    }

    /// What verifies tokens by reviews; `last` is told how these fare. A task of `tasks` looks whether they could be asked for.
    pub(super) fn authenticator(
        &self,
        rules: TokenRules,
        limits: config::ReviewLimits,
        (server, keys): (&Server, Arc<PublishedKeys>),
        last: Arc<Mutex<LastReview>>,
        (tasks, around): (&Tasks, &Surroundings),
    ) -> Arc<dyn TokenAuthenticator> {
        let config::ReviewLimits { remember, deadline, at_once } = limits;
        let limits = ReviewLimits { remember, deadline, at_once };
        let name = format!("tokens of {}", rules.cluster);
        let told = Arc::new(Told::new(rules.cluster.clone(), around.readiness.passing(name.as_str()), last));
        let api = Arc::clone(&server.api);
        let look = move || {
            let api = Arc::clone(&api);
            async move { may_review(&api).await }.boxed()
        };
        tasks.spawn(&around.spawner, &name, Arc::clone(&told).look_for_ever(look));
        let on_review = self.listener(told);
        Arc::new(TokenReviewAuthenticator::new(rules, limits, Arc::clone(&server.api), keys, on_review))
    }

    fn listener(&self, told: Arc<Told>) -> Arc<OnReview> {
        let (results, seconds) = (self.results.clone(), self.seconds.clone());
        Arc::new(move |outcome, took| {
            let label = told.reviewed(outcome);
            results.with_label_values(&[label]).inc();
            seconds.observe(took.as_secs_f64());
        })
    }
}

/// Whether an API server says that it may be asked about tokens, or says nothing of that.
type Looked = Result<bool, AuthenticationError>;

/// What is known of one cluster.
struct Told {
    cluster: String,
    condition: Condition,
    last: Arc<Mutex<LastReview>>,
    state: Mutex<State>,
    /// Told when a review has met trouble.
    troubled: Notify,
}

#[derive(Default)]
struct State {
    /// What keeps us from asking, so that it is told once.
    trouble: Option<Outage>,
    /// When the API server was heard of last, by a review or a look.
    heard: Option<Instant>,
}

impl Told {
    fn new(cluster: String, condition: Condition, last: Arc<Mutex<LastReview>>) -> Self {
        condition.degraded("whether the API server can be asked about tokens is not known yet");
        Self { cluster, condition, last, state: Mutex::default(), troubled: Notify::new() }
    }

    /// Takes over what came of a review; gives its name in metrics.
    fn reviewed(&self, outcome: &Result<Caller, AuthenticationError>) -> &'static str {
        let label = match outcome {
            Ok(_) => "authenticated",
            Err(AuthenticationError::Unavailable { reason, .. }) => reason.label(),
            Err(_) => "refused",
        };
        let problem = match outcome {
            // It was not asked: that says nothing about it.
            Err(AuthenticationError::Unavailable { reason: Outage::Busy, .. }) => return label,
            Err(AuthenticationError::Unavailable { reason, detail }) => {
                self.in_trouble(*reason, detail);
                self.troubled.notify_one();
                Some(detail.clone())
            }
            _ => {
                self.in_order("the API server is asked about each token");
                None
            }
        };
        let now = LastReview { at: Some(Instant::now()), result: Some(label), problem };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
        label
    }

    /// Takes over what a look has found. No token was judged by it, and it says no more than that one could be.
    fn looked(&self, found: Looked) {
        let forbidden = self.known().0 == Some(Outage::ApiForbidden);
        let problem = match found {
            // It does not tell what we may do; a review has told.
            Ok(false) if forbidden => return,
            Err(AuthenticationError::Unavailable { reason, detail }) => {
                self.in_trouble(reason, &detail);
                Some(detail)
            }
            Err(error) => {
                self.in_trouble(Outage::ApiFailed, &error.to_string());
                Some(error.to_string())
            }
            Ok(told) => {
                let none_yet = self.last.lock().unwrap_or_else(PoisonError::into_inner).at.is_none();
                let since =
                    if none_yet { "it was not asked about any yet" } else { "it was not asked about any lately" };
                let may =
                    if told { "and may be asked about each token" } else { "but does not say what it may be asked" };
                self.in_order(&format!("the API server answers, {may}; {since}"));
                None
            }
        };
        self.last.lock().unwrap_or_else(PoisonError::into_inner).problem = problem;
    }

    fn in_trouble(&self, reason: Outage, detail: &str) {
        self.condition.degraded(format!("tokens cannot be verified: {}: {detail}", reason.label()));
        if self.heard().trouble.replace(reason) != Some(reason) {
            let (cluster, reason) = (&self.cluster, reason.label());
            tracing::warn!(cluster, reason, detail, "the API server does not judge tokens");
        }
    }

    fn in_order(&self, detail: &str) {
        self.condition.ready(detail);
        if self.heard().trouble.take().is_some() {
            tracing::info!(cluster = self.cluster, "the API server can be asked about tokens again");
        }
    }

    /// Notes that something was heard of it, be it that it does not answer.
    fn heard(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heard = Some(Instant::now());
        state
    }

    /// What trouble there is, and how long ago it was heard of.
    fn known(&self) -> (Option<Outage>, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.trouble, state.heard.map_or(IDLE, |at| at.elapsed()))
    }

    /// Looks at once, soon after trouble, and when nothing was heard for a while.
    async fn look_for_ever(self: Arc<Self>, look: impl Fn() -> BoxFuture<'static, Looked> + Send) {
        let mut soon = SOON;
        loop {
            self.looked(look().await);
            loop {
                match self.known() {
                    // Found by this look.
                    (Some(_), _) => break tokio::time::sleep(SOON).await,
                    (None, ago) if ago >= IDLE => {
                        soon = SOON;
                        break;
                    }
                    (None, ago) => {
                        let found = tokio::time::timeout(IDLE.saturating_sub(ago), self.troubled.notified()).await;
                        // It may be over already, or may have been found before the look.
                        if found.is_ok() && self.known().0.is_some() {
                            tokio::time::sleep(soon).await;
                            soon = soon.saturating_mul(2).min(IDLE);
                            break;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "reviews_tests.rs"]
mod tests;
