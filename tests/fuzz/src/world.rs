//! The small world that targets judge inputs in: one instant, one CA, one key. The keys guard nothing; they lie in the tree
//! so that inputs stay valid.

use std::sync::LazyLock;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// The time at which everything is judged.
pub const NOW: OffsetDateTime = time::macros::datetime!(2026-12-01 00:00 UTC);

/// The published half of [`signed_as_token`]'s key.
pub const JWKS: &str = include_str!("../fixtures/jwks.json");

const ROOT: &str = include_str!("../fixtures/root-cert.pem");
const OTHER_ROOT: &str = include_str!("../fixtures/other-root.pem");
const ISSUER: &str = include_str!("../fixtures/issuer-cert.pem");
const LEAF: &str = include_str!("../fixtures/leaf-cert.pem");
const UPSTREAM_ROOT: &str = include_str!("../fixtures/upstream-root.pem");
const KEY: &str = include_str!("../fixtures/key.pem");

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap_or_else(|_| Vec::new().into())
}

/// The root.
#[must_use]
pub fn root() -> CertificateDer<'static> {
    certificate(ROOT)
}

/// A root of somebody else.
#[must_use]
pub fn other_root() -> CertificateDer<'static> {
    certificate(OTHER_ROOT)
}

/// The root of a backend that certifies issuing CAs; its key is that of [`issuer`].
#[must_use]
pub fn upstream_root() -> CertificateDer<'static> {
    certificate(UPSTREAM_ROOT)
}

/// The issuing CA below the root; its key signs everything here.
#[must_use]
pub fn issuer() -> CertificateDer<'static> {
    certificate(ISSUER)
}

/// A leaf below the issuing CA.
#[must_use]
pub fn leaf() -> CertificateDer<'static> {
    certificate(LEAF)
}

struct Keys {
    for_tokens: EcdsaKeyPair,
    for_der: EcdsaKeyPair,
}

static KEYS: LazyLock<Option<Keys>> = LazyLock::new(|| {
    Some(Keys { for_tokens: key(&ECDSA_P256_SHA256_FIXED_SIGNING)?, for_der: key(&ECDSA_P256_SHA256_ASN1_SIGNING)? })
});

fn key(algorithm: &'static EcdsaSigningAlgorithm) -> Option<EcdsaKeyPair> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).ok()?;
    EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &SystemRandom::new()).ok()
}

fn sign(choose: fn(&Keys) -> &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    let signature = KEYS.as_ref().and_then(|keys| choose(keys).sign(&SystemRandom::new(), message).ok());
    signature.map(|signature| signature.as_ref().to_vec()).unwrap_or_default()
}

/// A signature as tokens have it (RFC 7518 section 3.4).
#[must_use]
pub fn signed_as_token(message: &[u8]) -> Vec<u8> {
    sign(|keys| &keys.for_tokens, message)
}

/// A signature as certificates have it.
#[must_use]
pub fn signed_as_der(message: &[u8]) -> Vec<u8> {
    sign(|keys| &keys.for_der, message)
}

/// The public half of the key, as an uncompressed point.
#[must_use]
pub fn public_point() -> Vec<u8> {
    KEYS.as_ref().map(|keys| keys.for_der.public_key().as_ref().to_vec()).unwrap_or_default()
}
