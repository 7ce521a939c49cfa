//! Rates before and after authentication. What is over a limit is told to come back, cheaply.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::MonotonicClock;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio_util::sync::CancellationToken;

use crate::client_address::Source;
use crate::config::{Limits, Rate};
use crate::over_limit::Limit;

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, MonotonicClock>;

/// How often counters of keys that are back to rest are forgotten.
const SWEEP: Duration = Duration::from_secs(30);

/// How often counters are swept early.
const EARLY_SWEEP: Quota = Quota::per_second(NonZeroU32::MIN);

/// Counters per key beyond which a sweep does not wait: a bound on memory against many source addresses.
const MOST_KEYS: usize = 100_000;

/// The rates of one CA process.
pub struct RequestRates {
    sources: Keyed<Source>,
    /// When counters may be swept before it is time: not for each request, since that looks at all of them.
    early_sweep: RateLimiter<NotKeyed, InMemoryState, MonotonicClock>,
    identities: Keyed<String>,
}

fn quota(rate: Rate) -> Quota {
    Quota::per_second(rate.per_second).allow_burst(rate.burst)
}

impl RequestRates {
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
    /// [`Limit::SourceRate`].
    pub fn count_source(&self, source: Source) -> Result<(), Limit> {
        if self.sources.len() > MOST_KEYS && self.early_sweep.check().is_ok() {
            self.sources.retain_recent();
        }
        self.sources.check_key(&source).map_err(|_| Limit::SourceRate)
    }

    /// Counts a certificate for an authenticated identity.
    ///
    /// # Errors
    /// [`Limit::IdentityRate`].
    pub fn count_identity(&self, identity: &String) -> Result<(), Limit> {
        self.identities.check_key(identity).map_err(|_| Limit::IdentityRate)
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
        let rates = RequestRates::new(&Limits { per_identity: rate, per_peer: rate, ..Limits::default() });
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        let (busy, calm) = (source("10.0.0.1"), source("10.0.0.2"));
        assert!(rates.count_source(busy).is_ok() && rates.count_source(busy).is_ok());
        assert_eq!(rates.count_source(busy).unwrap_err(), Limit::SourceRate);
        assert!(rates.count_source(calm).is_ok());
        assert!(rates.count_identity(&"a".to_owned()).is_ok() && rates.count_identity(&"a".to_owned()).is_ok());
        assert_eq!(rates.count_identity(&"a".to_owned()), Err(Limit::IdentityRate));
        assert_eq!(rates.count_identity(&"b".to_owned()), Ok(()));
    }
    #[test]
    fn of_very_many_sources_those_at_rest_are_forgotten_before_it_is_time() {
        let many = NonZeroU32::new(1_000_000).unwrap();
        let per_peer = Rate { per_second: many, burst: many };
        let rates = RequestRates::new(&Limits { per_peer, ..Limits::default() });
        let count = |number: usize| {
            let address = IpAddr::V4(u32::try_from(number).unwrap().into());
            assert!(rates.count_source(Source::from(address)).is_ok());
        };
        (0..=MOST_KEYS).for_each(count);
        assert_eq!(rates.sources.len(), MOST_KEYS + 1, "so many may be there");
        count(MOST_KEYS + 1);
        assert!(rates.sources.len() < MOST_KEYS, "{}", rates.sources.len());
        assert!(rates.early_sweep.check().is_err(), "not for each request");
    }
    #[test]
    fn of_few_sources_none_costs_a_sweep() {
        let rates = RequestRates::new(&Limits::default());
        assert!(rates.count_source(Source::from(IpAddr::V4(1_u32.into()))).is_ok());
        assert!(rates.early_sweep.check().is_ok());
    }
    #[tokio::test(start_paused = true)]
    async fn keys_at_rest_are_forgotten_again_and_again() {
        let many = NonZeroU32::new(1_000_000).unwrap();
        let rate = Rate { per_second: many, burst: many };
        let limits = Limits { per_identity: rate, per_peer: rate, ..Limits::default() };
        let (rates, stop) = (Arc::new(RequestRates::new(&limits)), CancellationToken::new());
        let mut task = tokio::task::JoinSet::new();
        task.spawn(Arc::clone(&rates).sweep(stop.clone()));
        for _ in 0..2 {
            rates.count_source(Source::from(IpAddr::V4(1_u32.into()))).unwrap();
            rates.count_identity(&"a".to_owned()).unwrap();
            assert_eq!((rates.sources.len(), rates.identities.len()), (1, 1));
            tokio::time::sleep(SWEEP + Duration::from_secs(1)).await;
            assert_eq!((rates.sources.len(), rates.identities.len()), (0, 0));
        }
        stop.cancel();
        task.join_next().await.unwrap().unwrap().unwrap();
    }
}
