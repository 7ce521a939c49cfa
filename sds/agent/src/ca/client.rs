//! The client of the mesh CA: one connection per call.
//!
//! A certificate lasts hours and a call a few milliseconds, so nothing is gained by keeping the connection: a changed
//! root file, a moved CA and a broken connection all need no further care.

use std::sync::Arc;
use std::time::Duration;

use signet_core::secret::Secret;
use signet_proto::istio::IstioCertificateRequest;
use signet_proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::ca::channel::{CaChannel, CaError};
use crate::ca::reply::Reply;

/// Says that the agent keeps a bundle stream and acknowledges what comes on it, so that the bundle in a reply does not
/// count as received.
pub(crate) const BUNDLE_HEADER: &str = "signet-bundle";

/// The sequence of the bundle in the CA's reply.
pub(crate) const SEQUENCE_HEADER: &str = "signet-bundle-sequence";

/// The largest reply that is read, in bytes.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// Whether the agent keeps a bundle stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledges {
    /// Bundles are acknowledged on their own stream.
    OnStream,
    /// There is no stream: having got the reply is all there is.
    Never,
}

/// Asks the CA for certificates.
pub(crate) struct CaClient {
    channel: Arc<CaChannel>,
    acknowledges: Acknowledges,
}

impl CaClient {
    /// Asks over `channel`.
    #[must_use]
    pub(crate) fn new(channel: Arc<CaChannel>, acknowledges: Acknowledges) -> Self {
        Self { channel, acknowledges }
    }

    /// Sends one `CreateCertificate` call and gives the reply as it came.
    ///
    /// # Errors
    /// [`CaError`]; never later than the configured timeout.
    pub(crate) async fn create_certificate(
        &self,
        csr_pem: String,
        ttl: Duration,
        token: &Secret,
    ) -> Result<Reply, CaError> {
        self.channel.within(self.call(csr_pem, ttl, token)).await
    }

    async fn call(&self, csr: String, ttl: Duration, token: &Secret) -> Result<Reply, CaError> {
        let channel = self.channel.connect().await?;
        let validity_duration = Some(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let message = IstioCertificateRequest { csr, validity_duration, metadata: None };
        let mut request = self.channel.request(message, token)?;
        if self.acknowledges == Acknowledges::OnStream {
            request.metadata_mut().insert(BUNDLE_HEADER, AsciiMetadataValue::from_static("stream"));
        }
        let mut client = IstioCertificateServiceClient::new(channel).max_decoding_message_size(MAX_REPLY_BYTES);
        let reply = client.create_certificate(request).await.map_err(|status| self.channel.refused(&status))?;
        let sequence = sequence(reply.metadata());
        Ok(Reply { elements: reply.into_inner().cert_chain, sequence })
    }
}

/// The sequence, if the CA tells one that makes sense.
fn sequence(headers: &MetadataMap) -> Option<u64> {
    headers.get(SEQUENCE_HEADER)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_sequence_is_a_decimal_number_or_unknown() {
        for (text, expected) in
            [("7", Some(7)), ("", None), ("-1", None), ("0x7", None), ("18446744073709551616", None)]
        {
            let mut headers = MetadataMap::new();
            headers.insert(SEQUENCE_HEADER, text.parse().unwrap());
            assert_eq!(sequence(&headers), expected, "{text}");
        }
        assert_eq!(sequence(&MetadataMap::new()), None);
    }
}
