//! The keys that a cluster publishes for its tokens, and where they are looked up when a token names one that is not among
//! them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use ring::digest::{SHA256, digest};
use signet_core::caller::Caller;
use signet_core::seams::authenticator::{AuthenticationError, Denial, Outage};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::jwt::Token;
use super::jwt::keys::{KeySet, KeySetError, LeftOut};
use super::token_cache::{CAPACITY, TokenCache, TokenHash};

/// How often keys are looked up for tokens that name unknown ones: anybody can make such tokens.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);
/// How many callers may wait for a look-up at a time: whoever makes up a key must not take the places of others while a
/// server is slow.
const WAITERS: usize = 32;
/// How long a look-up may take.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(4);

/// What a set of published keys came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// How many keys may verify tokens; the same one published twice is one.
    pub keys: usize,
    /// The keys that cannot.
    pub left_out: Vec<LeftOut>,
}

/// What a look at the published keys brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// They are as they were.
    Unchanged,
    /// New keys are in use, and nothing that older keys verified is believed any more.
    Replaced(Published),
}

/// Where the keys can be asked for at any time.
#[async_trait]
pub trait KeyLookup: Send + Sync {
    /// The JSON Web Key Set as it is now.
    ///
    /// # Errors
    /// [`AuthenticationError::Unavailable`].
    async fn look_up(&self) -> Result<Vec<u8>, AuthenticationError>;
}

/// A set of keys and what they verified. They are replaced together, so a token that a withdrawn key verified cannot
/// stay behind, not even one that is being verified at this moment.
pub(super) struct Set {
    source: [u8; 32],
    pub(super) keys: KeySet,
    pub(super) cache: TokenCache,
}

impl Set {
    fn new(content: &[u8]) -> Result<Self, KeySetError> {
        Ok(Self { source: hash(content), keys: KeySet::parse(content)?, cache: TokenCache::new(CAPACITY) })
    }

    fn published(&self) -> Published {
        Published { keys: self.keys.len(), left_out: self.keys.left_out().to_vec() }
    }
}

/// When keys were looked up last, and why that failed if it did.
type LastLookUp = Option<(Instant, Result<(), AuthenticationError>)>;

/// The keys of one cluster that are in use. They stay in use until there are others.
pub struct PublishedKeys {
    set: ArcSwapOption<Set>,
    lookup: Option<Arc<dyn KeyLookup>>,
    /// Held during a look-up, so that there is one at a time.
    last: Mutex<LastLookUp>,
    waiters: Semaphore,
}

impl PublishedKeys {
    /// Takes the keys from `content`, a JSON Web Key Set.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn new(content: &[u8]) -> Result<Self, KeySetError> {
        let set = ArcSwapOption::from_pointee(Set::new(content)?);
        Ok(Self { set, ..Self::none() })
    }

    /// None yet: they are looked up when they are needed, or handed to [`refresh`](Self::refresh).
    #[must_use]
    pub fn looked_up(lookup: Arc<dyn KeyLookup>) -> Self {
        Self { lookup: Some(lookup), ..Self::none() }
    }

    /// None, unless they are handed to [`refresh`](Self::refresh).
    #[must_use]
    pub fn none() -> Self {
        let (set, last) = (ArcSwapOption::empty(), Mutex::default());
        Self { set, lookup: None, last, waiters: Semaphore::new(WAITERS) }
    }

    /// Takes over the keys of `content` when it has changed and is good.
    ///
    /// # Errors
    /// [`KeySetError`]; the keys in use stay.
    pub fn refresh(&self, content: &[u8]) -> Result<Refreshed, KeySetError> {
        if self.set.load().as_ref().is_some_and(|set| set.source == hash(content)) {
            return Ok(Refreshed::Unchanged);
        }
        let set = Set::new(content)?;
        let refreshed = Refreshed::Replaced(set.published());
        self.set.store(Some(Arc::new(set)));
        Ok(refreshed)
    }

    /// The keys in use, and those left out; `None` when there have been none yet.
    #[must_use]
    pub fn published(&self) -> Option<Published> {
        self.set.load().as_ref().map(|set| set.published())
    }

    /// Looks the keys up and takes them over.
    ///
    /// # Errors
    /// [`AuthenticationError::Unavailable`]; the keys in use stay.
    pub async fn look_up(&self) -> Result<Refreshed, AuthenticationError> {
        let Some(lookup) = &self.lookup else { return Ok(Refreshed::Unchanged) };
        let looked_up = tokio::time::timeout(LOOK_UP_WITHIN, lookup.look_up()).await;
        let late = |_| AuthenticationError::unavailable(Outage::ApiTimedOut, "the cluster's keys did not come in time");
        let content = looked_up.map_err(late)??;
        self.refresh(&content).map_err(|error| AuthenticationError::unavailable(Outage::ApiFailed, error.to_string()))
    }

    /// The caller that a token was verified to prove by a key that is in use.
    pub(super) fn remembered(&self, hash: TokenHash, now: OffsetDateTime) -> Option<Caller> {
        self.set.load().as_ref()?.cache.find(hash, now)
    }

    /// The set in use.
    pub(super) fn in_use(&self) -> Option<Arc<Set>> {
        self.set.load_full()
    }

    /// Verifies the signature of a token, and gives the set whose key did. When no set knows its key, they are looked up
    /// first, unless that was done just now.
    ///
    /// # Errors
    /// As [`Token::verify`]; [`AuthenticationError::Unavailable`] when there is no set, or a look-up was needed and failed.
    pub(super) async fn verify(&self, token: &Token<'_>) -> Result<Arc<Set>, AuthenticationError> {
        let set = match self.in_use() {
            Some(set) => set,
            None => self.newer_than(None).await?.ok_or_else(none_yet)?,
        };
        match token.verify(&set.keys) {
            Ok(()) => Ok(set),
            Err(AuthenticationError::Denied { reason: Denial::KeyUnknown, .. }) if self.lookup.is_some() => {
                let set = self.newer_than(Some(&set)).await?.unwrap_or(set);
                token.verify(&set.keys).map(|()| set)
            }
            Err(error) => Err(error),
        }
    }

    /// A set that is newer than `known`; `None` when a look-up of just now has brought nothing else.
    async fn newer_than(&self, known: Option<&Set>) -> Result<Option<Arc<Set>>, AuthenticationError> {
        let _waiting = self.waiters.try_acquire().map_err(|_| {
            let detail = "the cluster's keys are being looked up, and enough callers wait for that";
            AuthenticationError::unavailable(Outage::Busy, detail)
        })?;
        let mut last = self.last.lock().await;
        let other = |set: &Arc<Set>| known.is_none_or(|known| known.source != set.source);
        if let Some(newer) = self.in_use().filter(other) {
            return Ok(Some(newer));
        }
        if let Some((_, outcome)) = last.as_ref().filter(|(at, _)| at.elapsed() < LOOK_UP_EVERY) {
            return outcome.clone().map(|()| None);
        }
        let outcome = self.look_up().await.map(drop);
        *last = Some((Instant::now(), outcome.clone()));
        outcome.map(|()| self.in_use().filter(other))
    }
}

fn none_yet() -> AuthenticationError {
    AuthenticationError::unavailable(Outage::KeysMissing, "the cluster's keys have not been obtained yet")
}

impl fmt::Debug for PublishedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedKeys").field("published", &self.published()).finish_non_exhaustive()
    }
}

fn hash(content: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, content).as_ref());
    hash
}

#[cfg(test)]
#[path = "published_keys_tests.rs"]
mod tests;
