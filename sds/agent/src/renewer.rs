//! The one task that obtains certificates: at once, then again long before each one ends, with or without subscribers.
//!
//! The last good certificate stays until a checked one replaces it. Failures back off; a changed token or root file
//! cuts the wait short, since a failure is often theirs.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use signet_core::clock::{SharedClock, rfc3339};
use signet_core::time_math;
use signet_runtime::backoff::Backoff;
use signet_runtime::files::ContentWatch;
use signet_runtime::output::error_chain;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ca::obtain::{ObtainError, Obtainer};
use crate::ca::reply::SKEW;
use crate::ca::token::MAX_TOKEN_BYTES;
use crate::config::Config;
use crate::identity::issued::Issued;
use crate::identity::renewal_hints;
use crate::identity::status::Status;
use crate::identity::store::IdentityStore;
use crate::metrics::RenewalMetrics;
use crate::random::jitter;

/// How often the token and the root file are looked at while attempts fail; also bounds the rate of attempts when a
/// file changes all the time.
const LOOK: Duration = Duration::from_secs(1);

/// The largest root file that is watched, in bytes.
const MAX_WATCHED_BYTES: u64 = 1 << 20;

/// A certificate that seems to be due as soon as it comes is kept for this share of its life all the same: more
/// likely than a CA that gives such certificates is a clock that is ahead.
const LEAST_SHARE: u32 = 20;

/// The task's parts.
pub(crate) struct Renewer {
    obtainer: Obtainer,
    clock: SharedClock,
    store: Arc<IdentityStore>,
    metrics: RenewalMetrics,
    retry: (Duration, Duration),
    inputs: Inputs,
    /// The earliest time of the next renewal by hint.
    next_hinted: Instant,
}

impl Renewer {
    /// As configured: what `obtainer` obtains goes to `store`.
    #[must_use]
    pub(crate) fn new(
        config: &Config,
        obtainer: Obtainer,
        store: Arc<IdentityStore>,
        clock: SharedClock,
        metrics: RenewalMetrics,
    ) -> Self {
        Self {
            obtainer,
            clock,
            store,
            metrics,
            retry: (config.renewal.retry_initial, config.renewal.retry_max),
            next_hinted: Instant::now(),
            inputs: Inputs::new([config.token_file.clone(), config.ca.root_file.clone()]),
        }
    }

    /// Runs until `stop` is cancelled.
    ///
    /// # Errors
    /// None.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            never = self.renew_for_ever() => match never {},
        }
        Ok(())
    }

    async fn renew_for_ever(&mut self) -> Infallible {
        let mut backoff = Backoff::new(self.retry.0, self.retry.1, 2.0);
        loop {
            self.inputs.note().await;
            let started = Instant::now();
            let result = self.obtainer.obtain().await;
            let first = self.store.statuses().borrow().held.is_none();
            self.metrics.attempted(&result, started.elapsed(), first);
            match result {
                Ok(issued) => {
                    backoff.reset();
                    let life = time_math::until(issued.not_before, issued.not_after);
                    let (clock, not_before, pause) = (Arc::clone(&self.clock), issued.not_before, self.retry.0);
                    let renew_at = self.succeeded(issued);
                    tokio::select! {
                        () = self.until_due(renew_at, life) => {}
                        () = set_back(&clock, not_before, pause) => {
                            tracing::warn!("the clock was set back to before this certificate's start; asking for another");
                        }
                    }
                }
                Err(error) => {
                    let wait = self.wait(backoff.next(jitter()), error.retry_in());
                    self.failed(&error, wait);
                    tokio::select! {
                        () = sleep(wait) => {}
                        path = self.inputs.changed() => {
                            tracing::info!(file = %path.display(), "a file has changed; asking the CA again at once");
                        }
                    }
                }
            }
        }
    }

    fn succeeded(&self, issued: Issued) -> OffsetDateTime {
        let renew_at = issued.renew_at;
        tracing::info!(
            spiffe_id = %issued.spiffe_id,
            serial = issued.serial,
            authority.key_id = issued.authority,
            not_after = rfc3339(issued.not_after),
            next_renewal = rfc3339(renew_at),
            "certificate obtained"
        );
        self.store.obtained(issued);
        self.metrics.next_attempt(Some(renew_at));
        renew_at
    }

    /// Returns when the certificate is to be renewed: at `renew_at`, or earlier if the CA hints so or no root of its
    /// bundle is above the certificate any more.
    async fn until_due(&mut self, renew_at: OffsetDateTime, life: Duration) {
        let left = |at: OffsetDateTime| time_math::until(self.clock.now(), at);
        let (now, at_hand) = (Instant::now(), left(renew_at) < life / LEAST_SHARE);
        let earliest = now + if at_hand { self.retry.0.max(life / LEAST_SHARE) } else { self.retry.0 };
        let planned = earliest.max(now + self.retry.0 + left(renew_at));
        // By the monotonic clock first: whatever the wall clock or the CA's hints say, certificates are not asked for
        // in a loop. Then by whichever clock is earlier: the wall clock, because certificates end by it, also after a
        // suspend; the monotonic one, because the wall clock may be set back.
        sleep(self.retry.0).await;
        let mut statuses = self.store.statuses();
        let in_a_row = statuses.borrow().hinted_in_a_row;
        if in_a_row > 0 {
            self.next_hinted = self.next_hinted.max(now + renewal_hints::pause(in_a_row));
        }
        let before_time = |at: &OffsetDateTime| at_hand || *at < renew_at;
        loop {
            let early = statuses.borrow_and_update().early_renewal().filter(before_time);
            let at = early.unwrap_or(renew_at);
            self.metrics.next_attempt(Some(at));
            let by_hint = async {
                let Some(at) = early else { return std::future::pending().await };
                tokio::select! {
                    () = self.clock.sleep_until(at) => {}
                    () = sleep(left(at)) => {}
                }
                sleep_until(self.next_hinted).await;
            };
            let by_time = async {
                self.clock.sleep_until(renew_at).await;
                sleep_until(earliest).await;
            };
            let other = |status: &Status| status.early_renewal().filter(before_time) != early;
            tokio::select! {
                () = by_time => return,
                () = sleep_until(planned) => return,
                () = by_hint => break,
                // Fails only without a sender, which the store is.
                _other = async { statuses.wait_for(other).await.is_ok() } => {}
            }
        }
        tracing::info!(
            "this certificate is renewed before its time: by the CA's hint, or because its root is gone from the bundle"
        );
        self.next_hinted = Instant::now() + renewal_hints::pause(0);
    }

    /// How long to wait after a failure.
    fn wait(&self, backoff: Duration, asked: Option<Duration>) -> Duration {
        let end = self.store.statuses().borrow().held.as_ref().map(|held| held.not_after);
        let left = end.map(|end| time_math::until(self.clock.now(), end)).filter(|left| !left.is_zero());
        wait(backoff, asked, left, self.retry)
    }

    fn failed(&self, error: &ObtainError, wait: Duration) {
        let text = error_chain(error);
        let next = time_math::after(self.clock.now(), wait);
        self.metrics.next_attempt(Some(next));
        let failures = self.store.failed(text.clone(), next);
        // The first, and then ever fewer: at the longest wait, about one an hour, then one in two.
        if failures.is_power_of_two() {
            tracing::warn!(error = text, failures, retry_in_s = wait.as_secs_f64(), "no certificate obtained");
        } else {
            tracing::debug!(error = text, failures, retry_in_s = wait.as_secs_f64(), "no certificate obtained");
        }
    }
}

/// A quarter of what is `left` of the certificate at most, so that in a crowd those come more often whose time runs out; but
/// not before the time that the CA has `asked` for, as far as that is within the longest wait.
fn wait(backoff: Duration, asked: Option<Duration>, left: Option<Duration>, retry: (Duration, Duration)) -> Duration {
    let (least, most) = retry;
    let hurry = left.map_or(backoff, |left| backoff.min((left / 4).max(least)));
    hurry.max(asked.unwrap_or_default().min(most))
}

/// Returns when the clock is so far before `not_before` that nobody accepts the certificate that starts then: it was
/// made while the clocks were ahead. Not before `pause` has passed, so that certificates are not asked for in a loop.
async fn set_back(clock: &SharedClock, not_before: OffsetDateTime, pause: Duration) {
    sleep(pause).await;
    while not_before <= time_math::after(clock.now(), SKEW) {
        sleep(LOOK).await;
    }
}

/// The files an attempt depends on.
struct Inputs {
    paths: [PathBuf; 2],
    watch: ContentWatch,
}

impl Inputs {
    fn new(paths: [PathBuf; 2]) -> Self {
        Self { paths, watch: ContentWatch::new(MAX_WATCHED_BYTES.max(MAX_TOKEN_BYTES)) }
    }

    /// What is there now is what the next attempt uses.
    async fn note(&mut self) {
        for path in &self.paths {
            Self::look(&mut self.watch, path).await;
        }
    }

    /// Returns once a file has other content than was noted.
    async fn changed(&mut self) -> PathBuf {
        loop {
            sleep(LOOK).await;
            for path in &self.paths {
                if Self::look(&mut self.watch, path).await {
                    return path.clone();
                }
            }
        }
    }

    /// Whether there is something new. A file that cannot be read is the business of the attempt itself.
    async fn look(watch: &mut ContentWatch, path: &std::path::Path) -> bool {
        // The content may be a token: wiped at once.
        watch.changed(path).await.ok().flatten().map(signet_core::secret::Secret::new).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_gets_shorter_as_the_certificate_ends_and_never_falls_short_of_what_the_ca_asks_for() {
        let seconds = Duration::from_secs;
        let retry = (seconds(1), seconds(60));
        for (backoff, asked, left, expected) in [
            // Nothing is held, or it has ended: as the backoff says.
            (40, None, None, 40),
            // Hours are left.
            (40, None, Some(9000), 40),
            // The end is near.
            (40, None, Some(80), 20),
            (40, None, Some(8), 2),
            (40, None, Some(1), 1),
            // The CA has no room for a while.
            (1, Some(3), None, 3),
            (40, Some(3), None, 40),
            (40, Some(3), Some(8), 3),
            // A CA that says anything does not put it off for ever.
            (1, Some(86_400), Some(9000), 60),
        ] {
            let wait = wait(seconds(backoff), asked.map(seconds), left.map(seconds), retry);
            assert_eq!(wait, seconds(expected), "{backoff} {asked:?} {left:?}");
        }
    }
}
