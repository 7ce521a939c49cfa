//! Service-account tokens verified offline with a cluster's published keys: no request to the cluster, no I/O per call.
//! Whether the pod or the service account still exists is deliberately not checked here.

mod claims;
mod jwk;
mod keys;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer};
use signet_core::caller::Caller;
use signet_core::identity::TrustDomain;
use signet_core::seams::authenticator::{AuthenticationError, Denial, TokenAuthenticator};
use signet_core::secret::Secret;
use time::OffsetDateTime;

pub use self::keys::{KeySetError, LeftOut};

use self::jwk::accepted;
use self::keys::{KeySet, NoKey};
use super::token_cache::{CAPACITY, TokenCache, TokenHash};

/// The longest token that is looked at, in bytes. A projected token is about 1 KiB.
const MAX_TOKEN: usize = 16 * 1024;

/// How the tokens of one cluster are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksConfig {
    /// The configured id of the cluster.
    pub cluster: String,
    /// The trust domain of the identities that tokens of this cluster prove.
    pub trust_domain: TrustDomain,
    /// The `iss` of its tokens is one of these, compared exactly.
    pub issuers: Vec<String>,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// How far an end may lie back and `nbf` and `iat` ahead, for clocks that differ.
    pub leeway: Duration,
    /// How long after `iat` a token is believed, whatever its `exp` says.
    pub max_age: Duration,
}

/// What a set of published keys came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// How many keys may verify tokens; the same one published twice is one.
    pub keys: usize,
    /// The keys that cannot.
    pub left_out: Vec<LeftOut>,
}

/// What a look at the published keys brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// They are as they were.
    Unchanged,
    /// New keys are in use, and nothing that older keys verified is believed any more.
    Replaced(Published),
}

/// A set of keys and what they verified. They are replaced together, so a token that a withdrawn key verified cannot
/// stay behind, not even one that is being verified at this moment.
struct State {
    source: [u8; 32],
    keys: KeySet,
    cache: TokenCache,
}

/// Verifies tokens of one cluster with the keys that it publishes at `/openid/v1/jwks`. How they get here is left to the
/// program.
pub struct JwksAuthenticator {
    config: JwksConfig,
    state: ArcSwap<State>,
    cache_hits: AtomicU64,
}

impl JwksAuthenticator {
    /// Takes the keys from `content`, a JSON Web Key Set.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn new(config: JwksConfig, content: &[u8]) -> Result<Self, KeySetError> {
        let state = State::new(content)?;
        Ok(Self { config, state: ArcSwap::from_pointee(state), cache_hits: AtomicU64::new(0) })
    }

    /// Takes over the keys of `content` when it has changed and is good.
    ///
    /// # Errors
    /// [`KeySetError`]; the keys in use stay.
    pub fn refresh(&self, content: &[u8]) -> Result<Refreshed, KeySetError> {
        if hash(content) == self.state.load().source {
            return Ok(Refreshed::Unchanged);
        }
        let state = State::new(content)?;
        let refreshed = Refreshed::Replaced(state.published());
        self.state.store(Arc::new(state));
        Ok(refreshed)
    }

    /// The keys in use, and those left out.
    #[must_use]
    pub fn published(&self) -> Published {
        self.state.load().published()
    }

    /// How many tokens were answered from memory since the start, for metrics.
    #[must_use]
    pub fn cache_hits(&self) -> u64 {
        self.cache_hits.load(Ordering::Relaxed)
    }
}

impl State {
    fn new(content: &[u8]) -> Result<Self, KeySetError> {
        let keys = KeySet::parse(content)?;
        Ok(Self { source: hash(content), keys, cache: TokenCache::new(CAPACITY) })
    }

    fn published(&self) -> Published {
        Published { keys: self.keys.len(), left_out: self.keys.left_out().to_vec() }
    }

    /// Verifies the signature and returns the payload, not yet judged.
    fn verify(&self, token: &str) -> Result<Vec<u8>, AuthenticationError> {
        let denied = |reason, detail: String| AuthenticationError::denied(reason, detail);
        let malformed = |detail: &str| AuthenticationError::denied(Denial::TokenMalformed, detail);
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed("the token has no three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| malformed("the token has no three parts"))?;
        // '.' is not of the base64url alphabet, so a fourth part fails here.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("a part is not base64url"));
        let (header, payload) = (decode(header)?, decode(payload)?);
        decode(signature)?;
        let no_header = || malformed("the header is not a JOSE header");
        let header: Header = Some(header.as_slice())
            .filter(|header| is_object(header))
            .and_then(|header| serde_json::from_slice(header).ok())
            .ok_or_else(no_header)?;
        // RFC 7515 section 4.1.11: an extension that is not understood must not be passed over.
        if header.crit {
            return Err(malformed("the header demands extensions (crit); none is supported"));
        }
        let algorithm = accepted(&header.alg).ok_or_else(|| {
            denied(Denial::AlgorithmRefused, format!("alg is {:?}; use RS, PS or ES", shorten(&header.alg)))
        })?;
        let keys = self.keys.choose(header.kid.as_deref(), algorithm).map_err(|no_key| {
            let kid = header.kid.as_deref().map_or_else(|| "missing".to_owned(), |kid| format!("{:?}", shorten(kid)));
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
            matches!(jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm), Ok(true))
        };
        if keys.into_iter().any(verifies) {
            return Ok(payload);
        }
        Err(denied(Denial::SignatureInvalid, "the signature does not verify".to_owned()))
    }
}

#[async_trait]
impl TokenAuthenticator for JwksAuthenticator {
    async fn authenticate(&self, token: &Secret, now: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        let bytes = token.expose();
        if bytes.is_empty() {
            return Err(AuthenticationError::denied(Denial::TokenMissing, "the token is empty"));
        }
        if bytes.len() > MAX_TOKEN {
            let detail = format!("the token is {} bytes long, the longest accepted is {MAX_TOKEN}", bytes.len());
            return Err(AuthenticationError::denied(Denial::TokenTooLong, detail));
        }
        let state = self.state.load();
        let hash = TokenHash::of(bytes);
        if let Some(caller) = state.cache.find(hash, now) {
            self.cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(caller);
        }
        let text = token
            .expose_str()
            .ok_or_else(|| AuthenticationError::denied(Denial::TokenMalformed, "the token is not text"))?;
        let (caller, life) = claims::judge(&state.verify(text)?, &self.config, now)?;
        state.cache.remember(hash, caller.clone(), life, now);
        Ok(caller)
    }
}

impl fmt::Debug for JwksAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksAuthenticator").field("config", &self.config).finish_non_exhaustive()
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

fn hash(content: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, content).as_ref());
    hash
}

/// Bounds what of a foreign text gets into messages.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
