//! Keeps a bundle stream open: from the first certificate on, anew after each renewal, again after each failure.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use signet_core::secret::Secret;
use signet_runtime::backoff::Backoff;
use signet_runtime::output::error_chain;
use signet_sds::ledger::Ledger;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::session::{Session, StreamContext, StreamError};
use crate::ca::channel::CaChannel;
use crate::ca::token;
use crate::config::Config;
use crate::identity::status::Link;
use crate::identity::store::IdentityStore;
use crate::metrics::BundleMetrics;
use crate::random::jitter;

/// How long to wait before a CA without such a stream is asked again; it may have been upgraded.
const UNSUPPORTED_PAUSE: Duration = Duration::from_secs(300);

/// The task's parts.
pub(crate) struct BundleStream {
    context: StreamContext,
    token_file: PathBuf,
    backoff: Backoff,
    /// A stream that lasted this long was a good one: the next failure is a new story.
    good: Duration,
    old: Option<Session>,
    /// What the newest stream was opened with.
    token: Option<Secret>,
    told_unsupported: bool,
}

impl BundleStream {
    /// As configured: what the CA of `channel` sends goes to `store`, and is acknowledged as `ledger` says.
    #[must_use]
    pub(crate) fn new(
        config: &Config,
        channel: Arc<CaChannel>,
        store: Arc<IdentityStore>,
        ledger: Ledger,
        metrics: BundleMetrics,
    ) -> Self {
        let (trust_domain, bundle_name) = (config.trust_domain.clone(), config.sds.bundle_name.clone());
        let renewal = config.renewal;
        Self {
            context: StreamContext { channel, store, ledger, bundle_name, trust_domain, metrics },
            token_file: config.token_file.clone(),
            backoff: Backoff::new(renewal.retry_initial, renewal.retry_max, 2.0),
            good: renewal.retry_max,
            old: None,
            token: None,
            told_unsupported: false,
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
            never = self.keep_for_ever() => match never {},
        }
        Ok(())
    }

    async fn keep_for_ever(&mut self) -> Infallible {
        let mut statuses = self.context.store.statuses();
        loop {
            // Fails only without a sender, which the store is.
            let held = statuses.wait_for(|status| status.held.is_some()).await;
            let renewals = held.map(|status| status.obtained).unwrap_or_default();
            let had_old = self.old.is_some();
            let opened = match self.opened().await {
                Ok(mut session) => {
                    // The new one first, then the old one goes.
                    self.old = None;
                    let opened = Instant::now();
                    let ended = tokio::select! {
                        error = session.run(&self.context) => Some(error),
                        _renewed = async { statuses.wait_for(|status| status.obtained != renewals).await.is_ok() } => None,
                    };
                    // A renewal is no failure, however short the certificates live.
                    if ended.is_none() || opened.elapsed() >= self.good {
                        self.backoff.reset();
                    }
                    if matches!(ended, Some(StreamError::TokenEnded)) && self.has_newer_token().await {
                        // As it must be when a stream lasts longer than a token, and so no failure. What this side has
                        // applied is acknowledged anew on the next one.
                        tracing::debug!(
                            "the token of the bundle stream has ended; there is a newer one to open it with"
                        );
                        self.context.store.bundle_stream(Link::Down, None);
                        self.backoff.reset();
                        continue;
                    }
                    match ended {
                        Some(error) => Err(error),
                        None => Ok(session),
                    }
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok(session) => self.old = Some(session),
                Err(error) => {
                    let wait = self.failed(&error);
                    // A renewal says that the CA can be reached, but not that it has learned what a stream is.
                    let unsupported = error.is_unsupported();
                    let renewed = async {
                        let renewed = statuses.wait_for(|status| !unsupported && status.obtained != renewals).await;
                        renewed.is_ok()
                    };
                    let waiting = async {
                        tokio::select! {
                            () = sleep(wait) => {}
                            _renewed = renewed => {}
                        }
                    };
                    let (old, context) = (&mut self.old, &self.context);
                    if unsupported && old.is_some() {
                        // One replica of the CA does not know streams and another does: it is asked again as soon as
                        // the stream to that one ends.
                        tokio::select! {
                            () = waiting => {}
                            () = end_of(old, context) => {}
                        }
                    } else if unsupported && had_old {
                        // It has ended already.
                    } else {
                        beside(old, context, waiting).await;
                    }
                }
            }
        }
    }

    /// A new stream; the old one, if any, goes on meanwhile.
    async fn opened(&mut self) -> Result<Session, StreamError> {
        let node = self.context.store.statuses().borrow().held.as_ref().map(|held| held.spiffe_id.to_string());
        let opening = async {
            let token = token::read(&self.token_file).await?;
            let session = Session::open(&self.context, &token, node.unwrap_or_default()).await?;
            Ok::<_, StreamError>((session, token))
        };
        let (session, token) = beside(&mut self.old, &self.context, opening).await?;
        self.token = Some(token);
        Ok(session)
    }

    /// Whether the token file holds another token than the newest stream was opened with. With the same one the CA would
    /// refuse a stream, or end it again at once.
    async fn has_newer_token(&self) -> bool {
        let used = self.token.as_ref();
        token::read(&self.token_file).await.is_ok_and(|token| used.is_some_and(|used| used.expose() != token.expose()))
    }

    /// Tells everybody, and how long to wait.
    fn failed(&mut self, error: &StreamError) -> Duration {
        let text = error_chain(error);
        // While an old stream is there the link is not down, whatever this replica of the CA says.
        let link = |otherwise| if self.old.is_some() { Link::Up } else { otherwise };
        if error.is_unsupported() {
            self.context.store.bundle_stream(link(Link::Unsupported), None);
            if !std::mem::replace(&mut self.told_unsupported, true) {
                tracing::info!("the CA has no bundle stream; new roots come with the next certificate");
            }
            return UNSUPPORTED_PAUSE.mul_f64(1.0 + jitter() / 10.0);
        }
        self.context.store.bundle_stream(link(Link::Down), Some(text.clone()));
        self.told_unsupported = false;
        let wait = self.backoff.next(jitter());
        let failures = self.backoff.failures();
        if failures.is_power_of_two() {
            tracing::warn!(error = text, failures, retry_in_s = wait.as_secs_f64(), "no bundle stream");
        } else {
            tracing::debug!(error = text, failures, retry_in_s = wait.as_secs_f64(), "no bundle stream");
        }
        wait
    }
}

/// Does `work` while the old stream, if any, goes on; a stream that ends meanwhile is gone.
async fn beside<T>(old: &mut Option<Session>, context: &StreamContext, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = end_of(old, context) => {}
    }
    work.await
}

/// Works until the old stream ends, which then is gone; without one, for ever.
async fn end_of(old: &mut Option<Session>, context: &StreamContext) {
    let Some(session) = old else { return std::future::pending().await };
    let _ended = session.run(context).await;
    *old = None;
    context.store.bundle_stream(Link::Down, None);
}
