//! The operators' service on the Unix socket.

use std::sync::Arc;

use signet_core::renewal::half_life;
use signet_core::rotation::Authorities;
use signet_proto::admin::v1alpha1::admin_server::Admin;
use signet_proto::admin::v1alpha1::{
    Authority, Bundle, Check, Counters, ServingCertificate, StatusRequest, StatusResponse,
};
use signet_runtime::readiness::Readiness;
use tonic::{Request, Response, Status};

use super::peer;
use crate::metrics::CaMetrics;
use crate::serving::ServingReader;
use crate::state::{self, StateReader};

/// Answers from what the process holds in memory.
pub struct AdminService {
    /// The trust domain that this CA certifies.
    pub trust_domain: String,
    /// When the process started, in seconds since 1970.
    pub started_at: i64,
    /// The user id of this process.
    pub own_uid: u32,
    /// What signs now.
    pub state: StateReader,
    /// The serving certificate.
    pub serving: ServingReader,
    /// Readiness.
    pub readiness: Readiness,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        peer::check(&request, self.own_uid)?;
        let readiness = self.readiness.snapshot();
        let checks = readiness.checks.into_iter().map(|check| Check {
            name: check.name,
            state: check.state.to_string(),
            detail: check.detail,
        });
        let state = state::current(&self.state);
        let (issued, refused, failed) = self.metrics.totals();
        Ok(Response::new(StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.trust_domain.clone(),
            started_at: self.started_at,
            ready: readiness.ready,
            checks: checks.collect(),
            authorities: state.as_ref().map(|state| authorities(&state.authorities)).unwrap_or_default(),
            bundle: state.as_ref().map(|state| Bundle {
                sequence: state.bundle.sequence(),
                roots: u32::try_from(state.bundle.roots().len()).unwrap_or(u32::MAX),
            }),
            serving: self.serving.borrow().as_ref().map(|serving| ServingCertificate {
                serial: serving.serial.to_string(),
                not_after: serving.not_after.unix_timestamp(),
                renews_at: serving.renews_at().unix_timestamp(),
                names: serving.names.clone(),
            }),
            counters: Some(Counters { issued, refused, failed }),
        }))
    }
}

fn authorities(authorities: &Authorities) -> Vec<Authority> {
    let mut rows = Vec::new();
    for root in &authorities.roots {
        rows.push(Authority {
            id: root.id.to_string(),
            kind: "root".to_owned(),
            state: root.state.as_str().to_owned(),
            not_before: root.not_before.unix_timestamp(),
            not_after: root.not_after.unix_timestamp(),
            renews_at: 0,
        });
        for (index, issuing) in root.issuing.iter().enumerate() {
            let newest = index + 1 == root.issuing.len();
            rows.push(Authority {
                id: issuing.id.to_string(),
                kind: "issuing".to_owned(),
                state: if newest { root.state.as_str() } else { "old" }.to_owned(),
                not_before: issuing.not_before.unix_timestamp(),
                not_after: issuing.not_after.unix_timestamp(),
                renews_at: half_life(issuing.not_before, issuing.not_after).unix_timestamp(),
            });
        }
    }
    rows
}
