//! Provides what a step needs: roots, issuing CAs and revocation lists, with keys that are in custody before anything
//! names them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use signet_core::authority::{AuthorityId, IssuingCa, KeyId, Root};
use signet_core::bundle::MAX_LISTS_BYTES;
use signet_core::key_type::KeyType;
use signet_core::revocation::{GivenLists, LIST_MARGIN, ListIssuers, ListNeed, RevocationList, Revoked};
use signet_core::rotation::{Authorities, Made, Needs, Rules, Schedule};
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::{CustodyError, KeyCustody, SigningKey};
use signet_core::seams::upstream_authority::{ListContent, UpstreamAuthority};
use signet_core::time_math;
use signet_core::unknown_fields::Unknown;
use time::OffsetDateTime;

use super::StepError;
use super::client_verification::Judge;

/// Signs a revocation list with the key and certificate of its issuer. Given by the program, which knows how.
pub type SignList = dyn for<'a> Fn(Arc<dyn SigningKey>, &'a CertificateDer<'static>, &'a ListContent<'a>) -> ListSigning<'a>
    + Send
    + Sync;

/// A list that is being signed.
type ListSigning<'a> =
    Pin<Box<dyn Future<Output = Result<CertificateRevocationListDer<'static>, SignError>> + Send + 'a>>;

/// Provides keys, certificates and lists.
pub struct Provisioner {
    /// Type of issuing keys.
    pub key_type: KeyType,
    /// Lifetimes.
    pub schedule: Schedule,
    /// Where keys live.
    pub custody: Arc<dyn KeyCustody>,
    /// Who makes roots and certifies issuing CAs.
    pub upstream: Arc<dyn UpstreamAuthority>,
    /// Signs revocation lists.
    pub sign_list: Arc<SignList>,
    /// Judges new issuing CAs.
    pub judge: Judge,
}

impl Provisioner {
    /// Makes what is needed. Keys of attempts that come to nothing stay in custody, where no journal names them.
    ///
    /// # Errors
    /// [`StepError`].
    pub async fn make(&self, needs: &Needs, authorities: &Authorities, now: OffsetDateTime) -> Result<Made, StepError> {
        let mut made = Made::default();
        match needs {
            Needs::Nothing => {}
            Needs::Root => made.root = Some(self.upstream.prepare_root(authorities.next_generation(), now).await?),
            Needs::RootAndIssuing => {
                let root = self.upstream.prepare_root(authorities.next_generation(), now).await?;
                made.issuing = Some(self.certify(&root, now).await?);
                made.root = Some(root);
            }
            Needs::IssuingUnder(root) => made.issuing = Some(self.certify(root, now).await?),
            Needs::Issuing(id) => {
                if let Some(root) = authorities.root(id) {
                    made.issuing = Some(self.certify(root, now).await?);
                }
            }
        }
        Ok(made)
    }

    async fn certify(&self, root: &Root, now: OffsetDateTime) -> Result<IssuingCa, StepError> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| StepError::Random)?;
        let name = format!("issuing-{:.8}-{:016x}", root.id.as_str(), u64::from_be_bytes(random));
        let key_id = KeyId::parse(&name).ok_or(StepError::Random)?;
        let key = self.custody.create(&key_id, self.key_type).await?;
        let certified = self.upstream.certify(root, key.as_ref(), self.schedule.issuing_ttl, now).await?;
        Ok(IssuingCa::below(certified.certificate, Some(key_id), certified.intermediates, root)?)
    }

    /// Brings the revocation lists of `next` in line with its authorities and entries, as part of the change from
    /// `before`. Always the complete set, or none: a verifier that has a list for one CA of a chain demands one for
    /// each. A change that concerns neither entries nor authorities leaves valid lists as they are.
    ///
    /// # Errors
    /// [`StepError`]; nothing is changed then, so that no set with a hole is ever published.
    pub async fn bring_lists_up_to_date(
        &self,
        next: &mut Authorities,
        before: &Authorities,
        given: GivenLists<'_>,
        rules: &Rules,
        refresh: bool,
        now: OffsetDateTime,
    ) -> Result<(), StepError> {
        let issuers = next.lists_of(now);
        match next.revocations.need(&issuers, given, now) {
            ListNeed::Wanted => {}
            ListNeed::Needless => {
                next.revocations.failed_at = 0;
                next.set_lists(Vec::new(), before.bundle_sequence);
                return Ok(());
            }
            ListNeed::Impossible(issuer) => {
                if !next.revocations.lists.is_empty() || next.revocations.failed_at == 0 {
                    tracing::warn!(authority.id = %issuer, "no revocation lists are served: one for each authority is needed, and this one's can neither be made here nor is it given");
                    next.revocations.failed_at = now.unix_timestamp();
                }
                next.set_lists(Vec::new(), before.bundle_sequence);
                return Ok(());
            }
        }
        let complete = issuers.required().iter().all(|id| next.revocations.list_of(id).is_some());
        if complete && !refresh && next.revocations.entries == before.revocations.entries {
            return Ok(());
        }
        next.revocations.number = next.revocations.number.saturating_add(1);
        match self.lists(next, given, &issuers, rules, now).await {
            Ok(lists) => {
                next.revocations.failed_at = 0;
                next.set_lists(lists, before.bundle_sequence);
                Ok(())
            }
            // Storage that is away: tried again, as everything else is.
            Err(StepError::Custody(CustodyError::Store(text))) => Err(StepError::Custody(CustodyError::Store(text))),
            // One authority without a list must stop neither the others nor any step: better no lists than a hole.
            Err(error) => {
                tracing::warn!(%error, "no revocation lists are served: one for each authority is needed");
                next.revocations.note_failure(&before.revocations, now);
                next.set_lists(Vec::new(), before.bundle_sequence);
                Ok(())
            }
        }
    }

    /// The complete set: for each authority the list that its owner gives, else our own, else the one that is in use.
    async fn lists(
        &self,
        next: &Authorities,
        given: GivenLists<'_>,
        issuers: &ListIssuers,
        rules: &Rules,
        now: OffsetDateTime,
    ) -> Result<Vec<RevocationList>, StepError> {
        let mut lists: Vec<RevocationList> = given.used(issuers).cloned().collect();
        for id in issuers.required() {
            if given.list_of(id).is_some() {
                continue;
            }
            let root = next.root(id).and_then(|root| Some((root.key.as_ref()?, &root.certificate)));
            let issuing = next.roots.iter().flat_map(|root| &root.issuing).find(|one| one.id == *id);
            // A CA of the operator's that leaves still chain to, though the files say nothing good of it any more: what
            // its owner has revoked stays revoked, even where the key is at hand.
            if let Some(list) = next.revocations.kept(id, issuers, given, now) {
                lists.push(list.clone());
                continue;
            }
            let is_ours = issuers.renews(id);
            match root.or(issuing.and_then(|one| Some((one.key.as_ref()?, &one.certificate)))) {
                Some((key, certificate)) => {
                    if !is_ours && next.revocations.list_of(id).is_some() {
                        tracing::warn!(authority.id = %id, "the revocation list of this CA of yours has come to its end, and one that is made here takes its place, so that those of others stay in use; what only you have revoked under it is accepted again");
                    }
                    // What is not ours is given up some time before its end.
                    let ttl = if is_ours { rules.list_ttl } else { rules.list_ttl.max(4 * LIST_MARGIN) };
                    lists.push(self.list(next, id, key, certificate, ttl, now).await?);
                }
                None => {
                    let text = format!("there is no revocation list of authority {id}, and none can be signed here");
                    return Err(SignError::Failed(text).into());
                }
            }
        }
        match RevocationList::message_bytes(&lists) {
            size if size > MAX_LISTS_BYTES => Err(SignError::Failed(format!(
                "the revocation lists have {size} bytes as PEM, and agents take {MAX_LISTS_BYTES} at most, roots included"
            ))
            .into()),
            _ => Ok(lists),
        }
    }

    async fn list(
        &self,
        authorities: &Authorities,
        issuer: &AuthorityId,
        key: &KeyId,
        certificate: &CertificateDer<'static>,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<RevocationList, StepError> {
        let revoked: Vec<&Revoked> =
            authorities.revocations.entries.iter().filter(|entry| entry.issuer == *issuer).collect();
        // Other hosts' clocks may be behind.
        let this_update = time_math::before(now, Duration::from_secs(120));
        let next_update = time_math::after(now, ttl);
        let content =
            ListContent { number: authorities.revocations.number, revoked: &revoked, this_update, next_update };
        let der = (self.sign_list)(self.custody.open(key).await?, certificate, &content).await?;
        Ok(RevocationList {
            issuer: issuer.clone(),
            der,
            next_update: next_update.unix_timestamp(),
            unknown: Unknown::default(),
        })
    }
}
