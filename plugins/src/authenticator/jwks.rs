//! Service-account tokens verified offline with a cluster's published keys: no request to the cluster for each call.
//! Whether the pod or the service account still exists is deliberately not checked here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use signet_core::caller::Caller;
use signet_core::seams::authenticator::{AuthenticationError, TokenAuthenticator};
use signet_core::secret::Secret;
use time::OffsetDateTime;

use super::jwt::{Token, TokenRules, bounded, claims};
use super::published_keys::PublishedKeys;
use super::token_cache::TokenHash;

/// Verifies tokens of one cluster with the keys that it publishes at `/openid/v1/jwks`.
pub struct JwksAuthenticator {
    rules: TokenRules,
    keys: Arc<PublishedKeys>,
    cache_hits: AtomicU64,
}

impl JwksAuthenticator {
    /// Verifies with `keys`, as they are at the time of a call.
    #[must_use]
    pub fn new(rules: TokenRules, keys: Arc<PublishedKeys>) -> Self {
        Self { rules, keys, cache_hits: AtomicU64::new(0) }
    }

    /// The keys that it verifies with.
    #[must_use]
    pub fn keys(&self) -> &Arc<PublishedKeys> {
        &self.keys
    }

    /// How many tokens were answered from memory since the start, for metrics.
    #[must_use]
    pub fn cache_hits(&self) -> u64 {
        self.cache_hits.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl TokenAuthenticator for JwksAuthenticator {
    async fn authenticate(&self, token: &Secret, now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        let hash = TokenHash::of(bounded(token)?);
        if let Some(caller) = self.keys.remembered(hash, now) {
            self.cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(caller);
        }
        let token = Token::read(token)?;
        let set = self.keys.verify(&token).await?;
        let (caller, life) = claims::judge(token.payload(), &self.rules, now)?;
        set.cache.remember(hash, caller.clone(), life, now);
        Ok(caller)
    }
}

impl fmt::Debug for JwksAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksAuthenticator").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
