//! One published key (RFC 7517 section 4, RFC 7518 section 6): may it verify tokens, and if not, why?

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use serde_json::{Map, Value};

use super::shorten;

/// What only a private key has (RFC 7518 sections 6.2.2 and 6.3.2). Who published it is nobody's proof of anything.
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

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

/// A key that may verify tokens.
pub(super) struct VerifyingKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    /// The two numbers that make the key, in one spelling, to find the same one again.
    numbers: [Vec<u8>; 2],
    key: DecodingKey,
}

impl VerifyingKey {
    /// Its `kid`; an empty one is none.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key, when it is for this algorithm.
    pub(super) fn for_algorithm(&self, algorithm: Algorithm) -> Option<&DecodingKey> {
        self.algorithms.contains(&algorithm).then_some(&self.key)
    }

    /// Whether both are the same key for the same purpose.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        (&self.kid, &self.algorithms, &self.numbers) == (&other.kid, &other.algorithms, &other.numbers)
    }

    /// Whether a token may mean either of them.
    pub(super) fn is_confusable_with(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algorithms.iter().any(|algorithm| other.algorithms.contains(algorithm))
    }
}

/// The `kid` of an entry; an empty one names nothing, and libraries leave it out of their tokens.
pub(super) fn kid(entry: &Value) -> Option<&str> {
    entry.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty())
}

/// Reads an entry of a set. A member given twice counts with its last value (RFC 7517 section 4).
///
/// # Errors
/// Why it cannot verify tokens, to stand behind its name.
pub(super) fn read(entry: &Value) -> Result<VerifyingKey, String> {
    let members = Members(entry.as_object().ok_or("is not a JSON object")?);
    let kty = members.text("kty")?.ok_or("has no kty")?;
    let (curve, alg) = (members.text("crv")?, members.text("alg")?);
    members.text("kid")?;
    members.check_purpose()?;
    if !matches!(kty, "RSA" | "EC") {
        return Err(format!("is of the type {:?}; tokens are verified with RSA and EC keys", shorten(kty)));
    }
    if let Some(name) = PRIVATE.iter().find(|name| members.get(name).is_some()) {
        return Err(format!("is a private key (it has {name:?}); replace it, and publish public keys only"));
    }
    let (mut algorithms, numbers, key) = match (kty, curve) {
        ("RSA", _) => members.rsa()?,
        (_, Some("P-256")) => members.point(Algorithm::ES256, 32, &agreement::ECDH_P256)?,
        (_, Some("P-384")) => members.point(Algorithm::ES384, 48, &agreement::ECDH_P384)?,
        (_, None) => return Err("has no crv".to_owned()),
        (_, Some(other)) => {
            return Err(format!("is on the curve {:?}; use P-256 or P-384", shorten(other)));
        }
    };
    if let Some(name) = alg {
        let named = accepted(name);
        let named = named.ok_or_else(|| format!("is for alg {:?}; use RS, PS or ES", shorten(name)))?;
        algorithms.retain(|algorithm| *algorithm == named);
        if algorithms.is_empty() {
            return Err(format!("is of another kind than its alg {name:?} says"));
        }
    }
    Ok(VerifyingKey { kid: kid(entry).map(str::to_owned), algorithms, numbers, key })
}

/// The members of a key. `null` is as good as absent.
struct Members<'v>(&'v Map<String, Value>);

type Read = (Vec<Algorithm>, [Vec<u8>; 2], DecodingKey);

impl<'v> Members<'v> {
    fn get(&self, name: &str) -> Option<&'v Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'v str>, String> {
        let text = |value: &'v Value| value.as_str().ok_or_else(|| format!("has a {name} that is not text"));
        self.get(name).map(text).transpose()
    }

    /// RFC 7517 sections 4.2 and 4.3: both may be absent.
    fn check_purpose(&self) -> Result<(), String> {
        if let Some(purpose) = self.text("use")?.filter(|purpose| *purpose != "sig") {
            return Err(format!("is for use {:?}, not \"sig\"", shorten(purpose)));
        }
        let Some(operations) = self.get("key_ops") else { return Ok(()) };
        let operations = operations.as_array().ok_or("has key_ops that are not a list")?;
        if operations.iter().any(|operation| operation == "verify") {
            return Ok(());
        }
        Err("has key_ops without \"verify\"".to_owned())
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, String> {
        let text = self.text(name)?.ok_or_else(|| format!("has no {name}"))?;
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| format!("has a {name} that is not base64url without padding (RFC 7515 section 2)"))
    }

    /// An unsigned number. RFC 7518 section 2 allows no leading zero, yet some publishers write one, and ring refuses
    /// it.
    fn number(&self, name: &str) -> Result<Vec<u8>, String> {
        Ok(self.bytes(name)?.into_iter().skip_while(|byte| *byte == 0).collect())
    }

    /// What ring would refuse at each token is refused here once: an even modulus, and an exponent that is even, below 3
    /// or longer than 33 bits.
    fn rsa(&self) -> Result<Read, String> {
        let (modulus, exponent) = (self.number("n")?, self.number("e")?);
        let bits = bits(&modulus);
        if !(2048..=8192).contains(&bits) {
            return Err(format!("is RSA of {bits} bits; use 2048 to 8192"));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        if !is_odd(&modulus) {
            return Err("has an even modulus, which no RSA key has".to_owned());
        }
        if !is_odd(&exponent) || !(2..=33).contains(&self::bits(&exponent)) {
            return Err("has an exponent that is even, below 3 or above 2^33; use 65537 (\"AQAB\")".to_owned());
        }
        let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
        Ok((RSA.to_vec(), [modulus, exponent], key))
    }

    fn point(&self, algorithm: Algorithm, length: usize, curve: &'static agreement::Algorithm) -> Result<Read, String> {
        let (x, y) = (self.bytes("x")?, self.bytes("y")?);
        // RFC 7518 section 6.2.1.2: the full size, with leading zeros.
        if x.len() != length || y.len() != length {
            return Err(format!("has coordinates of {} and {} bytes instead of {length}", x.len(), y.len()));
        }
        // An uncompressed point (SEC 1 section 2.3.3), which is what the verifier takes.
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        if !is_on(curve, &point) {
            return Err("has coordinates of no point of its curve".to_owned());
        }
        Ok((vec![algorithm], [x, y], DecodingKey::from_ec_der(&point)))
    }
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// Whether the curve has this point. ring looks only where a key is used, and a verification that fails does not say
/// for what; an agreement with a key that is thrown away does.
fn is_on(curve: &'static agreement::Algorithm, point: &[u8]) -> bool {
    // Without randomness nobody can tell here; the verification of a token still does.
    let Ok(private) = EphemeralPrivateKey::generate(curve, &SystemRandom::new()) else { return true };
    agree_ephemeral(private, &UnparsedPublicKey::new(curve, point), |_| ()).is_ok()
}
