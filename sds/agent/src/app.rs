//! Puts the agent together: this file alone knows all parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use signet_core::clock::{SharedClock, SystemClock};
use signet_runtime::files::{Directories, FileError, in_time, no_place};
use signet_runtime::liveness::{Liveness, beat_event_loop};
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::ops::{self, BindError, Ops};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::{Condition, Readiness};
use signet_runtime::signal::{SignalError, Signals};
use signet_runtime::supervisor::{Importance, Spawner, Supervisor, TaskFailure};
use signet_sds::ledger::{Ledger, LocalClient, Observer};
use signet_sds::service::SdsService;
use signet_sds::snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bundle::BundleStream;
use crate::ca::channel::CaChannel;
use crate::ca::client::Acknowledges;
use crate::ca::obtain::{ObtainError, Obtainer};
use crate::config::{Config, Sds};
use crate::files::{CHAIN_FILE, WriteError, write_set};
use crate::health::{watch_bundle_stream, watch_certificate};
use crate::identity::issued::Issued;
use crate::identity::status::Status;
use crate::identity::store::IdentityStore;
use crate::inspection::Inspection;
use crate::metrics::{BundleMetrics, RenewalMetrics, SdsMetrics};
use crate::renewer::Renewer;
use crate::socket::server;
use crate::socket::unix::{self, Access, Socket, SocketError};

/// Why the agent could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AppError {
    /// A metric's name is taken.
    #[error("cannot set up the metrics")]
    Metrics(#[from] MetricError),
    /// The ops port is taken.
    #[error("cannot open the ops port")]
    Ops(#[from] BindError),
    /// The socket is taken or cannot be made.
    #[error("cannot open the SDS socket")]
    Socket(#[from] SocketError),
    /// Signals cannot be handled.
    #[error("cannot handle signals")]
    Signals(#[from] SignalError),
    /// A part that the agent needs has ended.
    #[error("the agent has stopped")]
    Task(#[from] TaskFailure),
    /// No certificate came in time.
    #[error("no certificate within {}s", .within.as_secs())]
    NoCertificate {
        /// How long was tried.
        within: Duration,
        /// The last failure, if an attempt came to its end.
        #[source]
        last: Option<ObtainError>,
    },
    /// What is asked with cannot be used, whatever the CA says, and time alone mends nothing.
    #[error(transparent)]
    Hopeless(ObtainError),
    /// The directory cannot hold the files; no certificate was asked for.
    #[error("the certificate files cannot be written: {0}")]
    Place(String),
    /// The files could not be written.
    #[error("the certificate was obtained but not written")]
    Write(#[from] WriteError),
}

/// The agent's parts before any task runs, so that a test can look at them.
pub(crate) struct Agent {
    /// What operators see.
    pub ops: Ops,
    /// What is held and how obtaining it goes.
    pub statuses: watch::Receiver<Status>,
    /// What proxies are served.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Who is served, and what everybody says about it.
    pub ledger: Ledger,
    config: Config,
    store: Arc<IdentityStore>,
    channel: Arc<CaChannel>,
    renewal_metrics: RenewalMetrics,
    bundle_metrics: BundleMetrics,
    clock: SharedClock,
}

impl Agent {
    /// Makes the parts. Nothing is opened, read or asked yet.
    ///
    /// # Errors
    /// [`AppError::Metrics`].
    pub(crate) fn new(config: &Config, clock: SharedClock) -> Result<Self, AppError> {
        let metrics = Metrics::for_process("agent", env!("CARGO_PKG_VERSION"), revision())?;
        let renewal_metrics = RenewalMetrics::register(&metrics)?;
        let observer: Arc<dyn Observer> = Arc::new(SdsMetrics::register(&metrics)?);
        let bundle_metrics = BundleMetrics::register(&metrics)?;
        let store = Arc::new(IdentityStore::new(config, Arc::clone(&clock)));
        let ops = Ops { metrics, readiness: Readiness::new(), liveness: Liveness::new(), more: None };
        Ok(Self {
            ops,
            statuses: store.statuses(),
            snapshots: store.snapshots(),
            ledger: Ledger::new(config.sds.max_streams, Arc::clone(&clock), observer)
                .with_grace(config.sds.proxy_grace),
            channel: Arc::new(CaChannel::new(config.ca.clone(), store.statuses())),
            config: config.clone(),
            store,
            renewal_metrics,
            bundle_metrics,
            clock,
        })
    }

    /// Opens the SDS socket.
    ///
    /// # Errors
    /// [`SocketError`].
    pub(crate) async fn open(&self) -> Result<Socket, SocketError> {
        let Sds { socket, mode, user, group, .. } = &self.config.sds;
        let access = Access { mode: *mode, user: user.clone(), group: group.clone() };
        unix::bind(socket, &access).await
    }

    /// Starts renewing and listening for new bundles, with everything that looks after it.
    fn start_renewing(&self, spawner: &Spawner) {
        // Registered before any task runs, so that none is forgotten by a slow start.
        let certificate = self.ops.readiness.condition("certificate");
        let stream = self.ops.readiness.condition("bundle_stream");
        let (clock, statuses, metrics) = (Arc::clone(&self.clock), self.statuses.clone(), self.renewal_metrics.clone());
        let (config, store, channel) = (&self.config, Arc::clone(&self.store), Arc::clone(&self.channel));
        let obtainer = Obtainer::new(config, Arc::clone(&clock), Arc::clone(&channel), Acknowledges::OnStream);
        let renewer = Renewer::new(config, obtainer, Arc::clone(&store), Arc::clone(&clock), metrics.clone());
        let bundles = BundleStream::new(config, channel, store, self.ledger.clone(), self.bundle_metrics.clone());
        let heartbeat = self.ops.liveness.event_loop();
        spawner.spawn("heartbeat", Importance::Critical, |stop| beat_event_loop(heartbeat, stop));
        spawner.spawn("health", Importance::Critical, |stop| {
            watch_certificate(statuses, clock, certificate, metrics, stop)
        });
        let (statuses, metrics) = (self.statuses.clone(), self.bundle_metrics.clone());
        spawner
            .spawn("bundle_health", Importance::Critical, |stop| watch_bundle_stream(statuses, stream, metrics, stop));
        spawner.spawn("renewer", Importance::Critical, |stop| renewer.run(stop));
        spawner.spawn("bundle_stream", Importance::Critical, |stop| bundles.run(stop));
    }

    /// Starts everything that [`keep_files`] runs.
    pub(crate) fn start_writing(self, directory: &Path, spawner: &Spawner) {
        let channel = CaChannel::new(self.config.ca.clone(), self.statuses.clone()).for_files("watch", directory);
        let this = Self { channel: Arc::new(channel), ..self };
        this.write_and_renew(directory.to_owned(), spawner);
    }

    fn write_and_renew(self, directory: PathBuf, spawner: &Spawner) {
        let statuses = self.statuses.clone();
        let files = self.ledger.enter_local("files", self.config.sds.bundle_name.as_str());
        spawner.spawn("files", Importance::Critical, |stop| async move {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                done = write_changes(statuses, &directory, &files) => done,
            }
        });
        self.start_renewing(spawner);
    }

    /// Starts everything that [`run`] runs, except for the ops port.
    pub(crate) fn start(self, socket: Socket, spawner: &Spawner) {
        let serving = self.ops.readiness.condition("socket");
        self.start_renewing(spawner);
        spawner.spawn("sds", Importance::Critical, |stop| self.serve(socket, serving, stop));
    }

    async fn serve(
        self,
        socket: Socket,
        serving: Condition,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let max = self.ledger.max_streams();
        let sds = SdsService::new(self.snapshots.clone(), self.ledger.clone(), stop.clone());
        let inspection = Inspection {
            started_at: self.clock.now(),
            statuses: self.statuses,
            snapshots: self.snapshots,
            ledger: self.ledger,
            readiness: self.ops.readiness,
        };
        server::serve(socket, sds, inspection, max, serving, stop).await
    }
}

/// `run`: renews and serves until a signal comes.
///
/// # Errors
/// [`AppError`].
pub(crate) async fn run(config: Config, effective: &Value) -> Result<(), AppError> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ca = %config.ca.address,
        socket = %config.sds.socket.display(),
        ops = %config.ops,
        "signet-agent starts"
    );
    tracing::debug!(config = %effective, "the configuration in effect");
    // Each proxy's connection is an open file, and there may be as many as `sds.max_streams` says.
    tracing::debug!(files = signet_runtime::open_files::raise(), "files that may be open");
    let signals = Signals::install(config.drain)?;
    let agent = Agent::new(&config, Arc::new(SystemClock))?;
    let ops = agent.ops.clone();
    let listener = ops::bind("ops", config.ops).await?;
    let socket = agent.open().await?;
    let supervisor = Supervisor::new();
    supervisor.spawn("ops", Importance::Critical, |stop| ops::serve(listener, ops, stop));
    agent.start(socket, &supervisor.spawner());
    finish(supervisor, signals, config.drain).await
}

/// `fetch --watch`: writes the files at each renewal and each new bundle until a signal comes. No socket and no port is
/// opened.
///
/// # Errors
/// [`AppError`].
pub(crate) async fn keep_files(config: Config, directory: &Path) -> Result<(), AppError> {
    let signals = Signals::install(config.drain)?;
    check_place(directory).await?;
    let agent = Agent::new(&config, Arc::new(SystemClock))?;
    let supervisor = Supervisor::new();
    agent.start_writing(directory, &supervisor.spawner());
    finish(supervisor, signals, config.drain).await
}

/// `fetch`: tries until a certificate is there and its files are written, at most `within` long.
///
/// # Errors
/// [`AppError`].
pub(crate) async fn fetch_once(config: &Config, directory: &Path, within: Duration) -> Result<Arc<Issued>, AppError> {
    check_place(directory).await?;
    let store = IdentityStore::new(config, Arc::new(SystemClock));
    let channel = CaChannel::new(config.ca.clone(), store.statuses()).for_files("once", directory);
    let obtainer = Obtainer::new(config, Arc::new(SystemClock), Arc::new(channel), Acknowledges::Never);
    let mut last = None;
    let trying = async {
        let mut wait = config.renewal.retry_initial;
        loop {
            match obtainer.obtain().await {
                Ok(issued) => break Ok(issued),
                Err(error) if error.is_hopeless() => break Err(AppError::Hopeless(error)),
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "no certificate obtained; trying again");
                    last = Some(error);
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(config.renewal.retry_max);
        }
    };
    match tokio::time::timeout(within, Box::pin(trying)).await {
        Ok(issued) => {
            let issued = Arc::new(issued?);
            let written = Arc::clone(&issued);
            in_time(directory, move |directory| write_set(directory, &written, &written.bundle)).await?;
            Ok(issued)
        }
        Err(_elapsed) => Err(AppError::NoCertificate { within, last }),
    }
}

/// Looks whether files can be made in `directory`, before anything is asked for that could not be kept then.
async fn check_place(directory: &Path) -> Result<(), AppError> {
    let inside = directory.join(CHAIN_FILE);
    let looked = in_time(&inside, |inside| Ok::<_, FileError>(no_place(inside, Directories::AreMade)));
    looked.await.map_err(WriteError::from)?.map_or(Ok(()), |why| Err(AppError::Place(why)))
}

/// Writes what is held whenever it changes, and acknowledges the bundle that is on disk.
async fn write_changes(
    mut statuses: watch::Receiver<Status>,
    directory: &Path,
    files: &LocalClient,
) -> Result<(), WriteError> {
    let mut last = None;
    loop {
        let status = statuses.borrow_and_update().clone();
        if let (Some(held), Some(validation)) = (status.held, status.validation)
            && last != Some((status.obtained, validation.version))
        {
            let (written_now, bundle) = (Arc::clone(&held), validation.validation.bundle.clone());
            in_time(directory, move |directory| write_set(directory, &written_now, &bundle)).await?;
            last = Some((status.obtained, validation.version));
            files.acknowledge(validation.version);
            tracing::info!(
                directory = %directory.display(),
                serial = held.serial,
                bundle.sequence = validation.sequence,
                "certificate files written"
            );
        }
        if statuses.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn finish(supervisor: Supervisor, signals: Signals, drain: Duration) -> Result<(), AppError> {
    let outcome = supervisor.run_until(signals.stop(), signals.force(), drain).await;
    match outcome.failure {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

/// The source revision, when the build tells it.
fn revision() -> &'static str {
    option_env!("SIGNET_REVISION").unwrap_or("unknown")
}
