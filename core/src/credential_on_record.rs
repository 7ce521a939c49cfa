//! Whom a client certificate proves that is shown in the place of a token: whoever the record says it was issued to, or nobody.
//!
//! What a certificate says of itself is not believed, since whoever has the key of a CA makes any. It has to be one that is
//! on record, down to its key; and what is on record of its holder is what is proved.

use std::time::Duration;

use time::OffsetDateTime;

use crate::audit::{Attributed, AuditEvent, Certified, EventKind, Outcome};
use crate::caller::{AuthMethod, BoundNode, BoundObject, Caller, Claimed, Credential, ShownCertificate};
use crate::clock::rfc3339;
use crate::identity::{SpiffeId, WorkloadId};
use crate::rotation::{Authorities, Standing};
use crate::seams::authenticator::{AuthenticationError, Denial};
use crate::time_math;

/// How far the last token may lie in the future: so much may clocks of replicas differ.
const CLOCKS: Duration = Duration::from_secs(300);

/// What matters of a certificate that a client has shown in its handshake, whose key it has proved to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The SPIFFE ID in it.
    pub spiffe_id: SpiffeId,
    /// Serial number, as records have it.
    pub serial: String,
    /// SHA-256 of its key, as records have it.
    pub key_hash: String,
    /// The end of its validity.
    pub not_after: OffsetDateTime,
    /// The key identifier of its issuer, hexadecimal.
    pub issuer_key_id: String,
}

/// What a cluster demands of such certificates.
#[derive(Debug, Clone, Copy)]
pub struct Demands<'a> {
    /// The id of the cluster whose workloads they are.
    pub cluster: &'a str,
    /// How long ago the last token of its holder may be.
    pub last_token_within: Duration,
}

impl Shown {
    /// What it says of itself, for records of what is refused.
    #[must_use]
    pub fn claimed(&self, cluster: &str) -> Claimed {
        Claimed {
            cluster: cluster.to_owned(),
            identity: WorkloadId::parse(self.spiffe_id.as_str()).ok(),
            certificate: Some(self.serial.clone()),
            ..Claimed::default()
        }
    }

    /// The caller that it proves at the time `now`, by the event that is on record under its serial number and by the
    /// authorities as the journal has them.
    ///
    /// # Errors
    /// [`AuthenticationError::Denied`].
    pub fn proves(
        &self,
        event: Option<&AuditEvent>,
        authorities: &Authorities,
        demands: Demands<'_>,
        now: OffsetDateTime,
    ) -> Result<Caller, AuthenticationError> {
        let (event, what) = self.on_record(event)?;
        self.check_authority(what, authorities, now)?;
        let last_token = check_last_token(event, demands.last_token_within, now)?;
        let who = &event.who;
        let cluster = who.cluster.as_deref().unwrap_or_default();
        if cluster != demands.cluster {
            let detail = format!("it was issued to a workload of {cluster:?}, the request names {:?}", demands.cluster);
            return Err(AuthenticationError::denied(Denial::CertificateOfOtherCluster, detail));
        }
        let not_said = |what| not_on_record(format!("its record does not say {what}"));
        let spiffe_id = who.spiffe_id.as_deref().unwrap_or_default();
        let identity = WorkloadId::parse(spiffe_id).map_err(|_| not_said("which workload it is of"))?;
        check_own(&identity, who)?;
        let uid = who.service_account_uid.clone().ok_or_else(|| not_said("the UID of its service account"))?;
        let pod = who.pod.clone().zip(who.pod_uid.clone()).map(|(name, uid)| BoundObject { name, uid });
        let node = who.node.clone().map(|name| BoundNode { name, uid: who.node_uid.clone() });
        Ok(Caller {
            identity,
            service_account_uid: uid,
            pod,
            node,
            cluster: cluster.to_owned(),
            method: AuthMethod::ClientCertificate,
            credential: Credential {
                token_id: who.token_id.clone(),
                certificate: Some(ShownCertificate { serial: self.serial.clone(), last_token }),
            },
            made_at: None,
            until: Some(self.not_after),
        })
    }

    /// The event, when it says that exactly this certificate was issued to a workload.
    fn on_record<'e>(
        &self,
        event: Option<&'e AuditEvent>,
    ) -> Result<(&'e AuditEvent, &'e Certified), AuthenticationError> {
        let serial = &self.serial;
        let event =
            event.ok_or_else(|| not_on_record(format!("nothing with the serial {serial} is on record as issued")))?;
        let what = event.what.as_ref().filter(|what| what.serial == *serial);
        let is_issued = (event.kind, event.outcome) == (EventKind::Certificate, Outcome::Issued);
        let what = what.filter(|_| is_issued).ok_or_else(|| {
            not_on_record(format!("the serial {serial} is on record, but not as issued to a workload"))
        })?;
        let differs = if what.key_hash != self.key_hash {
            "with another key"
        } else if event.who.spiffe_id.as_deref() != Some(self.spiffe_id.as_str()) {
            "for another SPIFFE ID"
        } else if what.not_after != self.not_after.unix_timestamp() {
            "with another end"
        } else {
            return Ok((event, what));
        };
        Err(not_on_record(format!("the serial {serial} is on record {differs}; somebody may have the key of a CA")))
    }

    fn check_authority(
        &self,
        what: &Certified,
        authorities: &Authorities,
        now: OffsetDateTime,
    ) -> Result<(), AuthenticationError> {
        let authority = what.authority.as_str();
        let denied = |reason, what: &str| Err(AuthenticationError::denied(reason, format!("{}: {what}", self.serial)));
        let issuing = authorities.roots.iter().flat_map(|root| &root.issuing).find(|one| one.id.as_str() == authority);
        match authorities.standing(authority) {
            Standing::Sound => {}
            Standing::Compromised => {
                let detail = format!("its issuing CA {authority}, or the root above it, is compromised");
                return denied(Denial::CertificateAuthorityTainted, &detail);
            }
            Standing::Gone => {
                return denied(
                    Denial::CertificateAuthorityGone,
                    &format!("its issuing CA {authority} is not in use any more"),
                );
            }
        }
        if let Some(issuing) = issuing.filter(|issuing| issuing.key_id() != self.issuer_key_id) {
            let (serial, id) = (&self.serial, &issuing.id);
            return Err(not_on_record(format!(
                "the serial {serial} is on record as signed by {id}, and this one is not; somebody may have the key of a CA"
            )));
        }
        if issuing.is_some_and(|issuing| authorities.revocations.find(&self.serial, &issuing.id).is_some()) {
            return denied(Denial::CertificateRevoked, "it is revoked");
        }
        if now >= self.not_after {
            return denied(Denial::CertificateExpired, &format!("it ended at {}", rfc3339(self.not_after)));
        }
        Ok(())
    }
}

/// When a token was shown for the last time, if that is not too long ago.
fn check_last_token(
    event: &AuditEvent,
    within: Duration,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, AuthenticationError> {
    let denied = |detail: String| Err(AuthenticationError::denied(Denial::TokenTooLongAgo, detail));
    let Some(last) = event.last_token() else {
        return denied("its record does not say when its holder has shown a token".to_owned());
    };
    if now >= time_math::after(last, within) {
        return denied(format!(
            "its holder has shown no token since {}, which is longer ago than client_certificates.last_token_within ({} s) \
             allows; give it a new token",
            rfc3339(last),
            within.as_secs()
        ));
    }
    // Made while a clock was ahead: nobody can say how long ago that was.
    if last > time_math::after(now, CLOCKS) {
        return denied(format!(
            "its holder has shown its last token at {}, which has not come yet: a clock was wrong; give it a new token",
            rfc3339(last)
        ));
    }
    Ok(last)
}

/// What a node agent got for a workload of its node is the workload's; only while that runs there may it have another one.
fn check_own(identity: &WorkloadId, who: &Attributed) -> Result<(), AuthenticationError> {
    let (namespace, account) = (who.namespace.as_deref(), who.service_account.as_deref());
    if (namespace, account) == (Some(identity.namespace()), Some(identity.service_account())) {
        return Ok(());
    }
    let agent = format!("{}/{}", namespace.unwrap_or("-"), account.unwrap_or("-"));
    let detail = format!("the node agent {agent} has got it for {identity}; it has to show the token of its own pod");
    Err(AuthenticationError::denied(Denial::CertificateOfNodeAgent, detail))
}

fn not_on_record(detail: String) -> AuthenticationError {
    AuthenticationError::denied(Denial::CertificateNotOnRecord, detail)
}

#[cfg(test)]
#[path = "credential_on_record_tests.rs"]
mod tests;
