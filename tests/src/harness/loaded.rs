//! The secrets that an Envoy has loaded, from its own dump of its configuration.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Envoy;
use crate::client::keys;
use crate::failure::{Failure, Outcome, ensure};
use crate::judge::Case;

/// What a proxy identifies itself with and verifies others with. Private keys are not in the dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The certificate chain, PEM.
    pub chain: String,
    /// The roots, PEM.
    pub roots: String,
    /// The revocation lists, PEM; empty when there are none.
    pub lists: String,
}

impl Secrets {
    /// The serial number of the leaf, 32 hexadecimal digits.
    ///
    /// # Errors
    /// [`Failure`] when there is none.
    pub fn serial(&self) -> Outcome<String> {
        Ok(keys::serial(&keys::facts(&self.chain)?))
    }

    /// Judges by OpenSSL that the leaf chains to each of these PEM texts of roots.
    ///
    /// # Errors
    /// [`Failure`] that names the text.
    pub fn chains_to(&self, roots: &[(&str, &str)]) -> Outcome {
        let elements = keys::split(&self.chain);
        let mut own = elements.iter();
        let leaf = own.next().ok_or_else(|| Failure::unexpected("Envoy has no certificate"))?;
        // istio-agent puts the roots at the end of the chain; they prove nothing here.
        let between: Vec<String> = own.filter(|pem| !self.is_root(pem)).cloned().collect();
        for (name, text) in roots {
            let reply: Vec<String> =
                [vec![leaf.clone()], between.clone(), vec![(*text).to_owned()]].into_iter().flatten().collect();
            let case = Case::new(&reply)?;
            for purpose in ["sslclient", "sslserver"] {
                case.verifies_for(purpose).map_err(|failure| {
                    Failure::unexpected(format!("the leaf does not chain to {name} as {purpose}: {failure}"))
                })?;
            }
        }
        Ok(())
    }

    fn is_root(&self, pem: &str) -> bool {
        keys::facts(pem).is_ok_and(|facts| facts.issuer_der == facts.subject_der)
    }
}

impl Envoy {
    /// The secrets it has loaded.
    ///
    /// # Errors
    /// [`Failure`], also when one is missing.
    pub async fn secrets(&self) -> Outcome<Secrets> {
        let secrets = self.fetched().await?;
        ensure(!secrets.chain.is_empty() && !secrets.roots.is_empty(), || {
            format!("Envoy lacks a secret: {secrets:?}")
        })?;
        Ok(secrets)
    }

    /// The roots it has loaded over SDS, PEM; empty when there are none. Its certificate may be from elsewhere.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn roots(&self) -> Outcome<String> {
        Ok(self.fetched().await?.roots)
    }

    async fn fetched(&self) -> Outcome<Secrets> {
        let text = self.dump("/config_dump?resource=dynamic_active_secrets").await?;
        let dump: Value = serde_json::from_str(&text).map_err(Failure::while_doing("read Envoy's configuration"))?;
        let mut secrets = Secrets::default();
        for entry in dump.get("configs").and_then(Value::as_array).into_iter().flatten() {
            let source = |pointer: &str| -> Outcome<Option<String>> {
                entry.pointer(&format!("/secret/{pointer}")).map(inline).transpose()
            };
            secrets.chain += &source("tls_certificate/certificate_chain")?.unwrap_or_default();
            secrets.roots += &source("validation_context/trusted_ca")?.unwrap_or_default();
            secrets.lists += &source("validation_context/crl")?.unwrap_or_default();
        }
        Ok(secrets)
    }
}

/// The content of a data source that carries it inline.
fn inline(source: &Value) -> Outcome<String> {
    if let Some(text) = source.get("inline_string").and_then(Value::as_str) {
        return Ok(text.to_owned());
    }
    let encoded = source.get("inline_bytes").and_then(Value::as_str);
    let encoded = encoded.ok_or_else(|| Failure::unexpected(format!("a secret that is not inline: {source}")))?;
    let bytes = STANDARD.decode(encoded).map_err(Failure::while_doing("decode a secret in Envoy's dump"))?;
    String::from_utf8(bytes).map_err(Failure::while_doing("read a secret in Envoy's dump"))
}
