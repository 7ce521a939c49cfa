//! What a Vault has answered, read as the client does: for whoever tries answers that no Vault should give.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use signet_core::seams::upstream_authority::Certified;
use signet_core::secret::Secret;
use signet_core::source::Offer;
use time::OffsetDateTime;

use super::calls::{self, Issuer, Signed};
use super::error::VaultError;
use super::issuer::{Asked, READ_ISSUER, SIGN, Source};

/// Readers of answers.
#[derive(Debug)]
pub struct VaultAnswers;

impl VaultAnswers {
    /// What an issuer offers, from the answer to reading it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn issuer(body: &[u8], now: OffsetDateTime) -> Result<Offer, VaultError> {
        let issuer: Issuer = calls::data(READ_ISSUER, body)?;
        Source::of(&issuer, now)?.offer(false, Vec::new())
    }

    /// An issuing CA for this key with this URI, for this long, from the answer to its request, below the root of that issuer.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn certified(
        issuer: &[u8],
        body: &[u8],
        (spki_der, uri, lifetime): (&[u8], &str, Duration),
        now: OffsetDateTime,
    ) -> Result<Certified, VaultError> {
        let issuer: Issuer = calls::data(READ_ISSUER, issuer)?;
        let source = Source::of(&issuer, now)?;
        let signed: Signed = calls::data(SIGN, body)?;
        source.accept(&signed, &Asked { spki_der, uri, lifetime }, now)
    }

    /// The leaf in the answer to its request; what it says is judged by whoever has asked.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn leaf(body: &[u8]) -> Result<CertificateDer<'static>, VaultError> {
        super::leaf::leaf_in(body)
    }

    /// The ids of issuers, from the list of those of a mount.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn issuers(body: &[u8]) -> Result<Vec<String>, VaultError> {
        super::leaf::ids_in(body)
    }

    /// The token that a login has brought, and for how many seconds.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn token(body: &Secret) -> Result<(Secret, u64), VaultError> {
        let auth = calls::auth("log in", body)?;
        Ok((Secret::new(auth.client_token.into_bytes()), auth.lease_duration))
    }

    /// What a token may do, by path.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn capabilities(body: &[u8]) -> Result<BTreeMap<String, Vec<String>>, VaultError> {
        calls::data("say what its token may do", body)
    }

    /// What an answer with an error status means.
    #[must_use]
    pub fn refusal(status: u16, body: &[u8]) -> VaultError {
        VaultError::of_status(SIGN, status, body)
    }
}
