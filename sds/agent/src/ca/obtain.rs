//! One attempt to obtain a certificate: token, identity, fresh key, call, checks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use signet_core::clock::SharedClock;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::key_type::KeyType;

use crate::ca::channel::{CaChannel, CaError};
use crate::ca::client::{Acknowledges, CaClient};
use crate::ca::key::{FreshKey, KeyError};
use crate::ca::reply::{self, Asked, ReplyError};
use crate::ca::token::{self, TokenError};
use crate::config::Config;
use crate::identity::issued::Issued;

/// Why an attempt gave no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ObtainError {
    /// There is no usable token; no call was made.
    #[error("no certificate was asked for")]
    Token(#[from] TokenError),
    /// No key could be made; no call was made.
    #[error("no certificate was asked for")]
    Key(#[from] KeyError),
    /// The CA gave nothing.
    #[error("the CA gave no certificate")]
    Ca(#[from] CaError),
    /// The CA gave something else than was asked for.
    #[error("the CA's reply was refused")]
    Reply(#[from] ReplyError),
}

impl ObtainError {
    /// The labels of [`ObtainError::label`], and those of success.
    pub(crate) const LABELS: [&str; 7] = ["first", "ok", "token", "key", "unreachable", "refused", "bad_reply"];

    /// A short constant for metrics.
    #[must_use]
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Key(_) => "key",
            Self::Ca(CaError::Refused { .. }) => "refused",
            Self::Ca(_) => "unreachable",
            Self::Reply(_) => "bad_reply",
        }
    }

    /// Whether asking again leads nowhere: a file may not be read, or is not what it should be. One that is missing may be
    /// written in a moment, and so may one that is empty.
    #[must_use]
    pub(crate) fn is_hopeless(&self) -> bool {
        match self {
            Self::Token(TokenError::Read(file)) | Self::Ca(CaError::Roots(file)) => file.is_lasting(),
            Self::Token(TokenError::Empty(_)) | Self::Key(_) | Self::Reply(_) | Self::Ca(_) => false,
            Self::Token(_) => true,
        }
    }

    /// How long the CA wants nobody to ask again, where it says so.
    #[must_use]
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        match self {
            Self::Ca(CaError::Refused { retry_in, .. }) => *retry_in,
            _ => None,
        }
    }

    /// Whether the CA is to blame, rather than something on this machine.
    #[must_use]
    pub(crate) fn is_of_the_ca(&self) -> bool {
        matches!(self, Self::Ca(_) | Self::Reply(_))
    }
}

/// Obtains certificates for one identity.
pub(crate) struct Obtainer {
    trust_domain: TrustDomain,
    identity: Option<SpiffeId>,
    token_file: PathBuf,
    key_type: KeyType,
    ttl: Duration,
    ca: CaClient,
    clock: SharedClock,
}

impl Obtainer {
    /// As configured, over `channel`.
    #[must_use]
    pub(crate) fn new(
        config: &Config,
        clock: SharedClock,
        channel: Arc<CaChannel>,
        acknowledges: Acknowledges,
    ) -> Self {
        Self {
            trust_domain: config.trust_domain.clone(),
            identity: config.identity.clone(),
            token_file: config.token_file.clone(),
            key_type: config.svid.key_type,
            ttl: config.svid.ttl,
            ca: CaClient::new(channel, acknowledges),
            clock,
        }
    }

    /// One attempt. Token and root file are read anew, the key is new, and nothing outlives a failure.
    ///
    /// # Errors
    /// [`ObtainError`].
    pub(crate) async fn obtain(&self) -> Result<Issued, ObtainError> {
        let token = token::read(&self.token_file).await?;
        let spiffe_id = match &self.identity {
            Some(identity) => identity.clone(),
            None => token::subject(&token, &self.trust_domain)?.spiffe_id(),
        };
        let FreshKey { key_pem, csr_pem, spki_der } = FreshKey::generate(self.key_type, &spiffe_id)?;
        let reply = self.ca.create_certificate(csr_pem, self.ttl, &token).await?;
        let asked = Asked { spiffe_id: &spiffe_id, trust_domain: &self.trust_domain, spki_der: &spki_der };
        Ok(reply::check(&reply, asked, key_pem, self.clock.now())?)
    }
}
