//! Service-account tokens as JSON web tokens: taken apart, their signature verified with published keys, and what they say
//! judged by rules.

pub(super) mod claims;
mod jwk;
pub(super) mod keys;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Deserializer};
use signet_core::caller::AuthMethod;
use signet_core::identity::TrustDomain;
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_core::secret::Secret;

use self::jwk::accepted;
use self::keys::{KeySet, NoKey};

/// The longest token that is looked at, in bytes. A projected token is about 1 KiB.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

/// What a token of a cluster must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// The configured id of the cluster.
    pub cluster: String,
    /// The trust domain of the identities that tokens of this cluster prove.
    pub trust_domain: TrustDomain,
    /// The `iss` of its tokens is one of these, compared exactly; empty leaves that to the cluster.
    pub issuers: Vec<String>,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// How far an end may lie back and `nbf` and `iat` ahead, for clocks that differ.
    pub leeway: Duration,
    /// How long after `iat` a token is believed, whatever its `exp` says, and that it is not believed after
    /// `kubernetes.io.warnafter`; `None` where the cluster itself is asked whether what the token is bound to still exists.
    pub max_age: Option<Duration>,
    /// How callers are said to be proved.
    pub method: AuthMethod,
}

/// The bytes of a token that is neither empty nor longer than any real one.
///
/// # Errors
/// [`Denial::TokenMissing`] or [`Denial::TokenTooLong`].
pub(super) fn bounded(token: &Secret) -> Result<&[u8], AuthenticationError> {
    let bytes = token.expose();
    if bytes.is_empty() {
        return Err(AuthenticationError::denied(Denial::TokenMissing, "the token is empty"));
    }
    if bytes.len() > MAX_TOKEN {
        let detail = format!("the token is {} bytes long, the longest accepted is {MAX_TOKEN}", bytes.len());
        return Err(AuthenticationError::denied(Denial::TokenTooLong, detail));
    }
    Ok(bytes)
}

/// A token taken apart. Nothing that it says is believed by that.
pub(super) struct Token<'a> {
    header: Header,
    payload: Vec<u8>,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a [`bounded`] token apart.
    ///
    /// # Errors
    /// [`Denial::TokenMalformed`].
    pub(super) fn read(token: &'a Secret) -> Result<Self, AuthenticationError> {
        let malformed = |detail: &str| AuthenticationError::denied(Denial::TokenMalformed, detail);
        let text = token.expose_str().ok_or_else(|| malformed("the token is not text"))?;
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| malformed("the token has no three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| malformed("the token has no three parts"))?;
        // '.' is not of the base64url alphabet, so a fourth part fails here.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("a part is not base64url"));
        let (header, payload) = (decode(header)?, decode(payload)?);
        decode(signature)?;
        let header: Header = Some(header.as_slice())
            .filter(|header| is_object(header))
            .and_then(|header| serde_json::from_slice(header).ok())
            .ok_or_else(|| malformed("the header is not a JOSE header"))?;
        // RFC 7515 section 4.1.11: an extension that is not understood must not be passed over.
        if header.crit {
            return Err(malformed("the header demands extensions (crit); none is supported"));
        }
        Ok(Self { header, payload, signed, signature })
    }

    /// What it says, in JSON.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// [`Denial::AlgorithmRefused`], [`Denial::KeyUnknown`] or [`Denial::SignatureInvalid`].
    pub(super) fn verify(&self, keys: &KeySet) -> Result<(), AuthenticationError> {
        let denied = |reason, detail: String| AuthenticationError::denied(reason, detail);
        let Header { alg, kid, .. } = &self.header;
        let algorithm = accepted(alg)
            .ok_or_else(|| denied(Denial::AlgorithmRefused, format!("alg is {:?}; use RS, PS or ES", shorten(alg))))?;
        let keys = keys.choose(kid.as_deref(), algorithm).map_err(|no_key| {
            let kid = kid.as_deref().map_or_else(|| "missing".to_owned(), |kid| format!("{:?}", shorten(kid)));
            match no_key {
                NoKey::Unknown => denied(Denial::KeyUnknown, format!("kid is {kid}, which is not published")),
                NoKey::LeftOut(problem) => {
                    denied(Denial::KeyUnknown, format!("kid is {kid}, but the published key of this name {problem}"))
                }
                NoKey::OtherAlgorithm => {
                    denied(Denial::AlgorithmRefused, format!("alg is {algorithm:?}, but key {kid} is for another one"))
                }
            }
        })?;
        let verifies = |key: &DecodingKey| {
            matches!(jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), key, algorithm), Ok(true))
        };
        if keys.into_iter().any(verifies) {
            return Ok(());
        }
        Err(denied(Denial::SignatureInvalid, "the signature does not verify".to_owned()))
    }
}

/// A JOSE header (RFC 7515 section 4). Keys that a token brings along (`jwk`, `jku`, `x5c`) are never looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Whether the text begins as a JSON object does. serde would fill a structure from a list too, by position.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// Bounds what of a foreign text gets into messages.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}
