//! The services of operators and auditors behind one guard, and what reflection says is served.

use std::convert::Infallible;
use std::sync::Arc;

use signet_core::clock::SharedClock;
use signet_plugins::store::Store;
use signet_runtime::supervisor::{Importance, Supervisor};
use tokio_util::sync::CancellationToken;
use tonic_reflection::server::Builder;

use crate::audit_log::AuditLog;
use crate::client_identity::ClientVerifier;
use crate::config::Config;
use crate::grpc::admin::{Access, AdminService, GuardedAdmin};
use crate::grpc::record::{GuardedRecord, Kept, OpenStreams, RecordService};
use crate::limits::configured::ServiceLimits;
use crate::metrics::CaMetrics;
use crate::refusals::Refusals;

/// What both services are made of.
pub(super) struct Around<'a> {
    pub(super) config: &'a Config,
    pub(super) limits: &'a ServiceLimits,
    pub(super) clients: Arc<ClientVerifier>,
    pub(super) refusals: Refusals,
    pub(super) metrics: Arc<CaMetrics>,
    pub(super) clock: SharedClock,
    pub(super) audit: AuditLog,
    pub(super) store: Arc<dyn Store>,
    pub(super) streams: OpenStreams,
}

/// The two, each behind the guard. Streams of the record end when the process is told to.
pub(super) fn guarded(
    admin: AdminService,
    around: Around<'_>,
    supervisor: &Supervisor,
) -> (GuardedAdmin, GuardedRecord) {
    let Around { config, limits, clients, refusals, metrics, clock, audit, store, streams: open } = around;
    let own_uid = rustix::process::geteuid().as_raw();
    let (admins, auditors) = (config.admins.clone(), config.auditors.clone());
    let access = Access { own_uid, admins, auditors, clients, clock: Arc::clone(&clock), refusals, metrics };
    let access = Arc::new(access);
    let streams = CancellationToken::new();
    let ended = streams.clone();
    supervisor.spawn("record streams", Importance::Critical, |stop| async move {
        stop.cancelled().await;
        ended.cancel();
        Ok::<_, Infallible>(())
    });
    let from = Kept { events: Arc::clone(&store) as _, tree: Arc::clone(&store) as _, journal: store as _ };
    let record = RecordService::new(from, config.audit.origin.clone(), audit, clock, streams).counted_in(open);
    (admin.guarded(limits.operators.clone(), Arc::clone(&access)), record.guarded(limits.record.clone(), access))
}

/// What the port of certificates serves, not all that the descriptors hold.
pub(super) fn reflection<'a>() -> Builder<'a> {
    Builder::configure()
        .register_encoded_file_descriptor_set(signet_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("istio.v1.auth.IstioCertificateService")
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("signet.admin.v1alpha1.Admin")
        .with_service_name("signet.admin.v1alpha1.Record")
}
