//! Published keys.
//!
//! Promises: a set that is taken holds a public key, and no more are counted than it holds; written again in its plainest form it is still taken; and it lets a
//! token in only if it holds the key that signed the token.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use signet_core::seams::authenticator::TokenAuthenticator as _;
use signet_core::secret::Secret;
use signet_plugins::authenticator::{JwksAuthenticator, PublishedKeys};

use super::{Verdict, promise, readable, token, wait_for};
use crate::world::{self, NOW};

pub(super) const WORDS: &[&str] = &[
    "keys", "kty", "RSA", "EC", "OKP", "oct", "crv", "P-256", "P-384", "P-521", "kid", "fuzz", "use", "sig", "enc",
    "alg", "ES256", "ES384", "RS256", "PS512", "none", "HS256", "key_ops", "verify", "sign", "x", "y", "n", "e", "d",
    "AQAB", "AA",
];

/// A token that the key of this world has signed.
static TOKEN: LazyLock<Vec<u8>> = LazyLock::new(|| token::token(include_bytes!("../../corpus/token/signed")));

pub(super) fn run(input: &[u8]) -> Verdict {
    let config = token::config().ok_or("there is no configuration")?;
    let taken = match PublishedKeys::new(input) {
        Err(error) => {
            readable(&error.to_string())?;
            return Ok(format!("{error:?}"));
        }
        Ok(taken) => taken,
    };
    // A mark in front is not JSON, but allowed to be passed over.
    let plain = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let document: Value = serde_json::from_slice(plain).map_err(|error| format!("taken, but not JSON: {error}"))?;
    let keys = document.get("keys").and_then(Value::as_array).ok_or("taken, but without a list of keys")?;
    let published = taken.published().ok_or("taken, but not in use")?;
    let counted = published.keys + published.left_out.len();
    promise(published.keys > 0 && counted <= keys.len(), || format!("{published:?} of {}", keys.len()))?;
    for key in &published.left_out {
        readable(&key.to_string())?;
        promise(key.index < keys.len(), || format!("{key} is not there"))?;
    }
    let again = PublishedKeys::new(document.to_string().as_bytes());
    promise(again.is_ok(), || format!("taken, but not once it is written again: {again:?}"))?;
    let taken = JwksAuthenticator::new(config, Arc::new(taken));
    let accepted = wait_for(taken.authenticate(&Secret::new(TOKEN.clone()), NOW))?;
    let ours: Value = serde_json::from_str(world::JWKS).map_err(|error| error.to_string())?;
    let ours = ours.pointer("/keys/0").cloned().unwrap_or_default();
    let holds = keys.iter().any(|key| key.get("x") == ours.get("x") && key.get("y") == ours.get("y"));
    promise(accepted.is_err() || holds, || "a token of another key is accepted".to_owned())?;
    Ok(format!("taken; the token is {:?}", accepted.map(drop)))
}
