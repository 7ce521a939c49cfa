//! Requests between two workloads over mutual TLS, each with what its proxy holds at that moment: a handshake for every request, so
//! that a change of certificates or of roots shows at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use signet_core::certificate::Facts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::failure::{Failure, Outcome};
use crate::harness::yaml;
use crate::istio_agent::SecretFiles;
use crate::traffic::Traffic;

/// How long a request may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const QUESTION: &[u8; 4] = b"ping";

/// A workload as others see it: who it is, and where its proxy has its secrets.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its SPIFFE ID.
    pub identity: String,
    certificate: PathBuf,
    bundle: PathBuf,
}

/// What its proxy holds.
struct Held {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Workload {
    /// The workload with these secrets.
    #[must_use]
    pub fn of(identity: &str, files: &SecretFiles) -> Self {
        Self { identity: identity.to_owned(), certificate: files.file("default"), bundle: files.file("ROOTCA") }
    }

    fn held(&self) -> Outcome<Held> {
        let certificate = yaml::read(&self.certificate)?;
        let text = |document: &serde_json::Value, pointer: &str| yaml::text(document, pointer).map(str::to_owned);
        let chain = text(&certificate, "/resources/0/tls_certificate/certificate_chain/inline_string")?;
        let key = text(&certificate, "/resources/0/tls_certificate/private_key/inline_string")?;
        let roots = text(&yaml::read(&self.bundle)?, "/resources/0/validation_context/trusted_ca/inline_string")?;
        let read = |pem: &str| {
            let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
            all.map_err(Failure::while_doing("read certificates"))
        };
        let mut store = RootCertStore::empty();
        for root in read(&roots)? {
            store.add(root).map_err(Failure::while_doing("trust a root"))?;
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(Failure::while_doing("read a key"))?;
        Ok(Held { chain: read(&chain)?, key, roots: Arc::new(store) })
    }
}

/// Accepts a workload of one identity by its chain, as proxies do; names of hosts count for nothing.
#[derive(Debug)]
struct Expects {
    identity: String,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Expects {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        if is(leaf, &self.identity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::NotValidForName.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is(leaf: &CertificateDer<'_>, identity: &str) -> bool {
    Facts::read(leaf).is_ok_and(|facts| facts.uris == [identity])
}

/// One request, on a connection of its own.
///
/// # Errors
/// What either side says.
pub async fn request(from: &Workload, to: &Workload) -> Outcome {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (caller, callee) = (from.held()?, to.held()?);
    let expects = Expects { identity: to.identity.clone(), roots: caller.roots, provider: Arc::clone(&provider) };
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Failure::while_doing("choose TLS 1.3"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(expects))
        .with_client_auth_cert(caller.chain, caller.key)
        .map_err(Failure::while_doing("use the caller's certificate"))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(callee.roots, Arc::clone(&provider)).build();
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Failure::while_doing("choose TLS 1.3"))?
        .with_client_cert_verifier(verifier.map_err(Failure::while_doing("trust the roots of the called workload"))?)
        .with_single_cert(callee.chain, callee.key)
        .map_err(Failure::while_doing("use the certificate of the called workload"))?;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("workload.invalid").map_err(Failure::while_doing("write a name"))?;
    let calling = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        stream.write_all(QUESTION).await?;
        let mut answer = [0; QUESTION.len()];
        stream.read_exact(&mut answer).await.map(|_| answer)
    };
    let answering = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if !shown.is_some_and(|leaf| is(leaf, &from.identity)) {
            return Err(std::io::Error::other("the caller is somebody else"));
        }
        let mut question = [0; QUESTION.len()];
        stream.read_exact(&mut question).await?;
        stream.write_all(&question).await?;
        stream.flush().await.map(|()| stream)
    };
    let both = tokio::time::timeout(DEADLINE, async { tokio::join!(calling, answering) }).await;
    match both {
        Ok((Ok(answer), Ok(_))) if &answer == QUESTION => Ok(()),
        Ok((calling, answering)) => {
            let told =
                [calling.err(), answering.err()].map(|error| error.map_or_else(|| "-".to_owned(), |e| e.to_string()));
            Err(Failure::unexpected(format!("{} to {}: {}", from.identity, to.identity, told.join(" / "))))
        }
        Err(_) => Err(Failure::unexpected(format!("no answer within {DEADLINE:?}"))),
    }
}

/// Requests in both directions without end, each on a connection of its own, with this pause between two of a direction; they end
/// when what this gives is dropped.
#[must_use]
pub fn mutual(one: &Workload, other: &Workload, pause: Duration) -> Traffic {
    let directions = [(one.clone(), other.clone()), (other.clone(), one.clone())];
    let requests = directions.map(|(from, to)| {
        move || {
            let (from, to) = (from.clone(), to.clone());
            async move { request(&from, &to).await.map(|()| String::new()).map_err(|failure| failure.to_string()) }
        }
    });
    Traffic::of(requests, pause)
}
