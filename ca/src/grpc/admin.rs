//! The operators' service, the same on the Unix socket and over TLS: from wire to [`Operate`] and back.

pub(super) mod access;
mod bundle;
mod clusters;
mod messages;
pub mod operate;
mod progress;
mod select;
#[cfg(test)]
mod test_stage;
pub(crate) mod values;

use std::sync::Arc;
use std::time::Duration;

use signet_core::authority::AuthorityId;
use signet_core::certificate::Serial;
use signet_core::clock::SharedClock;
use signet_core::holder::{HolderQuery, MAX_HOLDERS};
use signet_core::revocation::RevocationReason;
use signet_core::rotation::Command;
use signet_proto::admin::v1alpha1 as wire;
use signet_proto::admin::v1alpha1::admin_server::{Admin, AdminServer};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Readiness;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use access::{Calls, admitted};
use operate::Operate;

pub use access::{Access, Guarded};

use crate::cluster_status::ClusterView;
use crate::journal_catch_up::CatchUp;
use crate::limits::intake::{CallLimits, Intake};
use crate::metrics::CaMetrics;
use crate::operations::{OperationError, Operator, View};
use crate::rotator::StepError;
use crate::serving_certificate::ServingReader;
use crate::signing_state::{self, StateReader};
use crate::storage_age::StorageAge;

/// How long an answer may take; storage that hangs must not hold an operator for ever.
const DEADLINE: Duration = Duration::from_secs(25);

/// Largest request: every field is short text.
const MESSAGE: usize = 16 * 1024;

/// Longest reason, in bytes: it goes into the record as it is.
const REASON: usize = 500;

/// Holders on a page when no number was asked for.
const PAGE: u32 = 100;

/// Answers operators: what the process does from memory, what the cluster does from storage.
pub struct AdminService {
    /// The trust domain that this CA certifies.
    pub trust_domain: String,
    /// Where the storage is, as a URL without secrets.
    pub storage: String,
    /// When the process started.
    pub started_at: OffsetDateTime,
    /// What signs now.
    pub state: StateReader,
    /// The serving certificate.
    pub serving: ServingReader,
    /// Readiness.
    pub readiness: Readiness,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
    /// What changes things.
    pub operations: Arc<dyn Operate>,
    /// The clusters that are served.
    pub clusters: Arc<dyn ClusterView>,
    /// What changes are waited for with.
    pub catch_up: CatchUp,
    /// What agents have shown that storage does not have.
    pub storage_age: Arc<StorageAge>,
    /// The time.
    pub clock: SharedClock,
}

/// The service behind its guard, ready for a router; clones serve further edges.
pub type GuardedAdmin = Guarded<Intake<AdminServer<AdminService>>>;

/// The calls of the service, as the wire names them.
pub(super) const CALLS: [&str; 15] = [
    "Status",
    "GetRotation",
    "PrepareAuthority",
    "RotateAuthority",
    "AdoptAuthority",
    "ActivateAuthority",
    "RollbackAuthority",
    "TaintAuthority",
    "RevokeAuthority",
    "RetireAuthority",
    "ResumeAuthority",
    "RevokeCertificate",
    "ListHolders",
    "Explain",
    "GetBundle",
];

/// Those of them that change nothing.
const READS: [&str; 5] = ["Status", "GetRotation", "ListHolders", "Explain", "GetBundle"];

impl AdminService {
    /// Puts the guard before the service. There is no other way in: the service answers nobody whom no guard has seen.
    #[must_use]
    pub fn guarded(self, limits: CallLimits, access: impl Into<Arc<Access>>) -> GuardedAdmin {
        let server = AdminServer::new(self).max_decoding_message_size(MESSAGE);
        Guarded::new(Intake::new(server, limits), access.into(), Calls { all: &CALLS, reads: &READS })
    }

    async fn view(&self) -> Result<View, Status> {
        within(self.operations.view()).await
    }

    async fn change(
        &self,
        operator: &Operator,
        command: Command,
        reason: &str,
    ) -> Result<Response<wire::Rotation>, Status> {
        if command.is_forced() && reason.trim().is_empty() {
            return Err(Status::invalid_argument("force needs a reason, which is kept in the record"));
        }
        if reason.len() > REASON {
            return Err(Status::invalid_argument(format!("the reason is longer than {REASON} bytes")));
        }
        let (done, view) = within(self.operations.command(operator, command, reason.trim())).await?;
        self.catch_up.wait().await;
        Ok(Response::new(messages::rotation(&view, Some(&done), self.clock.now())))
    }

    /// A change of one authority of this kind, found by its id or the beginning of it.
    async fn change_one(
        &self,
        kind: Kind,
        request: Request<wire::ChangeAuthorityRequest>,
        command: impl FnOnce(AuthorityId, bool) -> Command + Send,
    ) -> Result<Response<wire::Rotation>, Status> {
        let (operator, message) = admitted(request)?;
        let authorities = self.view().await?.authorities;
        let id = select::find(&authorities, &message.id)?;
        if kind == Kind::Root && authorities.root(&id).is_none() {
            let text = format!(
                "{id} is an issuing CA, and this is for roots: replace it with `authority rotate --issuing`, or put it \
                 on the revocation list of its root with `authority revoke`"
            );
            return Err(Status::invalid_argument(text));
        }
        self.change(&operator, command(id, message.force), &message.reason).await
    }
}

/// Which authorities a call changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Root,
    Any,
}

async fn within<T>(answer: impl Future<Output = Result<T, OperationError>>) -> Result<T, Status> {
    let late = || Status::unavailable("storage or keys did not answer in time; ask again to see what was done");
    tokio::time::timeout(DEADLINE, answer).await.map_err(|_| late())?.map_err(|error| refusal(&error))
}

/// The one map from errors of operations to gRPC status codes.
fn refusal(error: &OperationError) -> Status {
    let text = error_chain(error);
    match error {
        OperationError::Refused(_) | OperationError::Step(StepError::Format(_)) => Status::failed_precondition(text),
        OperationError::Unknown(_) => Status::not_found(text),
        OperationError::Invalid(_) => Status::invalid_argument(text),
        OperationError::Conflict => Status::aborted(text),
        _ => Status::unavailable(text),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, request: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        let _operator = admitted(request)?;
        let readiness = self.readiness.snapshot();
        let state = signing_state::current(&self.state);
        let (issued, refused, failed) = self.metrics.totals();
        let rows = |authorities| messages::authorities(authorities, &messages::Use::default(), self.clock.now());
        Ok(Response::new(wire::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.trust_domain.clone(),
            started_at: Some(values::time(self.started_at)),
            ready: readiness.ready,
            checks: readiness.checks.into_iter().map(values::check).collect(),
            authorities: state.as_ref().map(|state| rows(&state.authorities)).unwrap_or_default(),
            bundle: state.as_ref().map(|state| wire::Bundle {
                sequence: state.bundle().sequence(),
                roots: messages::count(state.bundle().roots().len()),
            }),
            serving: self.serving.borrow().as_ref().map(|serving| wire::ServingCertificate {
                serial: serving.serial.to_string(),
                not_after: Some(values::time(serving.not_after)),
                renews_at: Some(values::time(serving.renews_at())),
                names: serving.names.clone(),
                root: serving.root().to_string(),
            }),
            counters: Some(wire::Counters { issued, refused, failed }),
            turned_away: self.metrics.turned_away.met().into_iter().map(messages::turned_away).collect(),
            storage: self.storage.clone(),
            clusters: self.clusters.clusters().into_iter().map(clusters::cluster).collect(),
            configuration: Some(clusters::configuration(self.clusters.configuration())),
        }))
    }

    async fn get_rotation(
        &self,
        request: Request<wire::GetRotationRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        let _operator = admitted(request)?;
        let view = self.view().await?;
        Ok(Response::new(messages::rotation(&view, None, self.clock.now())))
    }

    async fn prepare_authority(
        &self,
        request: Request<wire::PrepareAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        let (operator, message) = admitted(request)?;
        self.change(&operator, Command::Prepare, &message.reason).await
    }

    async fn rotate_authority(
        &self,
        request: Request<wire::RotateAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        let (operator, message) = admitted(request)?;
        let command = if message.issuing { Command::RenewIssuing } else { Command::Rotate };
        self.change(&operator, command, &message.reason).await
    }

    async fn adopt_authority(
        &self,
        request: Request<wire::AdoptAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        let (operator, message) = admitted(request)?;
        self.change(&operator, Command::Adopt, &message.reason).await
    }

    async fn activate_authority(
        &self,
        request: Request<wire::ChangeAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        self.change_one(Kind::Root, request, |id, force| Command::Activate { id, force }).await
    }

    async fn rollback_authority(
        &self,
        request: Request<wire::RollbackAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        let (operator, message) = admitted(request)?;
        self.change(&operator, Command::Rollback, &message.reason).await
    }

    async fn taint_authority(
        &self,
        request: Request<wire::ChangeAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        self.change_one(Kind::Any, request, |id, force| Command::Taint { id, force }).await
    }

    async fn revoke_authority(
        &self,
        request: Request<wire::ChangeAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        self.change_one(Kind::Any, request, |id, force| Command::Revoke { id, force }).await
    }

    async fn retire_authority(
        &self,
        request: Request<wire::RetireAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        let one = |message: wire::RetireAuthorityRequest| wire::ChangeAuthorityRequest {
            id: message.id,
            force: false,
            reason: message.reason,
        };
        self.change_one(Kind::Root, request.map(one), |id, _| Command::Retire { id }).await
    }

    async fn resume_authority(
        &self,
        request: Request<wire::ResumeAuthorityRequest>,
    ) -> Result<Response<wire::Rotation>, Status> {
        let (operator, message) = admitted(request)?;
        let shown = self.storage_age.shown().unwrap_or_default();
        self.change(&operator, Command::Resume { shown }, &message.reason).await
    }

    async fn revoke_certificate(
        &self,
        request: Request<wire::RevokeCertificateRequest>,
    ) -> Result<Response<wire::RevokeCertificateResponse>, Status> {
        let (operator, message) = admitted(request)?;
        let wrong = |text: String| Status::invalid_argument(text);
        let serial = Serial::parse(&message.serial).ok_or_else(|| {
            wrong(format!("{:?} is not a serial number of 32 to 40 hexadecimal digits", message.serial))
        })?;
        let reason = match (message.clear, message.reason) {
            (true, _) => RevocationReason::Unspecified,
            (false, None) => return Err(wrong("a certificate is revoked for a reason; give one".to_owned())),
            (false, Some(number)) => values::reason(number)
                .ok_or_else(|| wrong(format!("{number} is not a reason to revoke a workload's certificate for")))?,
        };
        let work = self.operations.revoke_certificate(&operator, serial, reason, message.clear);
        let revoked = within(work).await?;
        self.catch_up.wait().await;
        Ok(Response::new(wire::RevokeCertificateResponse {
            serial: revoked.serial.to_string(),
            spiffe_id: revoked.spiffe_id,
            not_after: Some(values::time(revoked.not_after)),
            revoked: messages::count(revoked.revoked),
            awaited: revoked.awaited,
        }))
    }

    async fn list_holders(
        &self,
        request: Request<wire::ListHoldersRequest>,
    ) -> Result<Response<wire::ListHoldersResponse>, Status> {
        let (_operator, message) = admitted(request)?;
        let bad_page = || {
            Status::invalid_argument(
                "page: none that this service gave; take it from the answer before, as it was given (page_token)",
            )
        };
        let after = Some(message.page_token.as_str()).filter(|token| !token.is_empty());
        let after = after.map(|token| messages::page_after(token).ok_or_else(bad_page)).transpose()?;
        let mut query = HolderQuery {
            now: self.clock.now(),
            behind: None,
            authorities: Vec::new(),
            after,
            limit: if message.limit == 0 { PAGE } else { message.limit.min(MAX_HOLDERS) },
        };
        let mut nobody = false;
        if message.behind || message.cut_off || !message.authority.is_empty() {
            let View { authorities, coverage, .. } = self.view().await?;
            query.behind = message.behind.then_some(match message.behind_sequence {
                0 => authorities.bundle_sequence,
                sequence => sequence,
            });
            if !message.authority.is_empty() {
                query.authorities = select::issuers(&authorities, &coverage, &message.authority)?;
            }
            if message.cut_off {
                let cut_off = authorities.cut_off(&coverage);
                let named = |id: &AuthorityId| message.authority.is_empty() || query.authorities.contains(id);
                query.authorities = cut_off.into_iter().filter(named).collect();
                // No authorities means any of them.
                nobody = query.authorities.is_empty();
            }
        }
        let found = if nobody { Vec::new() } else { within(self.operations.holders(&query)).await? };
        let full = found.len() >= usize::try_from(query.limit).unwrap_or(usize::MAX);
        let mut last = found.last().filter(|_| full);
        if let Some(holder) = last {
            let more = HolderQuery { after: Some(holder.key.clone()), limit: 1, ..query.clone() };
            let more = within(self.operations.holders(&more)).await?;
            last = last.filter(|_| !more.is_empty());
        }
        Ok(Response::new(wire::ListHoldersResponse {
            holders: found.iter().map(messages::holder).collect(),
            next_page_token: last.map(|holder| messages::page_token(&holder.key)).unwrap_or_default(),
            sequence: query.behind.unwrap_or_default(),
        }))
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Result<Response<wire::ExplainResponse>, Status> {
        let (_operator, message) = admitted(request)?;
        clusters::explain(self.clusters.as_ref(), &message).map(Response::new)
    }

    async fn get_bundle(
        &self,
        request: Request<wire::GetBundleRequest>,
    ) -> Result<Response<wire::GetBundleResponse>, Status> {
        let _operator = admitted(request)?;
        bundle::served(&self.state, &self.trust_domain).map(Response::new)
    }
}

#[cfg(test)]
mod tests;
