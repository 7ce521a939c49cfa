//! Makes what a step needs: roots, issuing CAs and revocation lists, with keys that are in custody before anything
//! names them.

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use signet_core::certificate::Facts;
use signet_core::key_type::KeyType;
use signet_core::rotation::{
    Authorities, AuthorityId, IssuingCa, Made, Needs, RevocationList, Revoked, RootAuthority, Rules, Schedule,
    lists_wanted,
};
use signet_core::seams::authority::{ListContent, Offer, SignError, UpstreamAuthority};
use signet_core::seams::custody::{KeyCustody, KeyId, SigningKey};
use time::OffsetDateTime;

use super::StepError;
use crate::state::short;

/// Signs a revocation list with the key and certificate of its issuer. Given by the program, which knows how.
pub type SignList = dyn Fn(
        Arc<dyn SigningKey>,
        &CertificateDer<'static>,
        &ListContent<'_>,
    ) -> Result<CertificateRevocationListDer<'static>, SignError>
    + Send
    + Sync;

/// The makers of keys, certificates and lists.
pub struct Maker {
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
}

impl Maker {
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
            Needs::Issuing(id) => {
                if let Some(root) = authorities.root(id) {
                    made.issuing = Some(self.certify(root, now).await?);
                }
            }
        }
        Ok(made)
    }

    async fn certify(&self, root: &RootAuthority, now: OffsetDateTime) -> Result<IssuingCa, StepError> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| StepError::Random)?;
        let name = format!("issuing-{}-{:016x}", short(root.id.as_str()), u64::from_be_bytes(random));
        let key_id = KeyId::parse(&name).ok_or(StepError::Random)?;
        let key = self.custody.create(&key_id, self.key_type).await?;
        let certificate = self.upstream.certify(root, key.as_ref(), self.schedule.issuing_ttl, now).await?;
        let facts = Facts::read(&certificate)?;
        Ok(IssuingCa {
            id: AuthorityId::from_spki(key.spki_der()),
            key: key_id,
            certificate,
            not_before: facts.not_before,
            not_after: facts.not_after,
            intermediates: Vec::new(),
            after_sequence: 0,
        })
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
        offer: Option<&Offer>,
        rules: &Rules,
        refresh: bool,
        now: OffsetDateTime,
    ) -> Result<(), StepError> {
        if !lists_wanted(next, offer) {
            next.set_lists(Vec::new(), before.bundle_sequence);
            return Ok(());
        }
        let issuers = |authorities: &Authorities| -> Vec<AuthorityId> { ids(authorities, now) };
        let listed: Vec<AuthorityId> = next.revocations.lists.iter().map(|list| list.issuer.clone()).collect();
        let complete = issuers(next).iter().all(|id| listed.contains(id));
        if complete && !refresh && next.revocations.entries == before.revocations.entries {
            return Ok(());
        }
        next.revocations.number = next.revocations.number.saturating_add(1);
        let mut lists = Vec::new();
        for root in next.roots.clone() {
            match (offered(offer, &root.id), &root.key) {
                (Some(list), _) => lists.push(list.clone()),
                (None, Some(key)) => lists.push(self.list(next, &root.id, key, &root.certificate, rules, now).await?),
                (None, None) => {}
            }
            for issuing in root.issuing.iter().filter(|issuing| issuing.not_after > now && issuing.id != root.id) {
                match offered(offer, &issuing.id) {
                    Some(list) => lists.push(list.clone()),
                    None => {
                        let list = self.list(next, &issuing.id, &issuing.key, &issuing.certificate, rules, now).await?;
                        lists.push(list);
                    }
                }
            }
        }
        // What the operator's file says about CAs between the root and the one that signs.
        for list in offer.iter().flat_map(|offer| &offer.revocation_lists) {
            if !lists.iter().any(|one| one.issuer == list.issuer) {
                lists.push(list.clone());
            }
        }
        next.set_lists(lists, before.bundle_sequence);
        Ok(())
    }

    async fn list(
        &self,
        authorities: &Authorities,
        issuer: &AuthorityId,
        key: &KeyId,
        certificate: &CertificateDer<'static>,
        rules: &Rules,
        now: OffsetDateTime,
    ) -> Result<RevocationList, StepError> {
        let revoked: Vec<&Revoked> =
            authorities.revocations.entries.iter().filter(|entry| entry.issuer == *issuer).collect();
        // Other hosts' clocks may be behind.
        let this_update = now - std::time::Duration::from_secs(120);
        let next_update = now + rules.list_ttl;
        let content =
            ListContent { number: authorities.revocations.number, revoked: &revoked, this_update, next_update };
        let der = (self.sign_list)(self.custody.open(key).await?, certificate, &content)?;
        Ok(RevocationList { issuer: issuer.clone(), der, next_update: next_update.unix_timestamp() })
    }
}

fn offered<'a>(offer: Option<&'a Offer>, id: &AuthorityId) -> Option<&'a RevocationList> {
    offer?.revocation_lists.iter().find(|list| list.issuer == *id)
}

/// The authorities whose lists make a complete set: those that may have signed something that is valid at `now`.
fn ids(authorities: &Authorities, now: OffsetDateTime) -> Vec<AuthorityId> {
    let issuing = |root: &RootAuthority| {
        let alive = root.issuing.iter().filter(|issuing| issuing.not_after > now);
        alive.map(|issuing| issuing.id.clone()).collect::<Vec<_>>()
    };
    authorities.roots.iter().flat_map(|root| std::iter::once(root.id.clone()).chain(issuing(root))).collect()
}
