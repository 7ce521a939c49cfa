//! `--connect-each N`: what it costs to bring a new connection for each certificate, as agents do that ask once a day, in N rounds in
//! which each way has its turn: connections that stay open, a whole handshake for each certificate, and one that resumes the session
//! before. The last line is JSON, and so is `target/bench/connections.json`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Uri};
use rustls::client::Resumption;
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::json;
use signet_tests::client::tls;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::tools::say;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::load::{Answered, Load, Measured, exchange, uri};
use crate::options::Options;
use crate::requests::{self, Requests};
use crate::rounds::{Row, hundredths, keep, tenths, turn};
use crate::usage::Cas;
use crate::{proc, unlimited};

const KEPT: &str = "kept open";
const WHOLE: &str = "new, whole handshake";
const RESUMED: &str = "new, session resumed";

/// Whether clients resume the session before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumes {
    Never,
    Always,
    IfItMay,
}

/// One client, which opens a connection for each request.
struct Caller {
    config: Arc<ClientConfig>,
    requests: Vec<(HeaderValue, Bytes)>,
    next: usize,
    /// The handshake that each but the first is to be; any when absent.
    kind: Option<HandshakeKind>,
}

/// Clients that each bring a new connection for each certificate.
pub(crate) struct Callers {
    address: SocketAddr,
    uri: Uri,
    each: Vec<Arc<Mutex<Caller>>>,
}

impl Callers {
    /// So many clients. Those that resume do not insist on it, unless told so.
    pub(crate) fn new(
        dev: &Dev,
        address: SocketAddr,
        requests: &Requests,
        count: usize,
        resumes: Resumes,
    ) -> Outcome<Self> {
        let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
        let caller = |index: usize| {
            let mut config = ClientConfig::clone(&config);
            let never = resumes == Resumes::Never;
            config.resumption = if never { Resumption::disabled() } else { Resumption::in_memory_sessions(8) };
            let own = requests.each.iter().skip(index).step_by(count);
            let requests = own.map(|one| (one.authorization.clone(), one.body.clone())).collect();
            let kind = match resumes {
                Resumes::Never => Some(HandshakeKind::Full),
                Resumes::Always => Some(HandshakeKind::Resumed),
                Resumes::IfItMay => None,
            };
            Arc::new(Mutex::new(Caller { config: Arc::new(config), requests, next: 0, kind }))
        };
        Ok(Self { address, uri: uri()?, each: (0..count).map(caller).collect() })
    }

    pub(crate) async fn run(&self, duration: Duration) -> Outcome<Measured> {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for caller in &self.each {
            let (caller, address, uri) = (Arc::clone(caller), self.address, self.uri.clone());
            running.spawn(async move {
                let mut caller = caller.lock().await;
                let mut times = Vec::with_capacity(4096);
                while start.elapsed() < duration {
                    let sent = Instant::now();
                    caller.call(address, uri.clone()).await?;
                    times.push(sent.elapsed());
                }
                Ok::<_, Failure>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(caller) = running.join_next().await {
            times.append(&mut caller.map_err(Failure::while_doing("run a client"))??);
        }
        let elapsed = start.elapsed();
        times.sort_unstable();
        Ok(Measured { elapsed, times, turned_away: Vec::new() })
    }
}

impl Caller {
    async fn call(&mut self, address: SocketAddr, uri: Uri) -> Outcome {
        let request = self.requests.get(self.next % self.requests.len().max(1)).cloned();
        let request = request.ok_or_else(|| Failure::unexpected("fewer identities than clients"))?;
        let stream = tls::connect(address, Arc::clone(&self.config)).await?;
        let kind = stream.get_ref().1.handshake_kind();
        let (mut connection, driver) =
            h2::client::handshake(stream).await.map_err(Failure::while_doing("speak HTTP/2"))?;
        let mut driven = JoinSet::new();
        driven.spawn(driver);
        let answered = exchange(&mut connection, uri, request).await?;
        ensure(matches!(answered, Answered::Issued(_)), || "turned away".to_owned())?;
        let as_wanted = self.next == 0 || self.kind.is_none() || kind == self.kind;
        ensure(as_wanted, || format!("a handshake was {kind:?}, not {:?}", self.kind))?;
        self.next += 1;
        // The connection ends with the last handle to it.
        drop(connection);
        driven.join_all().await;
        Ok(())
    }
}

/// Measures all three.
pub(crate) async fn measure(options: &Options, rounds: usize) -> Outcome {
    proc::allow_files()?;
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    let cas = Cas::start(&dev, 1).await?;
    let requests = requests::prepare(&dev, options.identities)?;
    let address = dev.listen;
    let kept = Load::open(&dev, &cas.addresses, &requests, options.connections).await?;
    let whole = Callers::new(&dev, address, &requests, options.connections, Resumes::Never)?;
    let resumed = Callers::new(&dev, address, &requests, options.connections, Resumes::Always)?;
    let mut rows = [KEPT, WHOLE, RESUMED].map(Row::new);
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        let ca = (Some(cas.first.process.id()), None);
        let turns = [
            turn(ca, async |time| kept.run(time).await, options.duration).await?,
            turn(ca, async |time| whole.run(time).await, options.duration).await?,
            turn(ca, async |time| resumed.run(time).await, options.duration).await?,
        ];
        for (row, turn) in rows.iter_mut().zip(turns) {
            row.turns.push(turn);
        }
    }
    kept.judge_one().await?;
    drop(kept);
    cas.stop().await?;
    say(&format!("machine: {}", crate::floor::processor()));
    say("microseconds of processor time are for each certificate; rates are those of cores that the load shares");
    say(&format!(
        "{:<22}{:>10}{:>12}{:>10}{:>10}{:>10}{:>10}",
        "connections", "a second", "x whole", "p50 ms", "p99 ms", "CA us", "load us"
    ));
    let [_, whole, _] = &rows;
    let mut lines = Vec::new();
    for row in &rows {
        let rate = row.middle(|turn| turn.per_second);
        let (p50, p99) = (row.middle(|turn| turn.p50_ms), row.middle(|turn| turn.p99_ms));
        let (ca, load) = (row.middle(|turn| turn.ca_us), row.middle(|turn| turn.load_us));
        let beside = row.beside(Some(whole));
        say(&format!("{:<22}{rate:>10.0}{beside:>12.2}{p50:>10.2}{p99:>10.2}{ca:>10.1}{load:>10.1}", row.name));
        lines.push(json!({
            "connections": row.name, "per_second": tenths(rate), "of_whole": hundredths(beside), "p50_ms": hundredths(p50),
            "p99_ms": hundredths(p99), "ca_cpu_us": tenths(ca), "load_cpu_us": tenths(load),
        }));
    }
    keep("connections", json!({ "rounds": rounds, "seconds": options.duration.as_secs(), "connections": lines }))
}
