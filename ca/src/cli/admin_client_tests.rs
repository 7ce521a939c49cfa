//! The way to a CA over TLS and back: a real server with the real guard, and files as an administrator has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use signet_core::clock::{Clock, SharedClock, SystemClock};
use signet_core::holder::{Holder, HolderQuery};
use signet_core::identity::SpiffeId;
use signet_core::pem::pem;
use signet_core::revocation::RevocationReason;
use signet_core::rotation::{Command, Phase};
use signet_plugins::store::memory::MemoryStore;
use signet_runtime::metrics::Metrics;
use signet_runtime::readiness::Readiness;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::*;
use crate::client_identity::ClientVerifier;
use crate::client_identity::test_mesh::{Shown, TestRoot, nothing, publish, serves, trust_domain};
use crate::grpc::admin::operate::Operate;
use crate::grpc::admin::{Access, AdminService};
use crate::journal_catch_up::CatchUp;
use crate::limits::intake::CallLimits;
use crate::metrics::CaMetrics;
use crate::operations::{Done, Next, OperationError, Operator, RevokedCertificate, View};
use crate::refusals::refusals;
use crate::signing_state::StateWriter;
use crate::transport::acceptor::Acceptor;
use crate::transport::connections::{Connections, Room};
use crate::transport::tls::Handshakes;

const ADMIN: &str = "spiffe://cluster.local/ns/signet/sa/admin";

#[test]
fn a_wrong_argument_is_usage_and_all_else_a_failure() {
    for (code, usage) in [
        (Code::InvalidArgument, true),
        (Code::FailedPrecondition, false),
        (Code::PermissionDenied, false),
        (Code::NotFound, false),
        (Code::Unavailable, false),
    ] {
        match failure(&Status::new(code, "because\u{1b}[2J")) {
            Failure::Usage(text) if usage => assert!(text.contains(r"because\u{1b}"), "{text}"),
            Failure::Failed(text) if !usage => assert!(text.contains(r"because\u{1b}"), "{text}"),
            other => panic!("{code:?}: {other:?}"),
        }
    }
}

/// Tells that there is one root, and changes nothing.
struct Still(crate::signing_state::StateReader);

#[async_trait::async_trait]
impl Operate for Still {
    async fn view(&self) -> Result<View, OperationError> {
        let authorities = self.0.borrow().as_ref().unwrap().authorities.clone();
        Ok(View {
            phase: Phase::of(&authorities),
            lacking: Vec::new(),
            unsettled: Default::default(),
            awaited_sequence: authorities.awaited_sequence(),
            authorities,
            coverage: Default::default(),
            last_ends: Default::default(),
            laggards: Vec::new(),
            held: Vec::new(),
            threshold_percent: 100,
            next: Next::Nothing,
            has_former: false,
            expected_at: None,
        })
    }
    async fn command(&self, operator: &Operator, _: Command, _: &str) -> Result<(Done, View), OperationError> {
        Err(OperationError::Refused(format!("not for {} at {:?}", operator.name, operator.peer.is_some())))
    }
    async fn revoke_certificate(
        &self,
        _: &Operator,
        _: signet_core::certificate::Serial,
        _: RevocationReason,
        _: bool,
    ) -> Result<RevokedCertificate, OperationError> {
        Err(OperationError::Conflict)
    }
    async fn holders(&self, _: &HolderQuery) -> Result<Vec<Holder>, OperationError> {
        Ok(Vec::new())
    }
}

/// A CA that serves operators over TLS, and the files of a client.
struct Ca {
    root: TestRoot,
    address: String,
    files: tempfile::TempDir,
    state: StateWriter,
    _tasks: JoinSet<()>,
}

impl Ca {
    async fn new() -> Self {
        let (root, now) = (TestRoot::new("a"), SystemClock.now());
        let (state, reader) = nothing();
        publish(&state, 1, &[&root], &[]);
        let clock: SharedClock = Arc::new(SystemClock);
        let clients = Arc::new(ClientVerifier::new(trust_domain(), reader.clone()));
        let serving = root.leaf("spiffe://cluster.local/signet/ca", now, |leaf| {
            leaf.subject_alt_names.push(rcgen::SanType::DnsName("signet-ca".try_into().unwrap()));
        });
        let metrics = Arc::new(CaMetrics::new(&Metrics::new(), Arc::clone(&clock)).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let (ready, connections) = mpsc::channel(8);
        let certified = serves(&serving);
        let acceptor = Acceptor {
            listener,
            handshakes: Handshakes::with(
                Box::new(move || Some(Arc::clone(&certified))),
                Arc::clone(&clients),
                Arc::clone(&clock),
            )
            .unwrap(),
            connections: Connections::for_tests(Room::default()),
            proxies: vec![],
            ready,
            metrics: Arc::clone(&metrics),
        };
        let service = AdminService {
            trust_domain: "cluster.local".into(),
            storage: "sqlite:///s.db".into(),
            started_at: now,
            state: reader.clone(),
            serving: tokio::sync::watch::channel(None).1,
            readiness: Readiness::new(),
            metrics: Arc::clone(&metrics),
            clusters: Arc::new(crate::cluster_status::NoClusters),
            catch_up: CatchUp { state: reader.clone(), journal: Arc::<MemoryStore>::default() },
            operations: Arc::new(Still(reader)),
            storage_age: crate::storage_age::test_age(),
            clock: Arc::clone(&clock),
        };
        let admins = vec![SpiffeId::parse(ADMIN).unwrap()];
        let (refusals, _) = refusals(Arc::clone(&clock));
        let service = service.guarded(
            CallLimits::default(),
            Access { own_uid: 0, admins, auditors: vec![], clients, clock, refusals, metrics },
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            acceptor.run(CancellationToken::new()).await.unwrap();
        });
        tasks.spawn(async move {
            let router = Server::builder().add_service(service);
            router.serve_with_incoming(ReceiverStream::new(connections)).await.unwrap();
        });
        Self { root, address, files: tempfile::tempdir().unwrap(), state, _tasks: tasks }
    }

    fn leaf(&self, id: &str) -> Shown {
        self.root.leaf(id, SystemClock.now(), |_| {})
    }

    fn args(&self, shown: &Shown, root: &TestRoot, server_name: Option<&str>) -> AdminArgs {
        let file = |name: &str, content: &str| {
            let path = tempfile::tempdir_in(self.files.path()).unwrap().keep().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            Some(path)
        };
        AdminArgs {
            file: ConfigFile { config: "/nowhere".into() },
            socket: None,
            address: Some(self.address.clone()),
            cert: file("cert.pem", &shown.chain_pem()),
            key: file("key.pem", &shown.key_pem()),
            ca: file("ca.pem", &pem(&root.certificate)),
            server_name: server_name.map(str::to_owned),
        }
    }
}

async fn ask(args: &AdminArgs) -> Result<Rotation, Failure> {
    args.connect().await?.rotation().await.map_err(|status| failure(&status))
}

#[tokio::test]
async fn an_administrator_reaches_the_ca_over_tls_and_others_learn_why_not() {
    let ca = Ca::new().await;
    let name = Some("signet-ca");
    let admin = ca.args(&ca.leaf(ADMIN), &ca.root, name);
    let rotation = ask(&admin).await.unwrap();
    assert_eq!((rotation.phase(), rotation.authorities.len()), (signet_proto::admin::v1alpha1::Phase::Settled, 2));
    let mut client = admin.connect().await.unwrap();
    let refused = within(CHANGE, client.service.prepare_authority(tonic::Request::new(Default::default()))).await;
    assert_eq!(refused.unwrap_err().message(), format!("not for {ADMIN} at true"));

    let stranger = TestRoot::new("b");
    for (why, args, expected) in [
        (
            "not listed",
            ca.args(&ca.leaf("spiffe://cluster.local/ns/a/sa/b"), &ca.root, name),
            "the CA refused: only root and the CA's own user",
        ),
        ("another name", ca.args(&ca.leaf(ADMIN), &ca.root, None), "cannot connect to the CA at https://127.0.0.1"),
        ("other roots", ca.args(&ca.leaf(ADMIN), &stranger, name), "cannot connect to the CA at https://127.0.0.1"),
        (
            "a certificate from elsewhere",
            ca.args(&stranger.leaf(ADMIN, SystemClock.now(), |_| {}), &ca.root, name),
            "it does not accept the certificate of --cert",
        ),
    ] {
        match ask(&args).await {
            Err(Failure::Failed(text)) => assert!(text.contains(expected), "{why}: {text}"),
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_accepted_is_blamed_at_whichever_moment_the_connection_breaks() {
    let ca = Ca::new().await;
    let stranger = TestRoot::new("b").leaf(ADMIN, SystemClock.now(), |_| {});
    let args = ca.args(&stranger, &ca.root, Some("signet-ca"));
    for attempt in 0..100 {
        let answer = async {
            let mut client = args.connect().await?;
            // The judgement may come before the call, or while it is made.
            if attempt % 2 == 0 {
                tokio::task::yield_now().await;
            }
            let call = client.service.prepare_authority(tonic::Request::new(Default::default()));
            within(CHANGE, call).await.map_err(|status| failed_change(&status))
        };
        match answer.await {
            Err(Failure::Failed(text)) => assert!(text.contains(NOT_ACCEPTED), "{attempt}: {text}"),
            other => panic!("{attempt}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_wrong_usage() {
    let ca = Ca::new().await;
    let good = || ca.args(&ca.leaf(ADMIN), &ca.root, Some("signet-ca"));
    let open = good();
    std::fs::set_permissions(open.key.as_ref().unwrap(), std::fs::Permissions::from_mode(0o644)).unwrap();
    for (why, args) in [
        ("no TLS", AdminArgs { address: Some("http://127.0.0.1:1".into()), ..good() }),
        ("no file", AdminArgs { cert: Some("/nowhere".into()), ..good() }),
        ("no roots", AdminArgs { ca: good().key, ..good() }),
        ("no chain", AdminArgs { cert: good().key, ..good() }),
        ("a key for all to read", open),
    ] {
        let answer = ask(&args).await;
        assert!(matches!(answer, Err(Failure::Usage(_))), "{why}: {answer:?}");
    }
}

#[tokio::test]
async fn whoever_waits_goes_on_with_the_certificate_that_has_come_since() {
    let ca = Ca::new().await;
    let old = ca.leaf(ADMIN);
    let new = ca.root.leaf(ADMIN, SystemClock.now(), |leaf| leaf.serial_number = Some(vec![0x42; 16].into()));
    let stranger = TestRoot::new("b").leaf(ADMIN, SystemClock.now(), |_| {});
    let args = ca.args(&old, &ca.root, Some("signet-ca"));
    let show = |shown: &Shown| {
        std::fs::write(args.cert.as_ref().unwrap(), shown.chain_pem()).unwrap();
        std::fs::write(args.key.as_ref().unwrap(), shown.key_pem()).unwrap();
    };
    let mut client = args.connect().await.unwrap();
    args.rotation(&mut client).await.unwrap();

    publish(&ca.state, 2, &[&ca.root], &[old.revoked(0, ca.root.issuing_id())]);
    for (why, shown) in [("the same, over", &old), ("one that no handshake accepts", &stranger)] {
        show(shown);
        match args.rotation(&mut client).await {
            Err(Setback::Lasting(Failure::Failed(text))) => {
                assert!(text.contains("--cert may have ended") && text.contains("goes on"), "{why}: {text}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
    std::fs::write(args.cert.as_ref().unwrap(), "half a file").unwrap();
    assert!(matches!(args.rotation(&mut client).await, Err(Setback::Passing(_))));
    show(&new);
    args.rotation(&mut client).await.unwrap();
    // From now on with the new one.
    show(&stranger);
    args.rotation(&mut client).await.unwrap();
}

#[test]
fn only_alerts_about_certificates_blame_the_certificate() {
    for (alert, blamed) in [
        (AlertDescription::CertificateExpired, true),
        (AlertDescription::UnknownCA, true),
        (AlertDescription::CertificateUnknown, true),
        (AlertDescription::NoApplicationProtocol, false),
        (AlertDescription::ProtocolVersion, false),
        (AlertDescription::InternalError, false),
    ] {
        let status = Status::from_error(Box::new(std::io::Error::other(rustls::Error::AlertReceived(alert))));
        assert_eq!(explanation(&status).starts_with(NOT_ACCEPTED), blamed, "{alert:?}: {status:?}");
    }
}
