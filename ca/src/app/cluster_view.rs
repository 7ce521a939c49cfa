//! What operators are told of clusters and of the configuration.

use std::sync::Arc;
use std::time::Duration;

use signet_core::clock::SharedClock;
use signet_core::identity::WorkloadId;
use signet_core::seams::explanation::{Asker, Check, Explained};
use signet_core::time_math;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::cluster_set::{ClusterSet, Running};
use super::tokens;
use crate::cluster_status::{
    ClusterStatus, ClusterView, ConfigurationStatus, KeysStatus, PodsStatus, ReviewStatus, SignerStatus,
};

/// Tells of what is served now.
pub(super) struct View {
    pub(super) clusters: Arc<ClusterSet>,
    pub(super) configuration: watch::Receiver<ConfigurationStatus>,
    pub(super) clock: SharedClock,
}

impl ClusterView for View {
    fn clusters(&self) -> Vec<ClusterStatus> {
        let now = self.clock.now();
        self.clusters.running().iter().map(|cluster| status(cluster, now)).collect()
    }

    fn configuration(&self) -> ConfigurationStatus {
        self.configuration.borrow().clone()
    }

    fn explain(&self, cluster: Option<&str>, asker: &Asker, asked: &str) -> Option<(String, Vec<Explained>)> {
        let running = self.clusters.running();
        let named = |cluster: &&Arc<Running>, name: &str| {
            let config = &cluster.cluster;
            config.id == name || config.aliases.iter().any(|alias| alias == name)
        };
        let found = match cluster {
            None | Some("") => running.first(),
            Some(name) => running.iter().find(|cluster| named(cluster, name)),
        }?;
        Some((found.cluster.id.clone(), explain(found, asker, asked)))
    }
}

fn status(running: &Running, now: OffsetDateTime) -> ClusterStatus {
    let Running { cluster, server, pods, believer, signer, .. } = running;
    let ago = |ago: Duration| time_math::before(now, ago);
    let (published, read) = (believer.published(), believer.read());
    ClusterStatus {
        id: cluster.id.clone(),
        aliases: cluster.aliases.clone(),
        trust_domain: cluster.trust_domain.to_string(),
        method: tokens::method(&cluster.tokens),
        api_server: server.as_ref().map(|server| server.shown()),
        credentials_problem: server.as_ref().and_then(|server| server.problem()),
        keys: KeysStatus {
            usable: published.as_ref().map(|published| published.keys),
            left_out: published.map_or(0, |published| published.left_out.len()),
            read_at: read.at.map(|at| ago(at.elapsed())),
            problem: read.problem,
        },
        review: believer.review().map(|last| ReviewStatus {
            at: last.at.map(|at| ago(at.elapsed())),
            result: last.result,
            problem: last.problem,
        }),
        pods: pods.as_ref().map(|pods| {
            let health = pods.health();
            PodsStatus {
                pods: health.pods,
                nodes: health.nodes,
                accounts: health.accounts,
                unknown: health.unknown,
                heard_at: health.heard_ago.map(ago),
                problem: health.problem,
            }
        }),
        signer: signer.as_ref().map(|signer| {
            let health = signer.health();
            SignerStatus {
                name: signer.name().to_owned(),
                version: health.version,
                open: health.open,
                issued: health.issued,
                denied: health.denied,
                heard_at: health.heard_ago.map(ago),
                problem: health.problem.or_else(|| cluster.pods_without_roots()),
            }
        }),
    }
}

/// The checks that need no pods, and then those that do.
fn explain(running: &Running, asker: &Asker, asked: &str) -> Vec<Explained> {
    let Running { cluster, served, .. } = running;
    let mut all = Vec::new();
    all.push(match &served.authorizer {
        Some(_) => Explained::yes(Check::Configured, "the cluster has trusted_node_accounts"),
        None => Explained::no(
            Check::Configured,
            "the cluster has no trusted_node_accounts",
            "name the service account of its node agents there, as namespace/name",
        ),
    });
    let parsed = WorkloadId::parse(asked).ok().filter(|id| id.to_string() == asked);
    let shown: String = asked.chars().take(200).collect();
    let form = "write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT, without anything more";
    all.push(match &parsed {
        Some(id) => {
            let account = format!("{}/{}", id.namespace(), id.service_account());
            Explained::yes(Check::AskedIdentity, format!("the service account {account}"))
        }
        None => Explained::no(Check::AskedIdentity, format!("{shown:?} is no SPIFFE ID of a workload"), form),
    });
    let later = |check| Explained::unknown(check, "not looked at, since a check before it is not passed");
    let ours = &cluster.trust_domain;
    all.push(match &parsed {
        None => later(Check::TrustDomain),
        Some(id) if id.trust_domain() == ours => {
            Explained::yes(Check::TrustDomain, format!("{ours}, as that of the cluster"))
        }
        Some(id) => Explained::no(
            Check::TrustDomain,
            format!("{} is not {ours}, the cluster's", id.trust_domain()),
            "set the trust domain of the mesh (meshConfig.trustDomain) to that of the cluster",
        ),
    });
    match (&served.authorizer, &parsed) {
        (Some(authorizer), Some(id)) => all.extend(authorizer.explain(asker, id)),
        _ => all.extend(Check::ALL.into_iter().skip(all.len()).map(later)),
    }
    all
}
