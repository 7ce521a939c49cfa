//! A throw-away cluster: its signing key, its JWKS, and service-account tokens with the claims of real projected ones.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey};
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Failure;

/// The issuer that a cluster has unless somebody changed it.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The signing key of a throw-away cluster.
pub(super) struct ClusterKey {
    key: RsaPrivateKey,
}

/// What a token says.
pub(super) struct TokenClaims<'a> {
    pub(super) namespace: &'a str,
    pub(super) service_account: &'a str,
    pub(super) audience: &'a str,
    pub(super) issuer: &'a str,
    /// Whether the token is bound to a pod and its node, as projected ones are.
    pub(super) bound: bool,
    pub(super) issued_at: OffsetDateTime,
    pub(super) ttl: Duration,
}

impl ClusterKey {
    /// Makes an RSA-2048 key, as kubeadm does.
    pub(super) fn generate() -> Result<Self, Failure> {
        let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).map_err(Failure::failed)?;
        Ok(Self { key })
    }

    pub(super) fn from_pem(pem: &str) -> Result<Self, Failure> {
        let key = RsaPrivateKey::from_pkcs1_pem(pem).map_err(Failure::failed)?;
        Ok(Self { key })
    }

    pub(super) fn to_pem(&self) -> Result<String, Failure> {
        let pem = self.key.to_pkcs1_pem(rsa::pkcs8::LineEnding::LF).map_err(Failure::failed)?;
        Ok(pem.as_str().to_owned())
    }

    /// The published half, as the API server shows it at `/openid/v1/jwks`.
    pub(super) fn jwks(&self) -> Value {
        let public = self.key.to_public_key();
        json!({ "keys": [{
            "use": "sig",
            "kty": "RSA",
            "kid": self.kid(),
            "alg": "RS256",
            "n": URL_SAFE_NO_PAD.encode(public.n().to_bytes_be()),
            "e": URL_SAFE_NO_PAD.encode(public.e().to_bytes_be()),
        }] })
    }

    /// Signs a token.
    pub(super) fn token(&self, claims: &TokenClaims<'_>) -> Result<String, Failure> {
        let der = self.key.to_pkcs1_der().map_err(Failure::failed)?;
        let key = EncodingKey::from_rsa_der(der.as_bytes());
        let header = Header { typ: None, kid: Some(self.kid()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims.json(), &key).map_err(Failure::failed)
    }

    fn kid(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.key.to_public_key().n().to_bytes_be());
        URL_SAFE_NO_PAD.encode(digest)
    }
}

impl TokenClaims<'_> {
    fn json(&self) -> Value {
        // Kubernetes makes names of pods so that they fit a label.
        let beginning: String = self.service_account.chars().take(46).collect();
        let name = format!("{}-{}", beginning.trim_end_matches(['-', '.']), "5d9c6b7f8d-x2x4v");
        let mut kubernetes = json!({
            "namespace": self.namespace,
            "serviceaccount": { "name": self.service_account, "uid": uid(&[self.namespace, self.service_account]) },
        });
        if let (true, Some(object)) = (self.bound, kubernetes.as_object_mut()) {
            object.insert("pod".to_owned(), json!({ "name": name, "uid": uid(&[self.namespace, &name]) }));
            object.insert("node".to_owned(), json!({ "name": "dev-node", "uid": uid(&["node", "dev-node"]) }));
        }
        let issued_at = self.issued_at.unix_timestamp();
        let lifetime = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        json!({
            "aud": [self.audience],
            "exp": issued_at.saturating_add(lifetime),
            "iat": issued_at,
            "iss": self.issuer,
            "jti": uid(&["jti", self.namespace, self.service_account, &issued_at.to_string()]),
            "kubernetes.io": kubernetes,
            "nbf": issued_at,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.service_account),
        })
    }
}

/// A UID in the form of a version 4 UUID; the same parts always give the same one.
fn uid(parts: &[&str]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, parts.join("/").as_bytes());
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}
