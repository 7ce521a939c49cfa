//! A client of the CA: a TLS channel that trusts the installation's root file, and calls over it.

use std::net::SocketAddr;
use std::time::Duration;

use signet_proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::ask::Ask;
use super::{csr, tls};
use crate::failure::{Failure, Outcome};
use crate::harness::Dev;

/// The response header that says which trust bundle a reply carries.
pub const BUNDLE_SEQUENCE: &str = "signet-bundle-sequence";

/// A reply.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The list of PEM texts.
    pub cert_chain: Vec<String>,
    /// The sequence of the bundle in it, when the CA says so.
    pub bundle_sequence: Option<u64>,
}

/// A connected client.
#[derive(Clone)]
pub struct Client {
    /// The channel, for other services on the same port.
    pub channel: Channel,
    service: IstioCertificateServiceClient<Channel>,
}

impl Client {
    /// Connects to the CA of an installation.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn connect(dev: &Dev) -> Outcome<Self> {
        let channel =
            Self::endpoint(dev)?.connect().await.map_err(Failure::while_doing("connect to the CA over TLS"))?;
        Ok(Self::over(channel))
    }

    /// Connects to a CA with trust in these PEM roots and no others.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn trusting(address: SocketAddr, roots: &str) -> Outcome<Self> {
        let endpoint = Self::endpoint_with(address, Self::trust(roots))?;
        let channel = endpoint.connect().await.map_err(Failure::while_doing("connect to the CA over TLS"))?;
        Ok(Self::over(channel))
    }

    /// The same where the CA's certificate has this name.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn called(name: &str, address: SocketAddr, roots: &str) -> Outcome<Self> {
        let endpoint = Self::endpoint_with(address, Self::trust(roots).domain_name(name))?;
        let channel = endpoint.connect().await.map_err(Failure::while_doing("connect to the CA over TLS"))?;
        Ok(Self::over(channel))
    }

    /// How to reach the CA of an installation.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn endpoint(dev: &Dev) -> Outcome<Endpoint> {
        Self::endpoint_with(dev.listen, Self::trust(&dev.text("root-cert.pem")?))
    }

    /// TLS that trusts these PEM roots, to which a client certificate may be added.
    #[must_use]
    pub fn trust(roots: &str) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots)).domain_name(tls::SERVER_NAME)
    }

    /// How to reach a CA with this TLS.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn endpoint_with(address: SocketAddr, tls: ClientTlsConfig) -> Outcome<Endpoint> {
        Endpoint::from_shared(format!("https://{address}"))
            .map_err(Failure::while_doing("name the CA's address"))?
            .connect_timeout(Duration::from_secs(30))
            .timeout(Duration::from_secs(60))
            .tls_config(tls)
            .map_err(Failure::while_doing("configure TLS"))
    }

    /// Uses an existing channel.
    #[must_use]
    pub fn over(channel: Channel) -> Self {
        let service = IstioCertificateServiceClient::new(channel.clone()).max_encoding_message_size(8 << 20);
        Self { channel, service }
    }

    /// Makes the call; the reply's list of PEM texts.
    ///
    /// # Errors
    /// The status of the CA.
    pub async fn call(&self, ask: &Ask) -> Result<Vec<String>, Status> {
        Ok(self.answer(ask).await?.cert_chain)
    }

    /// Makes the call; the reply with what its headers say.
    ///
    /// # Errors
    /// The status of the CA.
    pub async fn answer(&self, ask: &Ask) -> Result<Answer, Status> {
        let request = ask.request().map_err(|failure| Status::unknown(failure.to_string()))?;
        let (headers, message, _) = self.service.clone().create_certificate(request).await?.into_parts();
        let bundle_sequence = headers.get(BUNDLE_SEQUENCE).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { cert_chain: message.cert_chain, bundle_sequence })
    }

    /// Makes a call that must succeed.
    ///
    /// # Errors
    /// [`Failure::Unexpected`].
    pub async fn issued(&self, ask: &Ask) -> Outcome<Vec<String>> {
        self.call(ask)
            .await
            .map_err(|status| Failure::unexpected(format!("refused with {:?}: {}", status.code(), status.message())))
    }

    /// Makes a call that must be refused with this code; gives the message.
    ///
    /// # Errors
    /// [`Failure::Unexpected`].
    pub async fn refused(&self, ask: &Ask, code: Code) -> Outcome<String> {
        match self.call(ask).await {
            Err(status) if status.code() == code => Ok(status.message().to_owned()),
            Err(status) => Err(Failure::unexpected(format!(
                "refused with {:?} instead of {code:?}: {}",
                status.code(),
                status.message()
            ))),
            Ok(_) => Err(Failure::unexpected(format!("issued a certificate instead of refusing with {code:?}"))),
        }
    }

    /// A certificate of one of the installation's workloads, on a new P-256 key.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn certificate(&self, dev: &Dev, workload: &str) -> Outcome<Vec<String>> {
        self.issued(&Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token(workload)?)).await
    }
}
