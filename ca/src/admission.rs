//! Limits before and after authentication. What is over a limit is told to come back, cheaply.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::MonotonicClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::{Limits, Rate};

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, MonotonicClock>;

/// How often counters of keys that are back to rest are forgotten.
const SWEEP: Duration = Duration::from_secs(30);

/// Counters per key beyond which a sweep does not wait: a bound on memory against many source addresses.
const MOST_KEYS: usize = 100_000;

/// Which limit a request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// Too many requests are being worked on.
    #[error("the CA is working on as many requests as limits.concurrent_requests allows; retry with backoff")]
    Concurrency,
    /// Too many requests from this network address.
    #[error("too many requests from this address (limits.per_peer); retry with backoff")]
    Peer,
    /// Too many certificates for this identity.
    #[error("too many certificates for this identity (limits.per_identity); retry with backoff")]
    Identity,
}

impl OverLimit {
    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Concurrency => "limit_concurrency",
            Self::Peer => "limit_peer",
            Self::Identity => "limit_identity",
        }
    }
}

/// The limits of one CA process.
pub struct Admission {
    slots: Arc<Semaphore>,
    peers: Keyed<IpAddr>,
    identities: Keyed<String>,
}

fn quota(rate: Rate) -> Quota {
    Quota::per_second(rate.per_second).allow_burst(rate.burst)
}

impl Admission {
    /// Counters for these limits, all at rest.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limits.concurrent_requests)),
            peers: RateLimiter::new(quota(limits.per_peer), DashMapStateStore::default(), MonotonicClock),
            identities: RateLimiter::new(quota(limits.per_identity), DashMapStateStore::default(), MonotonicClock),
        }
    }

    /// Admits a request from `peer`; the permit is held while it is worked on.
    ///
    /// # Errors
    /// [`OverLimit::Concurrency`] or [`OverLimit::Peer`].
    pub fn enter(&self, peer: Option<IpAddr>) -> Result<OwnedSemaphorePermit, OverLimit> {
        if let Some(peer) = peer {
            if self.peers.len() > MOST_KEYS {
                self.peers.retain_recent();
            }
            self.peers.check_key(&peer).map_err(|_| OverLimit::Peer)?;
        }
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| OverLimit::Concurrency)
    }

    /// Counts a certificate for an authenticated identity.
    ///
    /// # Errors
    /// [`OverLimit::Identity`].
    pub fn count(&self, identity: &str) -> Result<(), OverLimit> {
        self.identities.check_key(&identity.to_owned()).map_err(|_| OverLimit::Identity)
    }

    /// Forgets keys at rest, again and again until `stop`.
    ///
    /// # Errors
    /// None.
    pub async fn sweep(self: Arc<Self>, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
            self.peers.retain_recent();
            self.identities.retain_recent();
            self.peers.shrink_to_fit();
            self.identities.shrink_to_fit();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::num::NonZeroU32;

    fn limits(concurrent_requests: usize, burst: u32) -> Limits {
        let rate = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(burst).unwrap() };
        let request_timeout = Duration::from_secs(1);
        Limits {
            concurrent_requests,
            connections: 1,
            bundle_streams: 1,
            bundle_streams_per_identity: None,
            request_timeout,
            per_identity: rate,
            per_peer: rate,
        }
    }

    #[test]
    fn slots_come_back_when_a_request_is_done() {
        let admission = Admission::new(&limits(1, 10));
        let first = admission.enter(None).unwrap();
        assert_eq!(admission.enter(None).unwrap_err(), OverLimit::Concurrency);
        drop(first);
        assert!(admission.enter(None).is_ok());
    }

    #[test]
    fn one_busy_address_or_identity_does_not_stop_the_others() {
        let admission = Admission::new(&limits(100, 2));
        let (busy, calm) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert!(admission.enter(Some(busy)).is_ok() && admission.enter(Some(busy)).is_ok());
        assert_eq!(admission.enter(Some(busy)).unwrap_err(), OverLimit::Peer);
        assert!(admission.enter(Some(calm)).is_ok());
        assert!(admission.count("a").is_ok() && admission.count("a").is_ok());
        assert_eq!(admission.count("a"), Err(OverLimit::Identity));
        assert_eq!(admission.count("b"), Ok(()));
    }
}
