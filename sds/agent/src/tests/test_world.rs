//! An agent with a CA in the same process, over real sockets, with a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use signet_core::clock::ManualClock;
use signet_runtime::config::parse;
use signet_runtime::readiness::{Snapshot, State};
use signet_runtime::supervisor::{Outcome, Supervisor};
use signet_sds::ledger::Ledger;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::Agent;
use crate::config::{Config, read};
use crate::identity::status::Status;
use crate::tests::test_ca::{Authority, Serving, TestCa};
use crate::tests::test_proxy::{Proxy, secrets};

pub(crate) const ID: &str = "spiffe://td/ns/prod/sa/web";

pub(crate) struct World {
    pub(crate) ca: TestCa,
    pub(crate) serving: Option<Serving>,
    pub(crate) address: SocketAddr,
    pub(crate) clock: ManualClock,
    directory: tempfile::TempDir,
    pub(crate) config: Config,
}

pub(crate) struct Running {
    pub(crate) statuses: watch::Receiver<Status>,
    pub(crate) ops: signet_runtime::ops::Ops,
    ledger: Ledger,
    pub(crate) stop: CancellationToken,
    task: JoinSet<Outcome>,
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time")
}

pub(crate) fn token(generation: u32) -> String {
    let claims = format!(r#"{{"sub":"system:serviceaccount:prod:web","jti":"{generation}"}}"#);
    format!("head.{}.signature{generation}", URL_SAFE_NO_PAD.encode(claims))
}

impl World {
    pub(crate) async fn new(retry_initial: &str) -> Self {
        Self::at(OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(), retry_initial).await
    }

    pub(crate) async fn at(now: OffsetDateTime, retry_initial: &str) -> Self {
        let clock = ManualClock::at(now);
        let ca = TestCa::new(clock.clone());
        let tls = Authority::root("tls");
        Self::with_tls(clock, ca, &tls, retry_initial).await
    }

    /// With a CA whose serving certificate is of `tls`, which alone is in the root file.
    pub(crate) async fn with_tls(clock: ManualClock, ca: TestCa, tls: &Authority, retry_initial: &str) -> Self {
        let serving = ca.serve(tls, None).await;
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("token"), token(1) + "\n").unwrap();
        std::fs::write(path("roots.pem"), tls.pem()).unwrap();
        let (address, roots, token, socket) = (serving.address, path("roots.pem"), path("token"), path("a/s.sock"));
        let text = format!(
            "trust_domain: td
ca: {{address: 'https://{address}', root_file: {roots}, server_name: localhost, timeout: 15s}}
token_file: {token}
sds: {{socket: 'unix://{socket}', proxy_grace: 0s}}
renewal: {{retry_initial: {retry_initial}, retry_max: 60s}}
"
        );
        let config = parse("test", &text, read).unwrap().config;
        Self { ca, serving: Some(serving), address, clock, directory, config }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) async fn start(&self) -> Running {
        let agent = Agent::new(&self.config, Arc::new(self.clock.clone())).unwrap();
        let (statuses, ops, ledger) = (agent.statuses.clone(), agent.ops.clone(), agent.ledger.clone());
        let socket = agent.open().await.unwrap();
        let supervisor = Supervisor::new();
        agent.start(socket, &supervisor.spawner());
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        task.spawn(supervisor.run_until(stopped, std::future::pending(), Duration::from_secs(10)));
        Running { statuses, ops, ledger, stop, task }
    }

    /// A new proxy that asks for `names`.
    pub(crate) async fn connect(&self, names: &[&str]) -> Proxy {
        Proxy::connect(&self.config.sds.socket, names).await
    }

    /// The chain and the number of roots that a new proxy gets.
    pub(crate) async fn fetch(&self) -> (String, usize) {
        let secrets = secrets(&self.connect(&["default", "ROOTCA"]).await.next().await);
        (secrets["default"].0.clone(), secrets["ROOTCA"].0.matches("BEGIN CERTIFICATE").count())
    }
}

impl Running {
    pub(crate) async fn until(&mut self, condition: impl FnMut(&Status) -> bool) -> Status {
        within(self.statuses.wait_for(condition)).await.unwrap().clone()
    }

    /// The certificate's check, once `state` is reached.
    pub(crate) async fn check(&self, state: State) -> String {
        self.check_of("certificate", state).await
    }

    pub(crate) async fn check_of(&self, name: &str, state: State) -> String {
        let of_name = |now: &Snapshot| now.checks.iter().find(|check| check.name == name).unwrap().clone();
        let reached = self.ops.readiness.wait_for(|now| of_name(now).state == state);
        of_name(&within(reached).await).detail
    }

    /// Waits until so many proxies are connected.
    pub(crate) async fn until_streams(&self, count: usize) {
        let mut changes = self.ledger.changes();
        within(async {
            while self.ledger.views().len() != count {
                changes.changed().await.unwrap();
            }
        })
        .await;
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        self.ops.metrics.render().unwrap().lines().any(|found| found == line)
    }

    pub(crate) async fn stop(mut self) -> Outcome {
        self.stop.cancel();
        within(self.task.join_next()).await.unwrap().unwrap()
    }
}
