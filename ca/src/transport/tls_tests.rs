//! Handshakes over loopback: who gets through, as whom, and that nobody gets through on the strength of an earlier one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use signet_core::clock::ManualClock;
use signet_runtime::metrics::Metrics;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::Request;
use tonic::transport::server::Connected;

use super::*;
use crate::client_address::Source;
use crate::client_identity::ClientFault;
use crate::client_identity::test_mesh::{Shown, TestRoot, nothing, publish, serves, trust_domain};
use crate::metrics::CaMetrics;
use crate::signing_state::StateWriter;
use crate::transport::acceptor::Handshake;
use crate::transport::connection::{ConnectionInfo, client_identity, remote_addr};
use crate::transport::connections::{Connections, Room};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

fn serving_of(root: &TestRoot) -> Shown {
    root.leaf("spiffe://cluster.local/signet/ca", NOW, |leaf| {
        leaf.subject_alt_names.push(rcgen::SanType::DnsName("ca".try_into().unwrap()));
    })
}

struct Edge {
    root: TestRoot,
    state: StateWriter,
    listener: TcpListener,
    serving: Arc<Mutex<Arc<CertifiedKey>>>,
    handshakes: Handshakes,
    metrics: Arc<CaMetrics>,
    connections: Connections,
}

impl Edge {
    async fn new() -> Self {
        let root = TestRoot::new("a");
        let (state, reader) = nothing();
        publish(&state, 1, &[&root], &[]);
        let clock: SharedClock = Arc::new(ManualClock::at(NOW));
        let serving = serving_of(&root);
        let clients = Arc::new(ClientVerifier::new(trust_domain(), reader));
        let serving = Arc::new(Mutex::new(serves(&serving)));
        let newest = Arc::clone(&serving);
        let newest = Box::new(move || Some(Arc::clone(&newest.lock().unwrap())));
        let handshakes = Handshakes::with(newest, clients, Arc::clone(&clock)).unwrap();
        let metrics = Arc::new(CaMetrics::new(&Metrics::new(), clock).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            root,
            state,
            listener,
            serving,
            handshakes,
            metrics,
            connections: Connections::for_tests(Room::default()),
        }
    }

    /// The serving certificate is renewed.
    fn renew(&self) {
        *self.serving.lock().unwrap() = serves(&serving_of(&self.root));
    }

    fn client(&self, shown: Option<&Shown>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clock = Arc::new(WallClock(Arc::new(ManualClock::at(NOW))));
        let config = ClientConfig::builder_with_details(provider, clock).with_protocol_versions(&[version]).unwrap();
        let config = config.with_root_certificates(roots);
        Arc::new(match shown {
            Some(shown) => config.with_client_auth_cert(shown.chain.clone(), shown.key()).unwrap(),
            None => config.with_no_client_auth(),
        })
    }

    /// One handshake: how the client fared, and what the server makes of it.
    async fn run(&self, config: &Arc<ClientConfig>) -> (Option<HandshakeKind>, Option<(SocketAddr, ConnectionInfo)>) {
        let (ready, mut connections) = mpsc::channel(1);
        let address = self.listener.local_addr().unwrap();
        let client = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let local = stream.local_addr().unwrap();
            let name = ServerName::try_from("ca").unwrap();
            let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.ok()?;
            let kind = stream.get_ref().1.handshake_kind();
            // Takes in the tickets, if there are any, and the server's last word.
            drop(stream.read(&mut [0; 1]).await);
            Some((local, kind))
        };
        let server = async {
            let (stream, from) = self.listener.accept().await.unwrap();
            let place = self.connections.enter(Source::from(from.ip())).ok().unwrap();
            let handshake = Handshake { stream, from, place, metrics: Arc::clone(&self.metrics) };
            handshake.run(self.handshakes.acceptor(), ready).await;
            let connection = connections.recv().await?.unwrap();
            Some(connection.connect_info())
        };
        let (client, server) = tokio::join!(client, server);
        (client.and_then(|(_, kind)| kind), client.map(|(local, _)| local).zip(server))
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn a_client_needs_no_certificate_and_its_address_is_known() {
    let edge = Edge::new().await;
    for version in VERSIONS {
        let (_, accepted) = edge.run(&edge.client(None, version)).await;
        let (local, info) = accepted.unwrap();
        assert_eq!((info.tcp.remote_addr(), info.identity.clone()), (Some(local), None));
        let mut request = Request::new(());
        assert_eq!((remote_addr(&request), client_identity(&request)), (None, None));
        request.extensions_mut().insert(info);
        assert_eq!((remote_addr(&request), client_identity(&request)), (Some(local), None));
    }
}

#[tokio::test]
async fn a_verified_certificate_becomes_the_identity_of_each_request() {
    let edge = Edge::new().await;
    let shown = edge.root.leaf(WEB, NOW, |_| {});
    for version in VERSIONS {
        let (_, accepted) = edge.run(&edge.client(Some(&shown), version)).await;
        let mut request = Request::new(());
        request.extensions_mut().insert(accepted.unwrap().1);
        let identity = client_identity(&request).unwrap();
        assert_eq!((identity.spiffe_id.as_str(), identity.serial.as_str()), (WEB, &*shown.facts().serial_text()));
    }
}

#[tokio::test]
async fn a_certificate_that_is_refused_ends_the_handshake() {
    let edge = Edge::new().await;
    let stranger = TestRoot::new("b").leaf(WEB, NOW, |_| {});
    let expired = edge.root.leaf(WEB, NOW, |leaf| leaf.not_after = NOW - Duration::from_secs(1));
    let foreign = edge.root.leaf("spiffe://elsewhere/ns/default/sa/web", NOW, |_| {});
    let ca = edge.root.leaf(WEB, NOW, |leaf| leaf.key_usages.push(rcgen::KeyUsagePurpose::KeyCertSign));
    let cases = [
        (&stranger, ClientFault::UnknownIssuer),
        (&expired, ClientFault::Expired),
        (&foreign, ClientFault::Foreign),
        (&ca, ClientFault::Invalid),
    ];
    for version in VERSIONS {
        for (shown, fault) in cases {
            let (failures, refused) =
                (edge.metrics.handshake_failures.get(), edge.metrics.refused_clients.count(fault));
            assert!(edge.run(&edge.client(Some(shown), version)).await.1.is_none());
            assert_eq!(edge.metrics.handshake_failures.get(), failures + 1);
            assert_eq!(edge.metrics.refused_clients.count(fault), refused + 1, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_shows_a_certificate_resumes_nothing_so_that_it_does_not_outlive_that() {
    let edge = Edge::new().await;
    let shown = edge.root.leaf(WEB, NOW, |_| {});
    for version in VERSIONS {
        publish(&edge.state, 1, &[&edge.root], &[]);
        // One configuration keeps what it needs to resume.
        let client = edge.client(Some(&shown), version);
        for _ in 0..2 {
            let (kind, accepted) = edge.run(&client).await;
            assert_eq!((kind, accepted.is_some()), (Some(HandshakeKind::Full), true));
        }
        publish(&edge.state, 2, &[&edge.root], &[shown.revoked(0, edge.root.issuing_id())]);
        assert!(edge.run(&client).await.1.is_none());
    }
}

#[tokio::test]
async fn a_client_that_shows_none_resumes_its_session_until_the_serving_certificate_is_another() {
    let edge = Edge::new().await;
    for version in VERSIONS {
        // One configuration keeps what it needs to resume.
        let client = edge.client(None, version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let (done, accepted) = edge.run(&client).await;
            assert_eq!((done, accepted.unwrap().1.identity), (Some(kind), None), "{version:?}");
        }
        edge.renew();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            assert_eq!(edge.run(&client).await.0, Some(kind), "{version:?}");
        }
    }
}

#[test]
fn suites_of_sha_256_come_first_whatever_the_client_prefers_and_all_are_there() {
    let (ours, theirs) = (provider().cipher_suites, rustls::crypto::ring::default_provider().cipher_suites);
    let names: Vec<_> = ours.iter().map(|suite| suite.suite()).collect();
    assert_eq!(names[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert!(names[1..3].iter().all(|suite| format!("{suite:?}").ends_with("WITH_AES_128_GCM_SHA256")), "{names:?}");
    assert!(theirs.iter().all(|suite| names.contains(&suite.suite())) && ours.len() == theirs.len());
}
