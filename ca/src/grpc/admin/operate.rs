//! What the operators' service needs of the CA, so that the service can be tested without one.

use async_trait::async_trait;
use signet_core::certificate::Serial;
use signet_core::holder::{Holder, HolderQuery};
use signet_core::revocation::RevocationReason;
use signet_core::rotation::Command;

use crate::operations::{Done, OperationError, Operations, Operator, RevokedCertificate, View};

/// What operators can ask for. [`Operations`] does it.
#[async_trait]
pub trait Operate: Send + Sync + 'static {
    /// Where rotation stands, from storage.
    ///
    /// # Errors
    /// [`OperationError`].
    async fn view(&self) -> Result<View, OperationError>;

    /// Carries out a command and says what was done.
    ///
    /// # Errors
    /// [`OperationError`].
    async fn command(
        &self,
        operator: &Operator,
        command: Command,
        reason: &str,
    ) -> Result<(Done, View), OperationError>;

    /// Puts a certificate on the revocation list, or takes it off with `clear`.
    ///
    /// # Errors
    /// [`OperationError`].
    async fn revoke_certificate(
        &self,
        operator: &Operator,
        serial: Serial,
        reason: RevocationReason,
        clear: bool,
    ) -> Result<RevokedCertificate, OperationError>;

    /// Holders of unexpired certificates.
    ///
    /// # Errors
    /// [`OperationError`].
    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, OperationError>;
}

#[async_trait]
impl Operate for Operations {
    async fn view(&self) -> Result<View, OperationError> {
        self.view().await
    }
    async fn command(
        &self,
        operator: &Operator,
        command: Command,
        reason: &str,
    ) -> Result<(Done, View), OperationError> {
        self.command(operator, command, reason).await
    }
    async fn revoke_certificate(
        &self,
        operator: &Operator,
        serial: Serial,
        reason: RevocationReason,
        clear: bool,
    ) -> Result<RevokedCertificate, OperationError> {
        self.revoke_certificate(operator, serial, reason, clear).await
    }
    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, OperationError> {
        self.holders(query).await
    }
}
