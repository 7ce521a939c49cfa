//! Roots that Signet makes itself, and the certifying of issuing CAs under them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::BasicConstraints;
use rustls_pki_types::CertificateDer;
use signet_core::authority::{KeyId, Root};
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::{KeyCustody, SigningKey};
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::source::{Offer, RevokedBy};
use time::OffsetDateTime;

use super::certificates::{
    CaProfile, ca_validity, custody_failed, failed, prepare, random, self_sign, sign, some_time,
};

/// Makes roots with keys in custody and certifies issuing CAs with them.
pub struct SelfSignedRoot {
    trust_domain: TrustDomain,
    custody: Arc<dyn KeyCustody>,
    key_type: KeyType,
    root_ttl: Duration,
}

impl SelfSignedRoot {
    /// Roots of `trust_domain` with keys of `key_type` that live in `custody`, each valid for `root_ttl`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, custody: Arc<dyn KeyCustody>, key_type: KeyType, root_ttl: Duration) -> Self {
        Self { trust_domain, custody, key_type, root_ttl }
    }

    /// The certificate of a new root: signed with `key` itself, valid from a little before `now` for as long as roots are.
    /// The path length stays open, so that issuing CAs elsewhere may hang below it.
    async fn root_certificate(
        &self,
        key: &dyn SigningKey,
        now: OffsetDateTime,
    ) -> Result<CertificateDer<'static>, SignError> {
        let (not_before, not_after) = ca_validity(now, self.root_ttl, None)?;
        let profile = CaProfile {
            trust_domain: &self.trust_domain,
            kind: "root",
            spki_der: key.spki_der(),
            path: BasicConstraints::Unconstrained,
            not_before,
            not_after,
        };
        self_sign(&profile.params()?, key).await
    }
}

#[async_trait]
impl UpstreamAuthority for SelfSignedRoot {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Here
    }

    async fn prepare_root(&self, generation: u64, now: OffsetDateTime) -> Result<Root, SignError> {
        // The generation alone would not do as a name: after a crash between this and the journal's entry, or when two
        // replicas try the same generation, the name would be taken for ever. A key that no journal names is harmless.
        let suffix = u64::from_be_bytes(random()?);
        let id = KeyId::parse(&format!("root-{generation}-{suffix:016x}"))
            .ok_or_else(|| failed("naming the root's key failed; this is a bug"))?;
        let key = self.custody.create(&id, self.key_type).await.map_err(|error| custody_failed(&error))?;
        let certificate = self.root_certificate(&*key, now).await?;
        Root::new(certificate, Some(id)).map_err(|error| SignError::Failed(error.to_string()))
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        Ok(None)
    }

    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        some_time(ttl)?;
        let id = root.key.as_ref().ok_or_else(|| failed("the root's key is not held here"))?;
        let root_key = self.custody.open(id).await.map_err(|error| custody_failed(&error))?;
        let (issuer, facts) =
            prepare(root_key, &root.certificate).map_err(|error| SignError::Failed(error.to_string()))?;
        // The certificate bounds what it signs, whatever the journal says beside it.
        let (first, last) = (facts.not_before, facts.not_after);
        if now >= last {
            return Err(SignError::Failed(format!("the root ended at {last}; prepare a new one")));
        }
        if now < first {
            return Err(SignError::Failed(format!(
                "the clock is before the start of the root ({first}); was it set back?"
            )));
        }
        let (not_before, not_after) = ca_validity(now, ttl, Some((first, last)))?;
        let profile = CaProfile {
            trust_domain: &self.trust_domain,
            kind: "issuing",
            spki_der: key.spki_der(),
            path: BasicConstraints::Constrained(0),
            not_before,
            not_after,
        };
        let mut params = profile.params()?;
        params.use_authority_key_identifier_extension = true;
        sign(&params, key.spki_der(), &issuer).await.map(Certified::from)
    }
}

impl fmt::Debug for SelfSignedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfSignedRoot").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::custody::{LocalKey, MemoryCustody};
    use signet_core::authority::AuthorityId;
    use signet_core::certificate::Facts;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00:00.75 UTC);
    const SECOND: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
    const DAY: Duration = Duration::from_secs(86_400);
    const MINUTE: Duration = Duration::from_secs(60);

    async fn key() -> LocalKey {
        LocalKey::generate(KeyType::EcP256).await.unwrap().0
    }

    fn upstream(root_ttl: Duration) -> SelfSignedRoot {
        let domain = TrustDomain::parse("cluster.local").unwrap();
        SelfSignedRoot::new(domain, Arc::new(MemoryCustody::new()), KeyType::EcP256, root_ttl)
    }

    #[tokio::test]
    async fn a_prepared_root_is_what_the_journal_keeps_and_its_key_is_in_custody() {
        let upstream = upstream(10 * DAY);
        let root = upstream.prepare_root(7, NOW).await.unwrap();
        let facts = Facts::read(&root.certificate).unwrap();
        let kept = upstream.custody.open(root.key.as_ref().unwrap()).await.unwrap();
        assert_eq!(facts.spki_der, kept.spki_der());
        assert_eq!(root.id, AuthorityId::of(&facts));
        assert_eq!((root.not_before, root.not_after), (SECOND - 2 * MINUTE, SECOND + 10 * DAY));
        assert_eq!((facts.not_before, facts.not_after), (root.not_before, root.not_after));
        assert!(root.key.as_ref().unwrap().as_str().starts_with("root-7-"));
        assert_eq!(upstream.offer().await, Ok(None), "it is commanded, not followed");

        let again = upstream.prepare_root(7, NOW).await.unwrap();
        assert_ne!(again.id, root.id, "a second attempt at the same generation succeeds with a key of its own");
        assert_ne!(Facts::read(&again.certificate).unwrap().subject_der, facts.subject_der);
    }

    #[tokio::test]
    async fn an_issuing_ca_lies_within_its_root_and_a_cut_one_ends_in_the_same_second() {
        let upstream = upstream(10 * DAY);
        let root = upstream.prepare_root(1, NOW).await.unwrap();
        let start = SECOND - 2 * MINUTE;
        let end = SECOND + 10 * DAY;
        let table = [
            (NOW, DAY, start, SECOND + DAY),
            (NOW + DAY, DAY, start + DAY, SECOND + 2 * DAY),
            (NOW, 10 * DAY, start, end),
            (NOW + MINUTE, 10 * DAY, start + MINUTE, end),
            (NOW, Duration::MAX, start, end),
            (NOW - MINUTE, DAY, start, SECOND + DAY - MINUTE),
            (end - Duration::from_millis(500), DAY, end - 2 * MINUTE - Duration::from_secs(1), end),
        ];
        for (now, ttl, not_before, not_after) in table {
            let certificate = upstream.certify(&root, &key().await, ttl, now).await.unwrap();
            let facts = Facts::read(&certificate.certificate).unwrap();
            assert_eq!((facts.not_before, facts.not_after), (not_before, not_after), "{now} {ttl:?}");
        }
    }

    #[tokio::test]
    async fn an_ended_root_a_clock_set_back_or_a_root_without_its_key_certifies_nothing() {
        let upstream = upstream(DAY);
        let root = upstream.prepare_root(1, NOW).await.unwrap();
        for now in [SECOND + DAY, SECOND + 2 * DAY, SECOND - 3 * MINUTE] {
            let refused = upstream.certify(&root, &key().await, DAY, now).await;
            assert!(matches!(refused, Err(SignError::Failed(_))), "{now}");
        }
        let other = upstream.prepare_root(2, NOW).await.unwrap();
        for key_id in [None, other.key, KeyId::parse("root-9")] {
            let root = Root { key: key_id, ..root.clone() };
            let refused = upstream.certify(&root, &key().await, DAY, NOW).await;
            assert!(matches!(refused, Err(SignError::Failed(_))));
        }
    }

    #[tokio::test]
    async fn an_absurd_lifetime_of_a_root_is_refused_instead_of_wrapping() {
        for ttl in [Duration::MAX, Duration::from_secs(u64::MAX / 2), 9000 * 366 * DAY] {
            let refused = upstream(ttl).prepare_root(1, NOW).await;
            assert!(matches!(refused, Err(SignError::Failed(_))));
        }
    }
}
