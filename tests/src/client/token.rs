//! Service-account tokens: the ones of the installation, taken apart, bent in one place and signed anew.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::harness::Dev;

/// A token's parts, to be changed and signed.
#[derive(Debug, Clone)]
pub struct Token {
    /// The JOSE header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
}

impl Token {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Failure::Unexpected`].
    pub fn read(token: &str) -> Outcome<Self> {
        let mut parts = token.split('.');
        let mut part =
            || -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok() };
        match (part(), part()) {
            (Some(header), Some(claims)) => Ok(Self { header, claims }),
            _ => Err(Failure::unexpected("the token is not a JWT")),
        }
    }

    /// Header and claims as they are signed.
    #[must_use]
    pub fn signing_input(&self) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", encode(&self.header), encode(&self.claims))
    }

    /// The token for another service account, with names and uids of its own, as the cluster would mint it.
    #[must_use]
    pub fn of(&self, namespace: &str, service_account: &str) -> Self {
        let mut token = self.clone();
        if let Some(claims) = token.claims.as_object_mut() {
            claims.insert("sub".into(), format!("system:serviceaccount:{namespace}:{service_account}").into());
        }
        for (pointer, value) in [
            ("/kubernetes.io/namespace", namespace.to_owned()),
            ("/kubernetes.io/serviceaccount/name", service_account.to_owned()),
            ("/kubernetes.io/serviceaccount/uid", format!("sa-{namespace}-{service_account}")),
            ("/kubernetes.io/pod/name", format!("{service_account}-0")),
            ("/kubernetes.io/pod/uid", format!("pod-{namespace}-{service_account}")),
        ] {
            if let Some(slot) = token.claims.pointer_mut(pointer) {
                *slot = value.into();
            }
        }
        token
    }
}

/// The key of the throw-away cluster.
pub struct ClusterKey {
    key: RsaKeyPair,
    random: SystemRandom,
}

impl ClusterKey {
    /// The key with which an installation's tokens are signed.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn of(dev: &Dev) -> Outcome<Self> {
        Self::parse(&dev.text("cluster-signing-key.pem")?)
    }

    /// Reads an RSA key from PEM, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn parse(pem: &str) -> Outcome<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(Failure::while_doing("read a key"))?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            der => RsaKeyPair::from_der(der.secret_der()),
        };
        let key = key.map_err(|error| Failure::unexpected(format!("the cluster key is not usable: {error}")))?;
        Ok(Self { key, random: SystemRandom::new() })
    }

    /// Signs a token by RS256.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn sign(&self, token: &Token) -> Outcome<String> {
        self.sign_text(&token.signing_input())
    }

    /// Signs any text as if it were header and claims.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn sign_text(&self, input: &str) -> Outcome<String> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &self.random, input.as_bytes(), &mut signature)
            .map_err(|_| Failure::unexpected("the cluster key did not sign"))?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The public key as PKCS#1 DER.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        use ring::signature::KeyPair as _;
        self.key.public_key().as_ref()
    }
}

/// Now, in seconds since 1970: tokens are bent relative to it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the processes under test read the real clock")]
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
