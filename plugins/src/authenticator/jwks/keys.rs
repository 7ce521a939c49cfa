//! A cluster's published keys (RFC 7517) and which of them may verify which token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::shorten;

/// Why a JWKS document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not a JSON object with a list `keys`.
    #[error("not a JWK set: {0}")]
    NotJwks(String),
    /// A key that is meant for verifying tokens is malformed or too weak.
    #[error("key {index} of the JWK set (kid {kid:?}) {problem}")]
    BadKey {
        /// Its position from 0.
        index: usize,
        /// Its `kid`, shortened.
        kid: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no key that could verify a token. To shut a cluster out, remove it from the configuration.
    #[error("the JWK set holds no key for verifying RS, PS or ES tokens")]
    NoUsableKey,
}

/// Why no key of the set may verify a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The token names no key although there are several, or one that is not there.
    Unknown,
    /// The key named is there but is for other algorithms.
    OtherAlgorithm,
}

#[derive(Deserialize)]
struct Document {
    /// Read one by one afterwards, so that a key of a kind not known here may look as it likes.
    keys: Vec<Value>,
}

/// The parameters of RFC 7517 and RFC 7518 section 6 that matter here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// A private key published by mistake is nobody's proof of anything.
    d: Option<IgnoredAny>,
}

/// One key that may verify tokens.
struct VerifyingKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys that may verify tokens, at least one.
pub(super) struct KeySet {
    keys: Vec<VerifyingKey>,
    ignored: usize,
}

impl KeySet {
    /// Reads a JWK set. Keys of unknown type, curve, use or algorithm are ignored (RFC 7517 section 5).
    ///
    /// # Errors
    /// [`KeySetError`]; total on any input.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        let not_jwks = |error: serde_json::Error| KeySetError::NotJwks(shorten(&error.to_string()));
        let document: Document = serde_json::from_slice(bytes).map_err(not_jwks)?;
        let published = document.keys.len();
        let mut keys: Vec<VerifyingKey> = Vec::new();
        for (index, value) in document.keys.into_iter().enumerate() {
            if !matches!(value.get("kty").and_then(Value::as_str), Some("RSA" | "EC")) {
                continue;
            }
            let bad = |kid: Option<&str>, problem: String| {
                let kid = shorten(kid.unwrap_or_default());
                KeySetError::BadKey { index, kid, problem }
            };
            let jwk: Jwk = serde_json::from_value(value)
                .map_err(|error| bad(None, format!("is malformed: {}", shorten(&error.to_string()))))?;
            let kid = jwk.kid.clone();
            // A set of several keys is chosen from by kid, so a key without one cannot be meant.
            if kid.is_none() && published > 1 {
                continue;
            }
            let Some(key) = read(jwk).map_err(|problem| bad(kid.as_deref(), problem))? else { continue };
            if keys.iter().any(|other| other.kid == key.kid) {
                return Err(bad(kid.as_deref(), "has the same kid as another one".to_owned()));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        let ignored = published - keys.len();
        Ok(Self { keys, ignored })
    }

    /// How many keys may verify tokens.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys were ignored.
    pub(super) fn ignored(&self) -> usize {
        self.ignored
    }

    /// The key for a token with this header. A token without `kid` is given the only key of a set of one.
    ///
    /// # Errors
    /// [`NoKey`]: the algorithm is the key's to choose, never the token's (RFC 8725 section 3.1).
    pub(super) fn choose(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, NoKey> {
        let key = match (kid, self.keys.as_slice()) {
            (None, [only]) if self.ignored == 0 => Some(only),
            (None, _) => None,
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
        };
        let key = key.ok_or(NoKey::Unknown)?;
        if key.algorithms.contains(&algorithm) { Ok(&key.key) } else { Err(NoKey::OtherAlgorithm) }
    }
}

/// Reads one key: `None` when it is not for verifying our kinds of tokens, an error when it is but is unfit.
fn read(jwk: Jwk) -> Result<Option<VerifyingKey>, String> {
    let signs = jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
    let verifies = jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    if !signs || !verifies {
        return Ok(None);
    }
    let (mut algorithms, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (RSA.to_vec(), rsa(&jwk)?),
        ("EC", Some("P-256")) => (vec![Algorithm::ES256], point(&jwk, 32)?),
        ("EC", Some("P-384")) => (vec![Algorithm::ES384], point(&jwk, 48)?),
        ("EC", None) => return Err("names no curve".to_owned()),
        _ => return Ok(None),
    };
    if jwk.d.is_some() {
        return Err("holds a private key; publish only public keys and replace this one".to_owned());
    }
    if let Some(name) = &jwk.alg {
        let Some(named) = accepted(name) else { return Ok(None) };
        algorithms.retain(|algorithm| *algorithm == named);
        if algorithms.is_empty() {
            return Err(format!("is of another kind than its alg {:?} says", shorten(name)));
        }
    }
    Ok(Some(VerifyingKey { kid: jwk.kid, algorithms, key }))
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// The algorithm of this name, when tokens may use it: neither `none` nor any HMAC is among them.
pub(super) fn accepted(name: &str) -> Option<Algorithm> {
    match name {
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        _ => RSA.into_iter().find(|algorithm| format!("{algorithm:?}") == name),
    }
}

fn part(name: &str, value: Option<&str>) -> Result<Vec<u8>, String> {
    let value = value.ok_or_else(|| format!("has no {name}"))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| format!("has a {name} that is not base64url"))
}

fn rsa(jwk: &Jwk) -> Result<DecodingKey, String> {
    let (modulus, exponent) = (part("n", jwk.n.as_deref())?, part("e", jwk.e.as_deref())?);
    // RFC 7518 section 6.3.1.1 allows no leading zero, yet some publishers write one, and ring refuses it.
    let modulus: Vec<u8> = modulus.into_iter().skip_while(|byte| *byte == 0).collect();
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(format!("is RSA of {bits} bits, but 2048 to 8192 are needed"));
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn point(jwk: &Jwk, length: usize) -> Result<DecodingKey, String> {
    let (x, y) = (part("x", jwk.x.as_deref())?, part("y", jwk.y.as_deref())?);
    if x.len() != length || y.len() != length {
        return Err(format!("has coordinates of {} and {} bytes instead of {length}", x.len(), y.len()));
    }
    // An uncompressed point (SEC 1 section 2.3.3), which is what the verifier takes.
    Ok(DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn rsa_key(kid: &str, bits: usize) -> Value {
        json!({"kty": "RSA", "kid": kid, "n": URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]), "e": "AQAB"})
    }

    fn ec_key(kid: &str) -> Value {
        let part = URL_SAFE_NO_PAD.encode([1; 32]);
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": part, "y": part})
    }

    fn with(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
        key.as_object_mut().unwrap().insert(name.to_owned(), value.into());
        key
    }

    fn parse(keys: &[Value]) -> Result<(usize, usize), KeySetError> {
        let text = json!({ "keys": keys }).to_string();
        KeySet::parse(text.as_bytes()).map(|set| (set.len(), set.ignored()))
    }

    #[test]
    fn keys_of_unknown_type_curve_use_or_algorithm_are_ignored() {
        let good = rsa_key("good", 2048);
        let table = [
            json!({"kty": "oct", "kid": "a", "k": "AAAA"}),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AAAA"}),
            json!({"kty": "something new", "kid": "a", "x": [1, 2]}),
            json!(5),
            json!({"kid": "a"}),
            with(ec_key("a"), "crv", "P-521"),
            with(ec_key("a"), "use", "enc"),
            with(ec_key("a"), "use", "SIG"),
            with(ec_key("a"), "key_ops", vec!["encrypt"]),
            with(rsa_key("a", 2048), "alg", "RSA-OAEP"),
            with(rsa_key("a", 2048), "alg", "HS256"),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        ];
        for other in table {
            assert_eq!(parse(&[good.clone(), other.clone()]), Ok((1, 1)), "{other}");
        }
        assert_eq!(parse(&[good, with(with(ec_key("b"), "use", "sig"), "key_ops", vec!["verify"])]), Ok((2, 0)));
        assert_eq!(parse(&[with(ec_key("b"), "use", "enc")]), Err(KeySetError::NoUsableKey));
        assert_eq!(parse(&[]), Err(KeySetError::NoUsableKey));
    }

    #[test]
    fn weak_or_malformed_keys_spoil_the_set() {
        let table = [
            (rsa_key("a", 1024), "is RSA of 1024 bits, but 2048 to 8192 are needed"),
            (rsa_key("a", 2040), "is RSA of 2040 bits, but 2048 to 8192 are needed"),
            (rsa_key("a", 8200), "is RSA of 8200 bits, but 2048 to 8192 are needed"),
            (with(rsa_key("a", 2048), "n", ""), "is RSA of 0 bits, but 2048 to 8192 are needed"),
            (with(rsa_key("a", 2048), "n", "a+b="), "has a n that is not base64url"),
            (json!({"kty": "RSA", "kid": "a", "n": "AQAB"}), "has no e"),
            (with(ec_key("a"), "x", "AAAA"), "has coordinates of 3 and 32 bytes instead of 32"),
            (with(ec_key("a"), "alg", "RS256"), "is of another kind than its alg \"RS256\" says"),
            (with(ec_key("a"), "alg", "ES384"), "is of another kind than its alg \"ES384\" says"),
            (with(ec_key("a"), "d", "AAAA"), "holds a private key; publish only public keys and replace this one"),
            (ec_key("good"), "has the same kid as another one"),
        ];
        for (key, problem) in table {
            let kid = key.get("kid").unwrap().as_str().unwrap().to_owned();
            let expected = KeySetError::BadKey { index: 1, kid, problem: problem.to_owned() };
            assert_eq!(parse(&[ec_key("good"), key]), Err(expected));
        }
        for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]", "{\"keys\":[],\"keys\":[]}", "\u{0}"] {
            assert!(matches!(KeySet::parse(text.as_bytes()), Err(KeySetError::NotJwks(_))), "{text:?}");
        }
        let odd = "{\"keys\":[{\"kty\":\"RSA\",\"n\":[1]}]}";
        assert!(matches!(KeySet::parse(odd.as_bytes()), Err(KeySetError::BadKey { index: 0, .. })));
    }

    #[test]
    fn a_token_without_kid_is_given_the_only_key_of_a_set_of_one() {
        let set = |keys: &[Value]| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let choose = |set: &KeySet, kid, algorithm| set.choose(kid, algorithm).map(drop);
        let one = set(&[ec_key("a")]);
        assert_eq!(choose(&one, None, Algorithm::ES256), Ok(()));
        assert_eq!(choose(&one, Some("a"), Algorithm::ES256), Ok(()));
        assert_eq!(choose(&one, Some("b"), Algorithm::ES256), Err(NoKey::Unknown));
        let two = set(&[ec_key("a"), rsa_key("b", 2048)]);
        assert_eq!(choose(&two, None, Algorithm::ES256), Err(NoKey::Unknown));
        assert_eq!(choose(&two, Some("b"), Algorithm::PS512), Ok(()));
        let filtered = set(&[ec_key("a"), with(ec_key("b"), "use", "enc")]);
        assert_eq!(choose(&filtered, None, Algorithm::ES256), Err(NoKey::Unknown));
    }

    #[test]
    fn a_key_verifies_only_algorithms_of_its_own_kind_and_alg() {
        let only = |key| KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
        let all =
            ["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|n| accepted(n).unwrap());
        let fits = |set: &KeySet| all.iter().filter(|algorithm| set.choose(Some("a"), **algorithm).is_ok()).count();
        assert_eq!(fits(&only(ec_key("a"))), 1);
        assert_eq!(fits(&only(rsa_key("a", 2048))), 6);
        assert_eq!(fits(&only(with(rsa_key("a", 2048), "alg", "RS256"))), 1);
        for name in ["none", "None", "", "HS256", "HS384", "HS512", "EdDSA", "ES512", "es256", "RS1"] {
            assert_eq!(accepted(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn reading_a_key_set_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(KeySet::parse(&bytes));
        }
    }
}
