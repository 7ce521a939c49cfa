//! `--herd N`: N agents at once right after a restart of the CA, each from an address of its own with a new connection and a new
//! token; whoever is turned away comes back when the CA says. How long until all have their certificates, and what it cost. Limits
//! are those of the defaults. The last line is JSON, and so is `target/bench/herd.json`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::version::TLS13;
use serde_json::json;
use signet_tests::client::tls;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::tools::say;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic_types::StatusExt as _;

use crate::load::{Answered, exchange, quantile_ms, uri};
use crate::requests;
use crate::rounds::{hundredths, keep, tenths};
use crate::usage::Cas;
use crate::{WARM_UP, load, proc};

/// An agent that has nothing after this has been starved.
const PATIENCE: Duration = Duration::from_secs(120);

/// The pause of an agent whose connection came to nothing, which the CA cannot tell how long to wait.
const AGAIN: Duration = Duration::from_secs(1);

/// How one agent fared.
struct Fared {
    took: Duration,
    turned_away: usize,
    lost: usize,
}

/// Measures.
pub(crate) async fn measure(count: usize) -> Outcome {
    proc::allow_files()?;
    let dev = Dev::init(&DevOptions::default())?;
    say(&format!("making {count} identities, each with an RS256 token and a P-256 CSR"));
    let requests = requests::prepare(&dev, count)?;
    let cas = Cas::start(&dev, 1).await?;
    let connections = 32;
    let warm = load::Load::open(&dev, &cas.addresses, &requests, connections).await?;
    // All are on record already, as agents that come again are.
    drop(warm.run(WARM_UP).await?);
    drop(warm);
    cas.stop().await?;
    let started = Instant::now();
    let cas = Cas::start(&dev, 1).await?;
    let ready = started.elapsed();
    let ca = cas.first.process.id();
    let (memory, cpu) = (proc::resident_mib(ca)?, proc::cpu_time(ca)?);
    let mut config = ClientConfig::clone(&*tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?);
    config.resumption = Resumption::disabled();
    let (config, start) = (Arc::new(config), Instant::now());
    let mut agents = JoinSet::new();
    for (index, one) in requests.each.iter().enumerate() {
        let request = (one.authorization.clone(), one.body.clone());
        let (config, to) = (Arc::clone(&config), dev.listen);
        agents.spawn(async move {
            let (mut turned_away, mut lost) = (0, 0);
            loop {
                ensure(start.elapsed() < PATIENCE, || format!("agent {index} got nothing in {PATIENCE:?}"))?;
                match attempt(index, to, &config, request.clone()).await {
                    Ok(None) => return Ok(Fared { took: start.elapsed(), turned_away, lost }),
                    Ok(Some(wait)) => {
                        turned_away += 1;
                        let wait = wait.ok_or_else(|| Failure::unexpected("turned away, and not told until when"))?;
                        tokio::time::sleep(wait).await;
                    }
                    Err(_closed) => {
                        lost += 1;
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
    }
    let mut fared: Vec<Fared> = Vec::with_capacity(count);
    while let Some(agent) = agents.join_next().await {
        fared.push(agent.map_err(Failure::while_doing("run an agent"))??);
    }
    let (peak, cpu) = (proc::peak_mib(ca)?, proc::cpu_time(ca)?.saturating_sub(cpu));
    let settled = proc::resident_mib(ca)?;
    cas.stop().await?;
    let mut times: Vec<Duration> = fared.iter().map(|one| one.took).collect();
    times.sort_unstable();
    let all = times.last().copied().unwrap_or_default().as_secs_f64();
    let turned_away: usize = fared.iter().map(|one| one.turned_away).sum();
    let most = fared.iter().map(|one| one.turned_away).max().unwrap_or_default();
    let lost: usize = fared.iter().map(|one| one.lost).sum();
    let each_us = cpu.as_secs_f64() * 1e6 / count.max(1) as f64;
    say(&format!("machine: {}", crate::floor::processor()));
    say(&format!("the CA was ready {:.0} ms after its start", ready.as_secs_f64() * 1000.0));
    say(&format!(
        "{count} agents had their certificates after {all:.2} s: half of them within {:.2} s, 99 of 100 within {:.2} s",
        quantile_ms(&times, 0.5) / 1000.0,
        quantile_ms(&times, 0.99) / 1000.0
    ));
    say(&format!(
        "{turned_away} times an agent was turned away and came again when the CA said, one of them {most} times; {lost} connections came to nothing"
    ));
    say(&format!(
        "{each_us:.0} us of the CA's processor time each; {memory:.0} MiB before, {peak:.0} at most, {settled:.0} after"
    ));
    keep(
        "herd",
        json!({
            "agents": count, "ready_ms": tenths(ready.as_secs_f64() * 1000.0), "all_s": hundredths(all),
            "p50_s": hundredths(quantile_ms(&times, 0.5) / 1000.0), "p99_s": hundredths(quantile_ms(&times, 0.99) / 1000.0),
            "turned_away": turned_away, "turned_away_most": most, "lost": lost, "ca_cpu_us": tenths(each_us),
            "rss_before_mib": tenths(memory), "rss_peak_mib": tenths(peak), "rss_after_mib": tenths(settled),
        }),
    )
}

/// One connection and one request from an address of this agent's own; how long to wait where there was no room.
async fn attempt(
    index: usize,
    to: SocketAddr,
    config: &Arc<ClientConfig>,
    request: (http::HeaderValue, bytes::Bytes),
) -> Outcome<Option<Option<Duration>>> {
    let socket = TcpSocket::new_v4().map_err(Failure::io("make a socket"))?;
    // All of 127.0.0.0/8 is this machine.
    let low = u32::try_from(index).unwrap_or_default() + 0x10_00_01;
    let own = Ipv4Addr::from(0x7f00_0000 | low);
    socket.bind(SocketAddr::from((own, 0))).map_err(Failure::io("take an address"))?;
    let stream = socket.connect(to).await.map_err(Failure::io("connect"))?;
    let stream = tls::over(stream, Arc::clone(config)).await?;
    let (mut connection, driver) = h2::client::handshake(stream).await.map_err(Failure::while_doing("speak HTTP/2"))?;
    let mut driven = JoinSet::new();
    driven.spawn(driver);
    Ok(match exchange(&mut connection, uri()?, request).await? {
        Answered::Issued(_) => None,
        Answered::TurnedAway(trailers) => {
            let status = tonic::Status::from_header_map(&trailers);
            let info = status.and_then(|status| status.get_details_retry_info());
            Some(info.and_then(|info| info.retry_delay))
        }
    })
}
