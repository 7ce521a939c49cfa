//! Revoking certificates: entries for the lists of the authorities that issued them.

use signet_core::audit::{Attributed, AuditQuery, Certified, Outcome, QueryError, UnreadEvent, Unreadable};
use signet_core::certificate::Serial;
use signet_core::clock::rfc3339;
use signet_core::revocation::{RevocationReason, Revoked};
use signet_core::rotation::{Authorities, Step, lists_possible};
use signet_core::source::RevokedBy;
use signet_core::unknown_fields::Unknown;
use time::OffsetDateTime;

use super::{OperationError, Operations, Operator, RACES, attributed, ordered_by};
use crate::rotator::{Observation, Order, RevocationChange, StepError};

/// The command as records name it.
const REVOKE: &str = "certificate revoke";

/// The most certificates on revocation lists: every proxy holds all of them in memory.
const MAX_REVOKED: usize = 10_000;

/// The most leaves that wait for their backend to revoke them: it is asked for one after the other.
const MAX_AWAITED: usize = 1000;

/// A certificate that was put on, or taken off, a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Which.
    pub serial: Serial,
    /// Whose.
    pub spiffe_id: String,
    /// When it ends by itself.
    pub not_after: OffsetDateTime,
    /// Certificates on lists now, or about to be.
    pub revoked: usize,
    /// Whether it is on a list only when the backend has revoked it, which has not done so yet.
    pub awaited: bool,
}

impl Operations {
    /// Puts a certificate on the revocation list of its issuing CA, or takes it off. A leaf that a backend has signed, that is told
    /// to revoke. That somebody asked is on record, also
    /// when there was nothing to do or it was refused.
    ///
    /// # Errors
    /// [`OperationError`]: unknown, ended, or not to be revoked here.
    pub async fn revoke_certificate(
        &self,
        operator: &Operator,
        serial: Serial,
        reason: RevocationReason,
        clear: bool,
    ) -> Result<RevokedCertificate, OperationError> {
        let result = self.change_list(operator, serial, reason, clear).await;
        if let Err(refused @ (OperationError::Refused(_) | OperationError::Unknown(_))) = &result {
            let text = format!("{serial}: {refused}");
            let event = self.admin_event(operator, REVOKE, &text, Outcome::Refused, attributed(operator));
            self.executor.audit.record(event).await.map_err(StepError::from)?;
        }
        result
    }

    async fn change_list(
        &self,
        operator: &Operator,
        serial: Serial,
        reason: RevocationReason,
        clear: bool,
    ) -> Result<RevokedCertificate, OperationError> {
        if clear && let Some(cleared) = self.clear_authority(operator, serial).await? {
            return Ok(cleared);
        }
        let (spiffe_id, what) = self.issued(serial).await?;
        let ends = OffsetDateTime::from_unix_timestamp(what.not_after).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        for _ in 0..RACES {
            let observation = self.executor.observe().await?;
            let known = observation.authorities.revocations.entries.iter().any(|entry| entry.serial == what.serial);
            let who = Attributed { spiffe_id: Some(spiffe_id.clone()), ..attributed(operator) };
            if known != clear {
                let so = if clear { "it is on no revocation list" } else { "it is on the revocation list already" };
                let text = format!("{serial}: nothing to do: {so}");
                let event = self.admin_event(operator, REVOKE, &text, Outcome::Done, who);
                self.executor.audit.record(event).await.map_err(StepError::from)?;
                let (revoked, awaited) = standing(&observation.authorities, &what.serial);
                return Ok(RevokedCertificate { serial, spiffe_id, not_after: ends, revoked, awaited });
            }
            if clear {
                stays(&observation, &what.serial)?;
            }
            let entry = if clear {
                RevocationChange::Clear(what.serial.clone())
            } else {
                self.entry(&observation, &what, ends, reason).await?
            };
            let text = if clear { "taken off the revocation list" } else { reason.as_str() };
            let text = format!("{serial}: {text}");
            let events = vec![self.admin_event(operator, REVOKE, &text, Outcome::Done, who)];
            let order = Order { entry, events, ..ordered_by(operator) };
            if let Some(next) = self.executor.take(&observation, &Step::WaitUntil(observation.now), order).await? {
                self.wake_up.notify_one();
                let (revoked, awaited) = standing(&next, &what.serial);
                return Ok(RevokedCertificate { serial, spiffe_id, not_after: ends, revoked, awaited });
            }
        }
        Err(OperationError::Conflict)
    }

    /// Takes the certificate of an issuing CA off its root's list; `None` when the serial is of none that is on one.
    async fn clear_authority(
        &self,
        operator: &Operator,
        serial: Serial,
    ) -> Result<Option<RevokedCertificate>, OperationError> {
        for _ in 0..RACES {
            let observation = self.executor.observe().await?;
            let text = serial.to_string();
            let entries = &observation.authorities.revocations.entries;
            let entry = entries
                .iter()
                .find(|entry| entry.serial == text && observation.authorities.root(&entry.issuer).is_some());
            let Some(entry) = entry else { return Ok(None) };
            stays(&observation, &text)?;
            let not_after = OffsetDateTime::from_unix_timestamp(entry.not_after).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let said = format!("{serial}: taken off the revocation list of root {}", entry.issuer);
            let events = vec![self.admin_event(operator, REVOKE, &said, Outcome::Done, attributed(operator))];
            let order = Order { entry: RevocationChange::Clear(text), events, ..ordered_by(operator) };
            if let Some(next) = self.executor.take(&observation, &Step::WaitUntil(observation.now), order).await? {
                self.wake_up.notify_one();
                let revoked = next.revocations.entries.len();
                let spiffe_id = String::new();
                return Ok(Some(RevokedCertificate { serial, spiffe_id, not_after, revoked, awaited: false }));
            }
        }
        Err(OperationError::Conflict)
    }

    async fn entry(
        &self,
        observation: &Observation,
        what: &Certified,
        ends: OffsetDateTime,
        reason: RevocationReason,
    ) -> Result<RevocationChange, OperationError> {
        if ends <= observation.now {
            return Err(OperationError::Refused(format!("certificate {} has ended already", what.serial)));
        }
        let issuer = observation.authorities.roots.iter().flat_map(|root| &root.issuing);
        let issuer = issuer.map(|one| &one.ca).find(|issuing| issuing.id.as_str() == what.authority);
        let gone = || OperationError::Refused(format!("its authority {} is in the bundle no more", what.authority));
        let issuer = issuer.ok_or_else(gone)?;
        let revoked = Revoked {
            serial: what.serial.clone(),
            issuer: issuer.id.clone(),
            reason,
            at: observation.now.unix_timestamp(),
            not_after: what.not_after,
            unknown: Unknown::default(),
        };
        if issuer.key.is_some() {
            lists_possible(&observation.authorities, &observation.seen(), observation.now)?;
            room(&observation.authorities)?;
            return Ok(RevocationChange::Add(revoked));
        }
        // Whether the backend answers or not, and whatever its list is like now: it is told for as long as it takes.
        let kept = match what.serial() {
            Some(serial) => self.leaves.signed_leaf(serial).await?.is_some(),
            None => false,
        };
        may_ask(self.executor.provisioner.upstream.leaves_revoked_by(issuer), what, ends, kept)?;
        room(&observation.authorities)?;
        room_for_leaf(&observation.authorities)?;
        Ok(RevocationChange::AddElsewhere(revoked))
    }

    /// The record of an issued certificate.
    async fn issued(&self, serial: Serial) -> Result<(String, Certified), OperationError> {
        let invalid = |error: QueryError| OperationError::Invalid(error.to_string());
        let query = AuditQuery { serial: Some(serial), ..AuditQuery::newest(1).map_err(invalid)? };
        let found = self.store.query(&query).await?;
        // It is on record, but whose it is and who signed it is not known.
        if let Some(UnreadEvent { sequence, problem, .. }) = found.unread.first() {
            return Err(OperationError::Refused(format!(
                "the certificate with the serial {serial} is on record, but its event {sequence} cannot be read: {problem}; {}",
                match problem {
                    Unreadable::Newer => "give the command to a CA of that version",
                    Unreadable::Damaged => "replace its issuing CA, and revoke that",
                }
            )));
        }
        let found = found.items.into_iter().next().map(|stored| stored.event);
        let unknown = || OperationError::Unknown(format!("no certificate with the serial {serial} is on record"));
        let event = found.filter(|event| event.outcome == Outcome::Issued).ok_or_else(unknown)?;
        Ok((event.who.spiffe_id.unwrap_or_default(), event.what.ok_or_else(unknown)?))
    }
}

/// How many certificates are revoked, and whether the backend has yet to revoke this one.
fn standing(authorities: &Authorities, serial: &str) -> (usize, bool) {
    let revocations = &authorities.revocations;
    (revocations.entries.len(), revocations.awaited().any(|one| one.serial == serial))
}

/// What is revoked elsewhere stays so.
fn stays(observation: &Observation, serial: &str) -> Result<(), OperationError> {
    let mut elsewhere = observation.authorities.revocations.elsewhere.iter();
    match elsewhere.find(|one| one.serial == serial) {
        None => Ok(()),
        Some(one) => Err(OperationError::Refused(format!(
            "certificate {} is revoked by whoever has certified it, too, and nothing takes that back",
            one.name()
        ))),
    }
}

/// Whether the backend that has signed a leaf can be told to revoke it.
fn may_ask(revoked_by: RevokedBy, what: &Certified, ends: OffsetDateTime, is_kept: bool) -> Result<(), OperationError> {
    let (serial, authority, ends) = (&what.serial, &what.authority, rfc3339(ends));
    let why = match revoked_by {
        RevokedBy::Upstream if is_kept => return Ok(()),
        RevokedBy::Upstream => format!(
            "certificate {serial} was signed by a backend, and is not kept here, as those are not that a version before this \
             one has had signed, or another backend: revoke it there, as with `bao write pki/revoke certificate=@leaf.pem`; \
             the list of there travels in the trust bundle"
        ),
        RevokedBy::Nobody => format!(
            "certificate {serial} was signed by cert-manager, which revokes nothing and has no revocation list, so that \
             nobody can revoke it: it is accepted until {ends}. To end that earlier, put another issuer with another root in \
             the place of {authority}, wait until holders have certificates of that, and take the former root out of the \
             trust bundle: `authority taint`, then `authority revoke`, of that root"
        ),
        RevokedBy::Here | RevokedBy::Owner => format!(
            "certificate {serial} was signed by a backend that neither authority.backend nor authority.former names; it is \
             told nothing from here, and no list of it is read. Name it in authority.former, or revoke it there, and have what {authority} has signed renewed: \
             `authority taint`, then `authority revoke`, of its root; by itself it ends at {ends}"
        ),
    };
    Err(OperationError::Refused(why))
}

/// Whether one more leaf may wait for its backend to revoke it.
fn room_for_leaf(authorities: &Authorities) -> Result<(), OperationError> {
    let waiting = authorities.revocations.awaited_leaves();
    if waiting >= MAX_AWAITED {
        let text = format!(
            "{waiting} leaves wait for the backend to revoke them, which is the limit: see in `status` why it does not, or \
             replace the issuing CA"
        );
        return Err(OperationError::Refused(text));
    }
    Ok(())
}

pub(super) fn room(authorities: &Authorities) -> Result<(), OperationError> {
    if authorities.revocations.entries.len() >= MAX_REVOKED {
        let text = format!(
            "{MAX_REVOKED} certificates are revoked, which is the limit: replace the issuing CA, and revoke that"
        );
        return Err(OperationError::Refused(text));
    }
    Ok(())
}
