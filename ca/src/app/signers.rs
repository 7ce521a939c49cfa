//! The signers of pods' certificates, one per cluster that has one: put together, told of, counted.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounterVec};
use signet_core::clock::SharedClock;
use signet_core::seams::store::StoreError;
use signet_plugins::kubernetes::{Attempt, PodCertificates, SignerHealth, SignerRules};
use signet_plugins::store::Store;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Condition;
use tokio::sync::watch;

use super::cluster_set::{Running, Surroundings};
use super::kubernetes::Server;
use super::passing::Tasks;
use crate::config::Cluster;
use crate::issuance::Issuance;
use crate::pod_certificates::{PodCertificateAnswers, claimant};

/// How often it is looked at how a signer stands when nothing happens.
const TELL: Duration = Duration::from_secs(1);

/// What answers requests, once the process is put together.
#[derive(Clone)]
pub(super) struct Answering {
    issuance: Arc<Issuance>,
    store: Arc<dyn Store>,
    /// The name of this process among those that claim.
    claimant: String,
}

impl Answering {
    pub(super) fn new(issuance: &Arc<Issuance>, store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        Ok(Self { issuance: Arc::clone(issuance), store: Arc::clone(store), claimant: claimant()? })
    }
}

/// What signers are started with.
pub(super) struct Signers {
    attempts: IntCounterVec,
    seconds: Histogram,
    clock: SharedClock,
    answering: watch::Receiver<Option<Answering>>,
}

impl Signers {
    /// Registers the metrics. Requests wait until `answering` says who answers them.
    pub(super) fn new(
        metrics: &Metrics,
        clock: SharedClock,
        answering: watch::Receiver<Option<Answering>>,
    ) -> Result<Self, MetricError> {
        let attempts = metrics.counters(
            "signet_ca_pod_certificate_attempts_total",
            "Attempts to answer PodCertificateRequests by what came of them, of all clusters.",
            &["result"],
        )?;
        for attempt in Attempt::ALL {
            attempts.with_label_values(&[attempt.label()]).reset();
        }
        let seconds = metrics.seconds(
            "signet_ca_pod_certificate_answer_duration_seconds",
            "PodCertificateRequests, from hearing of them until their certificate or their refusal is in the status.",
        )?;
        Ok(Self { attempts, seconds, clock, answering })
    }
}

/// The signer of a cluster.
pub(super) struct Signer {
    rules: SignerRules,
    index: Arc<PodCertificates>,
    /// They end with it.
    _tasks: Tasks,
}

impl Signer {
    /// Begins to answer the requests of a cluster, if that is configured; one that is at it already goes on.
    pub(super) fn start(
        cluster: &Cluster,
        server: Option<&Arc<Server>>,
        before: Option<&Arc<Running>>,
        around: &Surroundings,
    ) -> Option<Arc<Self>> {
        let (configured, server) = (cluster.pod_certificates.as_ref()?, server?);
        let rules = SignerRules {
            cluster: cluster.id.clone(),
            trust_domain: cluster.trust_domain.clone(),
            signer: configured.signer.clone(),
            at_once: configured.at_once,
        };
        let is_same_server =
            |before: &&Arc<Running>| before.server.as_ref().is_some_and(|same| Arc::ptr_eq(same, server));
        let same = before.filter(is_same_server).and_then(|before| before.signer.as_ref());
        if let Some(same) = same.filter(|same| same.rules == rules) {
            return Some(Arc::clone(same));
        }
        let Signers { attempts, seconds, clock, answering } = &around.signers;
        let (attempts, seconds) = (attempts.clone(), seconds.clone());
        let on_attempt = move |attempt: Attempt, took: Duration| {
            attempts.with_label_values(&[attempt.label()]).inc();
            if matches!(attempt, Attempt::Issued | Attempt::Denied) {
                seconds.observe(took.as_secs_f64());
            }
        };
        if let Some(problem) = cluster.pods_without_roots() {
            tracing::warn!(cluster = cluster.id, "{problem}");
        }
        let index = PodCertificates::new(rules.clone(), Arc::clone(clock), Box::new(on_attempt));
        let tasks = Tasks::default();
        let name = format!("pod certificates of {}", cluster.id);
        let condition = around.readiness.passing(name.as_str());
        let work = answer(Arc::clone(&index), Arc::clone(server), answering.clone(), rules.clone(), condition);
        tasks.spawn(&around.spawner, &name, work);
        Some(Arc::new(Self { rules, index, _tasks: tasks }))
    }

    /// Which signer it is.
    pub(super) fn name(&self) -> &str {
        &self.rules.signer
    }

    /// How it stands.
    pub(super) fn health(&self) -> SignerHealth {
        self.index.health()
    }
}

async fn answer(
    index: Arc<PodCertificates>,
    server: Arc<Server>,
    mut answering: watch::Receiver<Option<Answering>>,
    rules: SignerRules,
    condition: Condition,
) {
    let ready = answering.wait_for(Option::is_some).await;
    let Some(Answering { issuance, store, claimant }) = ready.ok().and_then(|ready| ready.clone()) else {
        return;
    };
    let (claims, record) = (Arc::clone(&store) as _, store as _);
    let issuer = PodCertificateAnswers { cluster: rules.cluster.clone(), claimant, issuance, claims, record };
    tokio::join!(index.answer(&server.api, &issuer), tell(&index, &rules, &condition));
}

/// Says how the signer stands.
async fn tell(index: &PodCertificates, rules: &SignerRules, condition: &Condition) {
    let mut before = None;
    loop {
        let SignerHealth { version, open, heard_ago, problem, .. } = index.health();
        let version = version.unwrap_or_else(|| "no version known".to_owned());
        let counted = format!("{} ({version}): {open} requests without an answer", rules.signer);
        match &problem {
            Some(problem) => condition.degraded(format!("{counted}; {problem}")),
            None if heard_ago.is_none() => condition.degraded(format!("{counted}; they are not listed yet")),
            None => condition.ready(counted),
        }
        if before.as_ref() != Some(&problem) {
            match &problem {
                Some(problem) => {
                    tracing::warn!(
                        cluster = rules.cluster,
                        signer = rules.signer,
                        problem,
                        "pods may get no certificates"
                    );
                }
                None => tracing::info!(cluster = rules.cluster, signer = rules.signer, "pods' certificates are signed"),
            }
        }
        before = Some(problem);
        let _either = tokio::time::timeout(TELL, index.changed()).await;
    }
}
