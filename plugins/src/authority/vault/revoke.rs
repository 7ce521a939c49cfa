//! Revokes certificates in a Vault, and has its list made anew when that does not say so by itself.

use rustls_pki_types::CertificateDer;
use signet_core::certificate::Facts;
use signet_core::pem::pem;
use signet_core::seams::certificate_authority::SignError;

use super::VaultAuthority;
use super::calls;
use super::error::VaultError;
use super::lists::Reader;
use super::probe::{may, with_right};

pub(super) const REVOKE: &str = "revoke a certificate";
pub(super) const REBUILD: &str = "make its revocation list anew";

impl VaultAuthority {
    /// Revokes a certificate of one of the issuers of the mount. One that is revoked already stays as it is.
    pub(super) async fn revoked(&self, certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        let path = self.settings.revoke_path();
        // By itself, since Vault need not have stored it.
        let text = pem(certificate);
        let answer = self.session.call(REVOKE, || calls::revoke(&path, &text)).await;
        answer.map_err(|error| with_right(error, &path, "update"))?;
        tracing::info!(vault = %self.settings.address, "a certificate is revoked in Vault");
        self.list_anew(certificate).await?;
        // What others are to be told of is read at once; whatever is wrong with that is told where it is looked at.
        drop(self.look().await);
        Ok(())
    }

    /// With `auto_rebuild`, Vault makes its list anew only shortly before that ends.
    async fn list_anew(&self, certificate: &CertificateDer<'static>) -> Result<(), VaultError> {
        let Ok(facts) = Facts::read(certificate) else { return Ok(()) };
        let reader = Reader { transport: &self.session.transport, settings: &self.settings, now: self.clock.now() };
        let issuers = self.state().lists.clone();
        for (key, issuer) in issuers.named(&facts.issuer_der) {
            // What cannot be read is told where lists are read.
            let Ok(list) = reader.list(key, issuer).await else { continue };
            if list.revokes(&facts.serial_text()) {
                return Ok(());
            }
        }
        let path = self.settings.rebuild_path();
        match self.session.call(REBUILD, || calls::read(&path)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_outage() => Err(error),
            // It is revoked all the same, and on the next list.
            Err(error) => {
                let error = with_right(error, &path, "read");
                tracing::warn!(%error, "a certificate is revoked in Vault, and is on its list only when that is made anew");
                Ok(())
            }
        }
    }

    /// What the policy lacks for revocation; nothing else needs it.
    pub(super) async fn lines_for_revocation(&self) -> Vec<String> {
        let mut lacking = Vec::new();
        for (what, path, right) in
            [(REVOKE, self.settings.revoke_path(), "update"), (REBUILD, self.settings.rebuild_path(), "read")]
        {
            if let Err(error) = may(&self.session, what, &path, right).await {
                lacking.push(format!("{error}; only revocation needs that (docs/vault.md)"));
            }
        }
        lacking
    }
}

#[cfg(test)]
#[path = "revoke_tests.rs"]
mod tests;
