//! Who a caller is that shows a client certificate and no token: whoever the record says it was issued to. Storage decides, at
//! the moment of the request: what this process remembers may be behind it.

mod up_to_date;

use std::sync::Arc;
use std::time::Duration;

use signet_core::audit::{AuditEvent, AuditQuery};
use signet_core::caller::Caller;
use signet_core::certificate::Serial;
use signet_core::credential_on_record::{Demands, Shown};
use signet_core::seams::authenticator::{AuthenticationError, Denial, Outage};
use signet_core::seams::store::{AuditStore, AuthorityJournal, StoreError};
use time::OffsetDateTime;
use tokio::sync::Notify;

use self::up_to_date::UpToDate;
use crate::client_identity::{ClientFault, ClientIdentity, ClientRefused, ClientVerifier};
use crate::clusters::{CertificateRules, Served};
use crate::signing_state::{SigningState, StateReader};

/// How long looking into the record may take, and how long waiting for the authorities as the journal has them.
const DEADLINE: Duration = Duration::from_secs(3);

/// Judges callers who show a client certificate and no token.
pub struct CertificateCallers {
    record: Arc<dyn AuditStore>,
    clients: Arc<ClientVerifier>,
    authorities: UpToDate,
}

impl CertificateCallers {
    /// Judges by this record and this journal. `clients` verifies chains with what `state` says, and `wake_up` has that read
    /// from the journal again.
    #[must_use]
    pub fn new(
        record: Arc<dyn AuditStore>,
        journal: Arc<dyn AuthorityJournal>,
        clients: Arc<ClientVerifier>,
        state: StateReader,
        wake_up: Arc<Notify>,
    ) -> Self {
        Self { record, clients, authorities: UpToDate::new(journal, state, wake_up) }
    }

    /// Tells who a certificate proves that was verified in the handshake of the connection, for a cluster.
    ///
    /// # Errors
    /// [`AuthenticationError`].
    pub async fn authenticate(
        &self,
        identity: &ClientIdentity,
        cluster: &Served,
        now: OffsetDateTime,
    ) -> Result<Caller, AuthenticationError> {
        let shown = identity.shown().map_err(|refused| denial(&refused))?;
        let judged = async {
            let rules = cluster.certificates.as_ref().ok_or_else(|| not_accepted(cluster))?;
            self.judge(identity, &shown, (cluster, rules), now).await
        };
        judged.await.map_err(|error| error.claiming(shown.claimed(&cluster.id)))
    }

    async fn judge(
        &self,
        identity: &ClientIdentity,
        shown: &Shown,
        (cluster, rules): (&Served, &CertificateRules),
        now: OffsetDateTime,
    ) -> Result<Caller, AuthenticationError> {
        let event = self.recorded(&shown.serial).await?;
        // After the record: what is revoked by now counts.
        let state = self.state().await?;
        let demands = Demands { cluster: &cluster.id, last_token_within: rules.last_token_within };
        let caller = shown.proves(event.as_ref(), &state.authorities, demands, now)?;
        // The connection is older than this request. The state is that one, or one that came after it.
        self.clients.check_again(identity, now).map_err(|refused| denial(&refused))?;
        if let Some(live) = &rules.live {
            live.check(&caller, now)?;
        }
        Ok(caller)
    }

    /// What is on record under this serial number, found by the index that keeps serial numbers unique.
    async fn recorded(&self, serial: &str) -> Result<Option<AuditEvent>, AuthenticationError> {
        let unavailable = |detail: String| AuthenticationError::unavailable(Outage::RecordUnavailable, detail);
        // A serial that none of ours can have is on record as little as one that none has.
        let Some(serial) = Serial::parse(serial) else { return Ok(None) };
        let query = AuditQuery::newest(1).map_err(|error| unavailable(error.to_string()))?;
        let query = AuditQuery { serial: Some(serial), ..query };
        let page = match tokio::time::timeout(DEADLINE, self.record.query(&query)).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => return Err(unavailable(error.to_string())),
            Err(_) => return Err(unavailable(format!("storage has not answered within {} s", DEADLINE.as_secs()))),
        };
        if let Some(unread) = page.unread.first() {
            let (sequence, problem) = (unread.sequence, unread.problem);
            let detail =
                format!("the serial {serial} is on record, but its event {sequence} cannot be read: {problem}");
            return Err(AuthenticationError::denied(Denial::CertificateNotOnRecord, detail));
        }
        Ok(page.items.into_iter().next().map(|stored| stored.event))
    }

    /// What this process works with, once it is what the journal says.
    async fn state(&self) -> Result<Arc<SigningState>, AuthenticationError> {
        let unavailable = |reason, detail: String| AuthenticationError::unavailable(reason, detail);
        match tokio::time::timeout(DEADLINE, self.authorities.state()).await {
            Ok(result) => result.map_err(|error: StoreError| unavailable(Outage::RecordUnavailable, error.to_string())),
            Err(_) => {
                let detail = "a change of the authorities has not reached this replica in time; see `signet-ca status`";
                Err(unavailable(Outage::AuthoritiesBehind, detail.to_owned()))
            }
        }
    }
}

fn not_accepted(cluster: &Served) -> AuthenticationError {
    let id = &cluster.id;
    let detail = format!(
        "the request has no `authorization: Bearer <token>` header, and a client certificate does not stand in for one: the \
         cluster {id:?} has no client_certificates section"
    );
    AuthenticationError::denied(Denial::CertificateNotAccepted, detail)
}

/// Why a certificate proves nobody any more that has proved somebody when its connection began.
fn denial(refused: &ClientRefused) -> AuthenticationError {
    let reason = match refused {
        ClientRefused::NotReady => {
            return AuthenticationError::unavailable(Outage::AuthoritiesBehind, refused.to_string());
        }
        ClientRefused::Revoked => Denial::CertificateRevoked,
        ClientRefused::Compromised | ClientRefused::NoRoot => Denial::CertificateAuthorityTainted,
        ClientRefused::Chain(error) => match ClientFault::of(error) {
            Some(ClientFault::Expired) => Denial::CertificateExpired,
            Some(ClientFault::UnknownIssuer) => Denial::CertificateAuthorityGone,
            _ => Denial::CertificateNotValid,
        },
        _ => Denial::CertificateNotValid,
    };
    AuthenticationError::denied(reason, refused.to_string())
}

#[cfg(test)]
#[path = "certificate_caller_tests.rs"]
mod tests;
