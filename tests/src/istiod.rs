//! A CA that answers as istiod does: its own root, `CreateCertificate` over TLS, and replies as that server puts them together.
//! What it lacks is a cluster: a token counts by what it says.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use signet_core::clock::{Clock as _, SystemClock};
use signet_proto::istio::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use signet_proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::client::token::{Token, now};
use crate::client::{keys, tls};
use crate::failure::{Failure, Outcome};
use crate::harness::plugged::{OwnCa, Set};
use crate::tools;

/// What istiod issues for when nobody asks for a lifetime.
const A_DAY: Duration = Duration::from_secs(86_400);
/// How far it puts the start back.
const BACKDATE: Duration = Duration::from_secs(120);

/// The CA that an istiod has, as it keeps it: in a Secret, file by file.
#[derive(Debug, Clone)]
pub struct CaSet {
    /// `ca-cert.pem`.
    pub certificate: String,
    /// `ca-key.pem`.
    pub key: String,
    /// `cert-chain.pem`.
    pub chain: String,
    /// What it has of `root-cert.pem`; empty in the Secret of older versions that have made the CA themselves.
    pub roots: String,
}

impl CaSet {
    /// A CA that istiod has made itself: RSA 2048, its own root, named after the trust domain, for certificates alone.
    ///
    /// # Errors
    /// [`Failure`], also without OpenSSL.
    pub fn self_made(trust_domain: &str) -> Outcome<Self> {
        let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
        let key_file = directory.path().join("key");
        let mut command = Command::new(tools::openssl()?);
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "3650", "-subj"]);
        command.arg(format!("/O={trust_domain}")).args(["-addext", "keyUsage=critical,keyCertSign"]);
        // Over what the configuration of the system may say.
        command
            .args(["-addext", "basicConstraints=critical,CA:TRUE", "-config", "/dev/stdin"])
            .arg("-keyout")
            .arg(&key_file);
        let config = directory.path().join("config");
        std::fs::write(&config, "[req]\ndistinguished_name=dn\n[dn]\n")
            .map_err(Failure::io("write a configuration"))?;
        let input = std::fs::File::open(&config).map_err(Failure::io("read a configuration"))?;
        let certificate = tools::run(command.stdin(input))?;
        let key = std::fs::read_to_string(&key_file).map_err(Failure::io("read a key"))?;
        Ok(Self { roots: certificate.clone(), chain: String::new(), certificate, key })
    }

    /// A CA that was plugged in, with the chain as Istio's own scripts put it together: the root is in it.
    #[must_use]
    pub fn plugged(signer: &OwnCa, root: &OwnCa) -> Self {
        Self {
            certificate: signer.certificate.clone(),
            key: signer.key.clone(),
            chain: format!("{}{}", signer.certificate, root.certificate),
            roots: root.certificate.clone(),
        }
    }

    /// The same CA with another file of roots.
    #[must_use]
    pub fn trusting(&self, roots: &str) -> Self {
        Self { roots: roots.to_owned(), ..self.clone() }
    }

    /// The files of it.
    #[must_use]
    pub fn files(&self) -> Set {
        vec![
            ("ca-cert.pem", self.certificate.clone()),
            ("ca-key.pem", self.key.clone()),
            ("cert-chain.pem", self.chain.clone()),
            ("root-cert.pem", self.roots.clone()),
        ]
    }

    fn issuer(&self) -> Outcome<Issuer<'static, KeyPair>> {
        let key = KeyPair::from_pem(&self.key).map_err(Failure::while_doing("read the key of a CA"))?;
        Issuer::from_ca_cert_pem(&self.certificate, key).map_err(Failure::while_doing("read the certificate of a CA"))
    }

    /// Signs for a key; the certificate as PEM.
    fn sign(&self, key: &impl PublicKeyData, names: Vec<SanType>, ttl: Duration) -> Outcome<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let at = SystemClock.now();
        (params.not_before, params.not_after) = (at - BACKDATE, at + ttl);
        let made = params.signed_by(key, &self.issuer()?).map_err(Failure::while_doing("sign a certificate"))?;
        Ok(made.pem().replace("\r\n", "\n"))
    }
}

/// The running CA; it stops when this is dropped.
pub struct Istiod {
    /// Where it serves.
    pub address: SocketAddr,
    ca: Arc<Mutex<CaSet>>,
    _task: JoinSet<()>,
}

impl Istiod {
    /// Starts it on a free port, with a serving certificate of its own CA.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start(set: &CaSet) -> Outcome<Self> {
        let names = ["istiod.istio-system.svc", "istio-pilot.istio-system.svc", tls::SERVER_NAME];
        let names = names.map(|name| name.try_into().map(SanType::DnsName));
        let names = names.into_iter().collect::<Result<_, _>>().map_err(Failure::while_doing("write a DNS name"))?;
        let key = KeyPair::generate().map_err(Failure::while_doing("make a key"))?;
        let own = set.sign(&key, names, 3650 * A_DAY)?;
        let identity = Identity::from_pem(format!("{own}{}", set.chain), key.serialize_pem());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Failure::io("open a port"))?;
        let address = listener.local_addr().map_err(Failure::io("read a port"))?;
        let ca = Arc::new(Mutex::new(set.clone()));
        let service = IstioCertificateServiceServer::new(Service(Arc::clone(&ca)));
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity));
        let server = server.map_err(Failure::while_doing("configure TLS"))?.add_service(service);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ended = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Ok(Self { address, ca, _task: task })
    }

    /// Goes on with these files, as istiod does when its mounted Secret changes.
    pub fn reload(&self, set: &CaSet) {
        self.ca.lock().unwrap_or_else(PoisonError::into_inner).clone_from(set);
    }
}

struct Service(Arc<Mutex<CaSet>>);

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = caller(&request).ok_or_else(|| Status::unauthenticated("request authenticate failure"))?;
        let refused = |problem: String| Status::invalid_argument(format!("CSR signing error ({problem})"));
        let message = request.into_inner();
        // Names and extensions of the CSR count for nothing.
        let csr =
            CertificateSigningRequestParams::from_pem(&message.csr).map_err(|error| refused(error.to_string()))?;
        let ttl =
            message.validity_duration.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
        let name = caller.as_str().try_into().map(SanType::URI).map_err(|_| refused("the name".to_owned()))?;
        let ca = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let leaf = ca.sign(&csr.public_key, vec![name], ttl.map_or(A_DAY, Duration::from_secs));
        let leaf = leaf.map_err(|failure| Status::internal(failure.to_string()))?;
        let cert_chain = [vec![leaf], keys::split(&ca.chain), vec![ca.roots]].concat();
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// Whom the token names, if it may be shown here at all.
fn caller(request: &Request<IstioCertificateRequest>) -> Option<String> {
    let mut shown = request.metadata().get_all("authorization").iter().filter_map(|value| value.to_str().ok());
    let token = Token::read(shown.find_map(|value| value.strip_prefix("Bearer "))?).ok()?.claims;
    let audience = token.get("aud")?;
    let is_meant = audience == "istio-ca" || audience.as_array()?.iter().any(|one| one == "istio-ca");
    let account = token.get("sub")?.as_str()?.strip_prefix("system:serviceaccount:")?;
    let (namespace, account) = account.split_once(':')?;
    let is_in_time = token.get("exp")?.as_i64()? > now();
    (is_meant && is_in_time).then(|| format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"))
}
