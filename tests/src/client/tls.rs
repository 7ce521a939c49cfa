//! TLS to the CA, down to versions and protocols.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::failure::{Failure, Outcome};

/// The name that the CA of an installation carries in its serving certificate.
pub const SERVER_NAME: &str = "localhost";

/// A client configuration that trusts a PEM bundle, with exactly these versions and ALPN protocols.
///
/// # Errors
/// [`Failure`].
pub fn config(
    roots: &str,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> Outcome<Arc<ClientConfig>> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        let root = root.map_err(Failure::while_doing("read a root"))?;
        store.add(root).map_err(Failure::while_doing("trust a root"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(Failure::while_doing("choose TLS versions"))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// A finished handshake.
///
/// # Errors
/// [`Failure`] when there is no connection or the handshake fails.
pub async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> Outcome<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.map_err(Failure::io(format!("connect to {address}")))?;
    over(stream, config).await
}

/// The same over a connection that is there already.
///
/// # Errors
/// [`Failure`] when the handshake fails.
pub async fn over(stream: TcpStream, config: Arc<ClientConfig>) -> Outcome<TlsStream<TcpStream>> {
    demanding(SERVER_NAME, stream, config).await
}

/// The same with a server that must have this name.
///
/// # Errors
/// As [`over`].
pub async fn demanding(
    name: &'static str,
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> Outcome<TlsStream<TcpStream>> {
    stream.set_nodelay(true).map_err(Failure::io("send small packets at once"))?;
    let name = ServerName::try_from(name).map_err(Failure::while_doing("name the server"))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(Failure::io("shake hands over TLS"))
}
