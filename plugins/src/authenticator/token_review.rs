//! Service-account tokens judged by the cluster that issued them, with a TokenReview for each that is not remembered: only
//! the API server knows whether the pod and the account of a token still exist.
//!
//! What cannot be good is refused without asking. A token is asked about once for all who show it at the same time; only so
//! many questions are on the way at a time, and each has a deadline: nothing waits in a queue.

mod answer;
mod flights;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Api;
use kube::api::PostParams;
use signet_core::caller::Caller;
use signet_core::seams::authenticator::{AuthenticationError, Outage, TokenAuthenticator};
use signet_core::secret::Secret;
use signet_core::time_math;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::flights::Flights;
use super::jwt::{Token, TokenRules, bounded, claims};
use super::published_keys::PublishedKeys;
use super::token_cache::{CAPACITY, Lifetime, TokenCache, TokenHash};
use crate::kubernetes::{ApiServer, outage};

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReviewLimits {
    /// How long a yes is remembered, but never beyond the end of the token; zero asks each time.
    pub remember: Duration,
    /// How long one review may take.
    pub deadline: Duration,
    /// Reviews on the way at a time.
    pub at_once: usize,
}

/// Hears of each review that was asked for, or could not be: what came of it, and how long it took.
pub type OnReview = dyn Fn(&Result<Caller, AuthenticationError>, Duration) + Send + Sync;

/// Verifies tokens of one cluster by asking its API server.
pub struct TokenReviewAuthenticator {
    rules: TokenRules,
    limits: ReviewLimits,
    server: Arc<ApiServer>,
    /// What the cluster publishes, once it could be read: a token that none of these keys signed is refused unasked.
    keys: Arc<PublishedKeys>,
    cache: TokenCache,
    cache_hits: AtomicU64,
    flights: Flights<TokenHash, Result<Caller, AuthenticationError>>,
    places: Arc<Semaphore>,
    /// Callers that may wait at a time: also those who show one token many times must leave room for others.
    waiters: Semaphore,
    on_review: Arc<OnReview>,
}

impl TokenReviewAuthenticator {
    /// Asks `server` about tokens that fit `rules`. Of `keys` only those are used that somebody else has obtained.
    #[must_use]
    pub fn new(
        rules: TokenRules,
        limits: ReviewLimits,
        server: Arc<ApiServer>,
        keys: Arc<PublishedKeys>,
        on_review: Arc<OnReview>,
    ) -> Self {
        Self {
            rules,
            limits,
            server,
            keys,
            cache: TokenCache::new(CAPACITY),
            cache_hits: AtomicU64::new(0),
            flights: Flights::default(),
            places: Arc::new(Semaphore::new(limits.at_once)),
            waiters: Semaphore::new(limits.at_once.saturating_mul(2)),
            on_review,
        }
    }

    /// How many tokens were answered from memory since the start, for metrics.
    #[must_use]
    pub fn cache_hits(&self) -> u64 {
        self.cache_hits.load(Ordering::Relaxed)
    }

    /// Refuses what cannot be good, and gives what the token claims. Nothing of that goes into a record as the token's word
    /// unless a published key has signed it.
    async fn precheck(
        &self,
        token: &Token<'_>,
        now: OffsetDateTime,
    ) -> Result<(Caller, Lifetime), AuthenticationError> {
        let signed = match self.keys.in_use() {
            Some(_) => match self.keys.verify(token).await {
                // Whether there are newer keys is not known: the API server knows.
                Err(AuthenticationError::Unavailable { .. }) => false,
                verified => verified.map(|_| true)?,
            },
            None => false,
        };
        claims::judge(token.payload(), &self.rules, now).map_err(|error| match error {
            AuthenticationError::Denied { reason, detail, claimed } => {
                AuthenticationError::Denied { reason, detail, claimed: claimed.filter(|_| signed) }
            }
            error => error,
        })
    }

    /// One review, for all who wait for it.
    async fn review(&self, hash: TokenHash, token: &Secret, claimed: Caller) -> Result<Caller, AuthenticationError> {
        let _waiting = self
            .waiters
            .try_acquire()
            .map_err(|_| AuthenticationError::unavailable(Outage::Busy, "as many callers wait for reviews as may"))?;
        let flight = self.flights.join(hash, || {
            let place = Arc::clone(&self.places).try_acquire_owned();
            let at_once = self.limits.at_once;
            let (server, rules) = (Arc::clone(&self.server), self.rules.clone());
            let (token, deadline, on_review) =
                (Secret::new(token.expose().to_vec()), self.limits.deadline, Arc::clone(&self.on_review));
            async move {
                let begun = Instant::now();
                let outcome = match place {
                    Err(_) => {
                        let detail = format!("{at_once} reviews are on the way, as many as may be");
                        Err(AuthenticationError::unavailable(Outage::Busy, detail))
                    }
                    Ok(_place) => {
                        let late = |_| {
                            let detail = format!("the API server has not answered a TokenReview within {deadline:?}");
                            AuthenticationError::unavailable(Outage::ApiTimedOut, detail)
                        };
                        let asked = tokio::time::timeout(deadline, ask(&server, &token, &rules.audiences)).await;
                        asked.map_err(late).flatten().and_then(|status| answer::caller(status, &claimed, &rules))
                    }
                };
                on_review(&outcome, begun.elapsed());
                outcome
            }
        });
        flight.await
    }
}

/// Asks about a token, naming our audiences and no other: with the API server's own one, tokens that are for it would do.
async fn ask(
    server: &ApiServer,
    token: &Secret,
    audiences: &[String],
) -> Result<Option<k8s_openapi::api::authentication::v1::TokenReviewStatus>, AuthenticationError> {
    let spec = TokenReviewSpec {
        audiences: Some(audiences.to_vec()),
        token: token.expose_str().unwrap_or_default().to_owned(),
    };
    let review = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(server.client());
    let answered = api.create(&PostParams::default(), &review).await;
    answered.map(|review| review.status).map_err(|error| outage(&error))
}

#[async_trait]
impl TokenAuthenticator for TokenReviewAuthenticator {
    async fn authenticate(&self, token: &Secret, now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        let hash = TokenHash::of(bounded(token)?);
        if let Some(caller) = self.cache.find(hash, now) {
            self.cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(caller);
        }
        let (claimed, life) = self.precheck(&Token::read(token)?, now).await?;
        let caller = self.review(hash, token, claimed).await?;
        let until = time_math::after(now, self.limits.remember).min(life.until);
        self.cache.remember(hash, caller.clone(), Lifetime { from: now, until }, now);
        Ok(caller)
    }
}

impl fmt::Debug for TokenReviewAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReviewAuthenticator")
            .field("rules", &self.rules)
            .field("limits", &self.limits)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "token_review/real_server_tests.rs"]
mod real_server_tests;
#[cfg(test)]
#[path = "token_review/tests.rs"]
mod tests;
