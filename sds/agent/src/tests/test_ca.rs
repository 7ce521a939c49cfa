//! A CA in the test's own process: issues like a real one, or as wrongly as a test asks it to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use signet_core::clock::{Clock, ManualClock};
use signet_core::pem::pem;
use signet_proto::istio::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use signet_proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

use crate::tests::test_bundles::TestBundles;

/// A signing certificate with its key.
pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = ca_params(name);
        params.use_authority_key_identifier_extension = true;
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> String {
        pem(&self.der)
    }

    pub(crate) fn sign(&self, key: &impl PublicKeyData, params: &CertificateParams) -> String {
        pem(params.signed_by(key, &self.issuer).unwrap().der())
    }
}

/// A leaf as the CA would decide it.
pub(crate) fn leaf_params(uri: &str, not_before: OffsetDateTime, not_after: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (not_before, not_after);
    params
}

/// How the next calls are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Good,
    Refuse(Code),
    /// Never answers.
    Hang,
    /// Certifies somebody else.
    WrongIdentity,
    /// Issues certificates that are nearly over.
    Old,
}

/// A call as the CA saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) authorization: String,
    pub(crate) cluster: String,
    pub(crate) validity: Option<i64>,
    pub(crate) csr: String,
    pub(crate) instance: String,
    pub(crate) bundle: String,
}

struct World {
    /// The bundle in replies and its number; the test root alone and none at first.
    roots: Option<String>,
    sequence: Option<u64>,
    issuing: Arc<Authority>,
    mode: Mode,
    calls: Vec<Call>,
    serial: u64,
}

#[derive(Clone)]
pub(crate) struct TestCa {
    world: Arc<Mutex<World>>,
    clock: ManualClock,
    pub(crate) root: Arc<Authority>,
    pub(crate) bundles: TestBundles,
    pub(crate) ttl: Duration,
    ports: Arc<Mutex<Vec<TcpSocket>>>,
}

impl TestCa {
    pub(crate) fn new(clock: ManualClock) -> Self {
        let root = Authority::root("test root");
        let issuing = Arc::new(root.intermediate("test issuer"));
        let world = World { roots: None, sequence: None, issuing, mode: Mode::Good, calls: vec![], serial: 0x4000 };
        let world = Arc::new(Mutex::new(world));
        let ttl = Duration::from_secs(86_400);
        Self { world, clock, root: Arc::new(root), bundles: TestBundles::default(), ttl, ports: Arc::default() }
    }

    pub(crate) fn answer(&self, mode: Mode) {
        self.world.lock().unwrap().mode = mode;
    }

    /// Replies carry these roots from now on, and the number if there is one.
    pub(crate) fn reply_with(&self, sequence: Option<u64>, roots: &[&Authority]) {
        let mut world = self.world.lock().unwrap();
        world.roots = Some(roots.iter().map(|root| root.pem()).collect());
        world.sequence = sequence;
    }

    /// Signs with another issuing CA under the same root from now on.
    pub(crate) fn roll_issuer(&self) {
        self.world.lock().unwrap().issuing = Arc::new(self.root.intermediate("next issuer"));
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.world.lock().unwrap().calls.clone()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// A port that nobody else is given while nobody listens on it: a restarted CA comes back to it.
    fn reserve(&self) -> SocketAddr {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        self.ports.lock().unwrap().push(socket);
        address
    }

    /// Serves with a certificate of `tls` for `localhost`, at `address` if it is given.
    pub(crate) async fn serve(&self, tls: &Authority, address: Option<SocketAddr>) -> Serving {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        let identity = Identity::from_pem(tls.sign(&key, &params), key.serialize_pem());
        let address = address.unwrap_or_else(|| self.reserve());
        let listener = TcpListener::bind(address).await.unwrap();
        let mut task = JoinSet::new();
        let service = IstioCertificateServiceServer::new(self.clone());
        let stop = CancellationToken::new();
        let bundles = self.bundles.serve(stop.clone());
        task.spawn(async move {
            let mut server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
            server
                .add_service(service)
                .add_service(bundles)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Serving { address, task, stop }
    }
}

/// Stops when dropped, or when waited for.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    task: JoinSet<()>,
    stop: CancellationToken,
}

impl Serving {
    pub(crate) async fn stop(mut self) -> SocketAddr {
        // Connections live on without their listener; streams must end.
        self.stop.cancel();
        self.task.shutdown().await;
        self.address
    }
}

#[tonic::async_trait]
impl IstioCertificateService for TestCa {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let header = |name| request.metadata().get(name).map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default();
        let (authorization, cluster) = (header("authorization"), header("clusterid"));
        let (instance, bundle) = (header("signet-instance"), header("signet-bundle"));
        let message = request.into_inner();
        let (validity, csr) = (message.validity_duration, message.csr.clone());
        let call = Call { authorization, cluster, validity, csr, instance, bundle };
        let (mode, serial, issuing, roots, sequence) = {
            let mut world = self.world.lock().unwrap();
            world.calls.push(call);
            world.serial += 1;
            (world.mode, world.serial, Arc::clone(&world.issuing), world.roots.clone(), world.sequence)
        };
        let now = self.clock.now();
        let mut from = now - Duration::from_secs(120).min(self.ttl / 10);
        let mut uri = None;
        match mode {
            Mode::Good => {}
            Mode::Refuse(code) => return Err(Status::new(code, "no\u{1b}[2J")),
            Mode::Hang => std::future::pending().await,
            Mode::WrongIdentity => uri = Some("spiffe://td/ns/prod/sa/other".to_owned()),
            Mode::Old => from = now - self.ttl * 9 / 10,
        }
        let asked = CertificateSigningRequestParams::from_pem(&message.csr).unwrap();
        let uri = uri.unwrap_or_else(|| match &asked.params.subject_alt_names[..] {
            [SanType::URI(uri)] => uri.to_string(),
            other => panic!("asked for {other:?}"),
        });
        let mut params = leaf_params(&uri, from, from + self.ttl);
        params.serial_number = Some(SerialNumber::from(serial));
        let leaf = issuing.sign(&asked.public_key, &params);
        let cert_chain = vec![leaf, issuing.pem(), roots.unwrap_or_else(|| self.root.pem())];
        let mut response = Response::new(IstioCertificateResponse { cert_chain });
        if let Some(sequence) = sequence {
            response.metadata_mut().insert("signet-bundle-sequence", sequence.to_string().parse().unwrap());
        }
        Ok(response)
    }
}
