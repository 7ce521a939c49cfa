//! The process of `signet-ca serve`: opens everything, starts the tasks, and waits for the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SystemRandom;
use signet_core::clock::{SharedClock, SystemClock};
use signet_core::identity::IdentityError;
use signet_runtime::config::Loaded;
use signet_runtime::liveness::{Liveness, beat_event_loop};
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::ops::{self, BindError, Ops};
use signet_runtime::readiness::Readiness;
use signet_runtime::signal::{Hangups, SignalError, Signals};
use signet_runtime::supervisor::{Importance, Supervisor, TaskFailure};
use signet_runtime::telemetry::{self, TelemetryError};
use signet_sds::ledger::Ledger;
use signet_sds::server::SdsServer;
use signet_sds::service::SdsService;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::cluster_set::{ClusterSet, Opened, Surroundings};
use super::cluster_view::View;
use super::configuration::{Follower, Told};
use super::error::AppError;
use super::kubernetes::{Calls, Reviews};
use super::plugins::Plugins;
use super::signers::{Answering, Signers};
use super::storage::storage_warning;
use super::tokens::TokensError;
use super::{backend, record_tree, services, start_on_record};
use crate::acknowledgement_queue::Acknowledgements;
use crate::audit_log::audit_log;
use crate::bundle_feed::BundleFeed;
use crate::certificate_caller::CertificateCallers;
use crate::client_identity::ClientVerifier;
use crate::config::Config;
use crate::grpc::admin::AdminService;
use crate::grpc::bundle_listeners::Listeners;
use crate::grpc::bundle_stream::BundleStream;
use crate::grpc::certificate_server::CertificateServer;
use crate::grpc::create_certificate::CertificateService;
use crate::grpc::record::OpenStreams;
use crate::issuance::{Elsewhere, Issuance};
use crate::journal_catch_up::CatchUp;
use crate::limits::configured::{self, MESSAGE};
use crate::limits::intake::Intake;
use crate::limits::request_rates::RequestRates;
use crate::metrics::CaMetrics;
use crate::notices::notices;
use crate::operations::Operations;
use crate::publishing;
use crate::refusals::refusals;
use crate::reply_delivery::handovers;
use crate::serving_certificate::ServingRenewer;
use crate::storage_age::StorageAge;
use crate::transport::acceptor::Acceptor;
use crate::transport::admin_socket::{self, AdminSocketError};
use crate::transport::{http2, tls};
use crate::{bundle_file, health, pod_certificates};

/// How long closing the database may take, for a file writing back what is in its `-wal`.
const CLOSING: Duration = Duration::from_secs(5);

/// Why the CA did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Logging.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Signals.
    #[error(transparent)]
    Signals(#[from] SignalError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricError),
    /// Storage, keys, authorities.
    #[error(transparent)]
    App(#[from] AppError),
    /// A port is in use or not allowed.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin socket.
    #[error(transparent)]
    AdminSocket(#[from] AdminSocketError),
    /// The CA's own identity.
    #[error("the CA's own identity")]
    Identity(#[from] IdentityError),
    /// TLS.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// gRPC reflection.
    #[error("gRPC reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A task that the process needs has ended.
    #[error(transparent)]
    Task(#[from] TaskFailure),
}

/// The configured filter, without the line that the library for Kubernetes logs as an error for each request that failed: what
/// came of it is told once, in our own words. A filter that names the library has its lines.
fn log_filter(configured: &str) -> String {
    const LIBRARY: &str = "kube_client";
    if configured.contains(LIBRARY) {
        return configured.to_owned();
    }
    format!("{LIBRARY}::client::builder=off,{configured}")
}

/// Runs the CA until it is told to stop. `file` is where the configuration was read, and is read again.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(loaded: Loaded<Config>, file: PathBuf) -> Result<(), ServeError> {
    let Loaded { config, effective, places } = loaded;
    telemetry::init(config.log.format, &log_filter(&config.log.level))?;
    let (signals, hangups) = (Signals::install(config.drain)?, Hangups::install()?);
    let clock: SharedClock = Arc::new(SystemClock);

    // Ports first: the commonest mistake should be told before anything is touched.
    let listener = ops::bind("listen", config.listen).await?;
    let ops_listener = ops::bind("ops", config.ops).await?;
    let (admin_listener, socket_file) = admin_socket::bind(&config.admin)?;
    if let Some(warning) = storage_warning(&config.storage) {
        tracing::warn!("{warning}");
    }
    let plugins = Plugins::open(&config).await?;
    let mut opened = Vec::new();
    for (index, cluster) in config.clusters.iter().enumerate() {
        let wrong = |error: TokensError| AppError::Cluster(places.named(&error.of_cluster(index)));
        opened.push(Opened::open(cluster, None).await.map_err(wrong)?);
    }

    let metrics = Metrics::for_process("ca", env!("CARGO_PKG_VERSION"), "")?;
    let ca_metrics = Arc::new(CaMetrics::new(&metrics, Arc::clone(&clock))?);
    let (readiness, liveness) = (Readiness::new(), Liveness::new());
    let (supervisor, host) = (Supervisor::new(), publishing::host());
    let critical = Importance::Critical;

    // The record, and who writes into it. The writer ends when all of its senders have.
    let (audit, writer) = audit_log(Arc::clone(&plugins.store) as _, ca_metrics.audit.clone());
    supervisor.spawn("audit writer", critical, |stop| writer.run(stop));
    let (notices, notice_writer) = notices(Arc::clone(&clock));
    let record = audit.clone();
    supervisor.spawn("notices", critical, |stop| notice_writer.run(record, stop));
    if let Some(vault) = &plugins.vault {
        vault.record_logins(notices.clone());
    }
    if let Some((former, _)) = &plugins.former {
        former.record_logins(notices.clone());
    }
    let (output, state) = tokio::sync::watch::channel(None);
    let wake_up = Arc::new(Notify::new());
    let executor = plugins.executor(&config, audit.clone(), Arc::clone(&clock));
    executor.starts_after(plugins.newest_record().await?);
    let (store, leaves) = (Arc::clone(&plugins.store) as _, Arc::clone(&plugins.store) as _);
    let operations = Operations { executor: Arc::clone(&executor), store, leaves, wake_up: Arc::clone(&wake_up) };
    let operations = Arc::new(operations);
    let (answers, answering) = tokio::sync::watch::channel(None);
    let publishing = plugins.publishing(&config, &host, &state, &clock, &wake_up);
    let of_file = config.bundle_file.as_ref().map(|path| (path.clone(), bundle_file::publisher(path, &host)));
    let around = Surroundings {
        readiness: readiness.clone(),
        spawner: supervisor.spawner(),
        reviews: Reviews::new(&metrics)?,
        signers: Signers::new(&metrics, Arc::clone(&clock), answering)?,
        calls: Calls::new(&metrics)?,
        publishing: publishing.clone(),
        publishers: operations.executor.publishers.clone(),
        others: of_file.iter().map(|(_, name)| name.clone()).collect(),
        notices: notices.clone(),
    };
    let set = Arc::new(ClusterSet::start(around, opened));
    set.measure(&metrics)?;
    let clusters = set.served();
    let follower = Follower {
        file,
        clusters: Arc::clone(&set),
        trust_domain: config.trust_domain.clone(),
        effective: effective.clone(),
        told: Told::new(&metrics, readiness.condition("configuration"))?,
        audit: audit.clone(),
        notices: notices.clone(),
        clock: Arc::clone(&clock),
    };
    let view = View { clusters: set, configuration: follower.told.status(), clock: Arc::clone(&clock) };
    supervisor.spawn("configuration", critical, |stop| follower.run(hangups, stop));
    let (measured, known) = (Arc::clone(&ca_metrics), Arc::clone(&clusters));
    let rotator = plugins.rotator(&config, executor, measured, output, Arc::clone(&wake_up), known);
    let signer = readiness.condition("signer");
    supervisor.spawn("rotator", critical, |stop| rotator.run(signer, stop));
    let (renewer, serving) = ServingRenewer::new(
        &config.leaf_policy(),
        config.serving.clone(),
        state.clone(),
        audit.clone(),
        Arc::clone(&clock),
        Arc::clone(&ca_metrics),
        readiness.condition("serving certificate"),
    )?;
    supervisor.spawn("serving certificate", critical, |stop| renewer.run(stop));
    let storage = readiness.condition("storage");
    let (probed, probe_metrics) = (Arc::clone(&plugins.store) as _, Arc::clone(&ca_metrics));
    supervisor.spawn("storage probe", critical, |stop| health::probe_storage(probed, probe_metrics, storage, stop));

    if let Some((path, name)) = of_file {
        let (state, reporter) = (state.clone(), publishing.reporter(&name));
        let condition = readiness.condition("bundle file");
        supervisor.spawn("bundle file", critical, |stop| bundle_file::keep(path, state, condition, reporter, stop));
    }
    let measured = (&ca_metrics, &metrics);
    backend::follow(&plugins, &operations.executor, &state, measured, &readiness, &supervisor, notices)
        .map_err(AppError::from)?;

    // The way of a request.
    let rates = Arc::new(RequestRates::new(&config.limits));
    let swept = Arc::clone(&rates);
    supervisor.spawn("limit counters", critical, |stop| swept.sweep(stop));
    let (refusals, refusal_writer) = refusals(Arc::clone(&clock));
    let record = audit.clone();
    supervisor.spawn("refusals", critical, |stop| refusal_writer.run(record, stop));
    let (handovers, handover_writer) =
        handovers(Arc::clone(&plugins.store) as _, Arc::clone(&clock), Arc::clone(&wake_up));
    supervisor.spawn("handovers", critical, |stop| handover_writer.run(stop));
    let clients = Arc::new(ClientVerifier::new(config.trust_domain.clone(), state.clone()));
    let by_certificate = CertificateCallers::new(
        Arc::clone(&plugins.store) as _,
        Arc::clone(&plugins.store) as _,
        Arc::clone(&clients),
        state.clone(),
        Arc::clone(&wake_up),
    );
    let issuance = Arc::new(Issuance {
        policy: config.leaf_policy(),
        clusters: Arc::clone(&clusters),
        by_certificate,
        state: state.clone(),
        audit: audit.clone(),
        handovers,
        refusals: refusals.clone(),
        rates: Arc::clone(&rates),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&ca_metrics),
        random: SystemRandom::new(),
        wake_up: Arc::clone(&wake_up),
        timeout: config.limits.request_timeout,
        elsewhere: Elsewhere::new(supervisor.spawner(), usize::from(config.authority.leaves_at_once())),
    });
    answers.send_replace(Some(Answering::new(&issuance, &plugins.store).map_err(AppError::from)?));
    // It would keep what it has sent, and with that a sender of the record, beyond the end of all tasks.
    drop(answers);
    let (claims, forgetting) = (Arc::clone(&plugins.store) as _, Arc::clone(&clock));
    supervisor.spawn("answered requests", critical, |stop| pod_certificates::forget_answered(claims, forgetting, stop));

    // The way of the trust bundle, and of what holders say about it.
    let acknowledgements = Acknowledgements::default();
    let feed = BundleFeed::new(state.clone(), config.authority.renewal_window, Arc::clone(&plugins.proofs));
    let storage_age = Arc::new(StorageAge::new(Arc::clone(&plugins.proofs)));
    let (journal, followed) = (Arc::clone(&plugins.store) as _, state.clone());
    let (watched, doubted, aged) =
        (Arc::clone(&storage_age), Arc::clone(&operations.executor), Arc::clone(&ca_metrics));
    let condition = readiness.condition("storage history");
    supervisor
        .spawn("storage history", critical, |stop| watched.watch(journal, doubted, followed, aged, condition, stop));
    let (queue, sequences, feed_served) = (acknowledgements.clone(), feed.sequences(), feed.served());
    let most = (config.limits.connections / 5 * 4).clamp(1, config.limits.bundle_streams);
    // Two at least: an agent that changes over has two.
    let per_identity = config.limits.bundle_streams_per_identity.unwrap_or((most / 4).max(2));
    let listeners = Listeners::new(queue, sequences, Arc::clone(&clock), Arc::clone(&ca_metrics), per_identity);
    let ledger = Ledger::new(most, Arc::clone(&clock), Arc::new(listeners.clone()));
    let sds_stop = CancellationToken::new();
    let bundle_stream = BundleStream {
        sds: SdsService::new(feed.snapshots(), ledger.clone(), sds_stop.clone()),
        clusters,
        clients: Arc::clone(&clients),
        rates,
        refusals: refusals.clone(),
        clock: Arc::clone(&clock),
        listeners,
        storage_age: Arc::clone(&storage_age),
    };
    let holders = Arc::clone(&plugins.store) as _;
    supervisor.spawn("acknowledgements", critical, |stop| acknowledgements.write(holders, wake_up, stop));
    supervisor.spawn("bundle feed", critical, |stop| feed.run(ledger, stop));
    supervisor.spawn("bundle streams", critical, |stop| async move {
        stop.cancelled().await;
        sds_stop.cancel();
        Ok::<_, std::convert::Infallible>(())
    });

    // The edges.
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health_readiness = readiness.clone();
    supervisor.spawn("health", critical, |stop| health::follow_readiness(health_readiness, reporter, stop));
    let (ready, connections) = mpsc::channel(64);
    let acceptor = Acceptor {
        listener,
        handshakes: tls::Handshakes::new(serving.clone(), Arc::clone(&clients), Arc::clone(&clock))?,
        connections: configured::connections(&config.limits, &ca_metrics),
        proxies: config.proxy_protocol_from.clone(),
        ready,
        metrics: Arc::clone(&ca_metrics),
    };
    supervisor.spawn("acceptor", critical, |stop| acceptor.run(stop));
    let service = CertificateServer::new(CertificateService::new(issuance), MESSAGE);
    let limits = configured::service_limits(&config.limits, &ca_metrics);
    let turned_away = Arc::clone(&ca_metrics.turned_away);
    supervisor.spawn("limits", critical, |stop| async move { turned_away.warn(stop).await });
    let catch_up = CatchUp { state: feed_served, journal: Arc::clone(&plugins.store) as _ };
    let admin = AdminService {
        trust_domain: config.trust_domain.to_string(),
        storage: config.storage.to_string(),
        started_at: clock.now(),
        state,
        serving,
        readiness: readiness.clone(),
        metrics: Arc::clone(&ca_metrics),
        operations,
        clusters: Arc::new(view),
        catch_up,
        storage_age,
        clock: Arc::clone(&clock),
    };
    let around = services::Around {
        config: &config,
        limits: &limits,
        clients,
        refusals,
        metrics: ca_metrics,
        clock: Arc::clone(&clock),
        audit: audit.clone(),
        store: Arc::clone(&plugins.store),
        streams: OpenStreams::counted(&metrics)?,
    };
    let (admin, record) = services::guarded(admin, around, &supervisor);
    let router = http2::server()
        .add_service(Intake::new(service, limits.certificates))
        .add_service(Intake::new(SdsServer::new(bundle_stream), limits.bundles))
        .add_service(admin.clone())
        .add_service(record.clone())
        .add_service(Intake::new(health_service, limits.health))
        .add_service(Intake::new(services::reflection().build_v1()?, limits.reflection.clone()))
        .add_service(Intake::new(services::reflection().build_v1alpha()?, limits.reflection));
    supervisor.spawn("certificate service", critical, |stop| async move {
        let connections = ReceiverStream::new(connections);
        router.serve_with_incoming_shutdown(connections, stop.cancelled_owned()).await
    });
    let admin_router = Server::builder().timeout(Duration::from_secs(30)).add_service(admin).add_service(record);
    supervisor.spawn("admin service", critical, |stop| async move {
        admin_router.serve_with_incoming_shutdown(admin_socket::incoming(admin_listener), stop.cancelled_owned()).await
    });
    let heartbeat = liveness.event_loop();
    supervisor.spawn("heartbeat", critical, |stop| beat_event_loop(heartbeat, stop));
    let more = Some(record_tree::sign(&plugins, &config, &metrics, &readiness, &supervisor, &clock)?);
    let ops = Ops { metrics, readiness: readiness.clone(), liveness, more };
    supervisor.spawn("ops", critical, |stop| ops::serve(ops_listener, ops, stop));

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        storage = %config.storage,
        listen = %config.listen,
        ops = %config.ops,
        admin = %config.admin.display(),
        "signet-ca has started"
    );
    // It is on record with the start, where it can be found when the log is gone.
    tracing::debug!(config = %effective, "the configuration in effect");
    let started = start_on_record::started(plugins.store.as_ref(), &effective, clock.now()).await;
    if let Err(error) = audit.record(started).await {
        tracing::warn!(%error, "the start could not be recorded");
    }
    // The last sender outside the tasks: with it the writer would wait for ever.
    drop(audit);
    let store = Arc::clone(&plugins.store);
    drop(plugins);

    let outcome = supervisor.run_until(signals.stop(), signals.force(), config.drain).await;
    drop(socket_file);
    if tokio::time::timeout(CLOSING, store.close()).await.is_err() {
        tracing::warn!("the database could not be closed in time; nothing that was committed is lost by that");
    }
    if !outcome.aborted.is_empty() {
        // One client that holds a call open must not make every restart look failed.
        tracing::warn!(tasks = outcome.aborted.join(", "), "the drain deadline has passed; requests were cut off");
    }
    outcome.failure.map_or(Ok(()), |failure| Err(failure.into()))
}
