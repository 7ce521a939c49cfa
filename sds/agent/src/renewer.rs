//! The one task that obtains certificates: at once, then again long before each one ends, with or without subscribers.
//!
//! The last good certificate stays until a checked one replaces it. Failures back off; a changed token or root file
//! cuts the wait short, since a failure is often theirs.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use signet_core::clock::{SharedClock, rfc3339};
use signet_runtime::backoff::Backoff;
use signet_runtime::files::ContentWatch;
use signet_runtime::output::error_chain;
use signet_sds::snapshot::Snapshot;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::RenewalMetrics;
use crate::obtain::{ObtainError, Obtainer};
use crate::reply::Issued;
use crate::status::{Failure, Status, snapshot_of};
use crate::token::MAX_TOKEN_BYTES;

/// How often the token and the root file are looked at while attempts fail; also bounds the rate of attempts when a
/// file changes all the time.
const LOOK: Duration = Duration::from_secs(1);

/// The largest root file that is watched, in bytes.
const MAX_WATCHED_BYTES: u64 = 1 << 20;

/// The task's parts.
pub struct Renewer {
    obtainer: Obtainer,
    clock: SharedClock,
    outlets: Outlets,
    metrics: RenewalMetrics,
    retry: (Duration, Duration),
    inputs: Inputs,
}

/// Where results go.
pub struct Outlets {
    /// For everybody who wants to know.
    pub status: watch::Sender<Status>,
    /// For proxies.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    certificate_name: String,
    bundle_name: String,
}

impl Outlets {
    /// Outlets that hold nothing yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            status: watch::Sender::new(Status::default()),
            snapshots: watch::Sender::new(Arc::new(Snapshot::empty())),
            certificate_name: config.sds.certificate_name.clone(),
            bundle_name: config.sds.bundle_name.clone(),
        }
    }

    fn publish(&self, issued: &Issued) {
        let snapshot = Arc::new(snapshot_of(issued, &self.certificate_name, &self.bundle_name));
        self.snapshots.send_replace(snapshot);
    }
}

impl Renewer {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config, clock: SharedClock, outlets: Outlets, metrics: RenewalMetrics) -> Self {
        Self {
            obtainer: Obtainer::new(config, Arc::clone(&clock)),
            clock,
            outlets,
            metrics,
            retry: (config.renewal.retry_initial, config.renewal.retry_max),
            inputs: Inputs::new([config.token_file.clone(), config.ca.root_file.clone()]),
        }
    }

    /// Runs until `stop` is cancelled.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
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
            self.inputs.note();
            let started = Instant::now();
            let result = self.obtainer.obtain().await;
            self.metrics.attempted(&result, started.elapsed());
            match result {
                Ok(issued) => {
                    backoff.reset();
                    let renew_at = self.succeeded(issued);
                    let planned = Duration::try_from(renew_at - self.clock.now()).unwrap_or_default();
                    // By the monotonic clock first: whatever the wall clock says, certificates are not asked for in a
                    // loop. Then by whichever clock is earlier: the wall clock, because certificates end by it, also
                    // after a suspend; the monotonic one, because the wall clock may be set back.
                    sleep(self.retry.0).await;
                    tokio::select! {
                        () = self.clock.sleep_until(renew_at) => {}
                        () = sleep(planned) => {}
                    }
                }
                Err(error) => {
                    let wait = backoff.next(jitter());
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
            authority.id = issued.authority,
            not_after = rfc3339(issued.not_after),
            next_renewal = rfc3339(renew_at),
            "certificate obtained"
        );
        self.outlets.publish(&issued);
        self.metrics.next_attempt(Some(renew_at));
        self.outlets.status.send_modify(|status| {
            status.held = Some(Arc::new(issued));
            status.renewals += 1;
            status.failures = 0;
            status.next_attempt = Some(renew_at);
        });
        renew_at
    }

    fn failed(&self, error: &ObtainError, wait: Duration) {
        let at = self.clock.now();
        let text = error_chain(error);
        let next = Some(at + wait);
        self.metrics.next_attempt(next);
        let mut failures = 0;
        self.outlets.status.send_modify(|status| {
            status.failures = status.failures.saturating_add(1);
            failures = status.failures;
            status.last_failure = Some(Failure { text: text.clone(), at });
            status.next_attempt = next;
        });
        // The first, and then ever fewer: at the longest wait, about one an hour, then one in two.
        if failures.is_power_of_two() {
            tracing::warn!(error = text, failures, retry_in_s = wait.as_secs_f64(), "no certificate obtained");
        } else {
            tracing::debug!(error = text, failures, retry_in_s = wait.as_secs_f64(), "no certificate obtained");
        }
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
    fn note(&mut self) {
        for path in &self.paths {
            Self::look(&mut self.watch, path);
        }
    }

    /// Returns once a file has other content than was noted.
    async fn changed(&mut self) -> PathBuf {
        loop {
            sleep(LOOK).await;
            if let Some(path) = self.paths.iter().find(|path| Self::look(&mut self.watch, path)) {
                return path.clone();
            }
        }
    }

    /// Whether there is something new. A file that cannot be read is the business of the attempt itself.
    fn look(watch: &mut ContentWatch, path: &std::path::Path) -> bool {
        // The content may be a token: wiped at once.
        watch.changed(path).ok().flatten().map(signet_core::secret::Secret::new).is_some()
    }
}

/// A random number from 0 to 1, so that agents which failed together do not come back together.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_unspecified) => 1.0,
    }
}
