//! Rates before and after authentication. What is over a limit is told to come back, cheaply.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::MonotonicClock;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio_util::sync::CancellationToken;

use crate::config::{Limits, Rate};
use crate::source::Source;
use crate::turned_away::Limit;

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, MonotonicClock>;

/// How often counters of keys that are back to rest are forgotten.
const SWEEP: Duration = Duration::from_secs(30);

/// How often counters are swept early.
const EARLY_SWEEP: Quota = Quota::per_second(NonZeroU32::MIN);

/// Counters per key beyond which a sweep does not wait: a bound on memory against many source addresses.
const MOST_KEYS: usize = 100_000;

/// Which limit a request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverLimit {
    /// Too many requests are being worked on.
    #[error("the CA is working on as many requests as limits.concurrent_requests allows; retry with backoff")]
    Concurrency,
    /// Too many requests from this source, which has not proved who it is.
    #[error("too many requests from this address (limits.per_peer); retry with backoff")]
    Peer,
    /// Too many certificates for this identity.
    #[error("too many certificates for this identity (limits.per_identity); retry with backoff")]
    Identity,
}

impl OverLimit {
    /// The limit that was met.
    #[must_use]
    pub fn limit(self) -> Limit {
        match self {
            Self::Concurrency => Limit::ConcurrentRequests,
            Self::Peer => Limit::SourceRate,
            Self::Identity => Limit::IdentityRate,
        }
    }

    /// A short constant for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.limit().label()
    }
}

/// The rates of one CA process.
pub struct Admission {
    sources: Keyed<Source>,
    /// When counters may be swept before it is time: not for each request, since that looks at all of them.
    early_sweep: RateLimiter<NotKeyed, InMemoryState, MonotonicClock>,
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
            early_sweep: RateLimiter::direct_with_clock(EARLY_SWEEP, MonotonicClock),
            sources: RateLimiter::new(quota(limits.per_peer), DashMapStateStore::default(), MonotonicClock),
            identities: RateLimiter::new(quota(limits.per_identity), DashMapStateStore::default(), MonotonicClock),
        }
    }

    /// Counts a request on a connection from `source` that has not proved who it is.
    ///
    /// # Errors
    /// [`OverLimit::Peer`].
    pub fn enter(&self, source: Source) -> Result<(), OverLimit> {
        if self.sources.len() > MOST_KEYS && self.early_sweep.check().is_ok() {
            self.sources.retain_recent();
        }
        self.sources.check_key(&source).map_err(|_| OverLimit::Peer)
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
            self.sources.retain_recent();
            self.identities.retain_recent();
            self.sources.shrink_to_fit();
            self.identities.shrink_to_fit();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    use std::net::IpAddr;

    #[test]
    fn one_busy_address_or_identity_does_not_stop_the_others() {
        let rate = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(2).unwrap() };
        let admission = Admission::new(&Limits { per_identity: rate, per_peer: rate, ..Limits::default() });
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        let (busy, calm) = (source("10.0.0.1"), source("10.0.0.2"));
        assert!(admission.enter(busy).is_ok() && admission.enter(busy).is_ok());
        assert_eq!(admission.enter(busy).unwrap_err(), OverLimit::Peer);
        assert!(admission.enter(calm).is_ok());
        assert!(admission.count("a").is_ok() && admission.count("a").is_ok());
        assert_eq!(admission.count("a"), Err(OverLimit::Identity));
        assert_eq!(admission.count("b"), Ok(()));
    }
}
