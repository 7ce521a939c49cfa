//! `make bench`: how fast the running release CA issues over TLS, what a certificate costs it, and how that compares
//! with the bare cryptography and with two other signers on the same machine. With `--backends`, what a certificate
//! costs with each backend; with `--connect-each`, what a new connection
//! for each costs; with `--streams`, how a new trust bundle reaches many agents; with `--proxies`, how it
//! reaches many proxies of one agent; with `--tokens`, how long the tokens of a real API server take. The last line is
//! JSON.
#![allow(clippy::arithmetic_side_effects, reason = "times here are near, and a panic is a failed test")]

mod backends;
#[cfg(feature = "kubernetes")]
mod clusters;
mod compare;
mod connections;
mod floor;
mod growth;
mod herd;
mod load;
mod options;
mod page;
mod peers;
mod proc;
mod proxies;
mod raw;
mod report;
mod requests;
mod rounds;
mod start;
mod streams;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use report::Report;
use signet_tests::failure::Outcome;
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::tools::{complain, say};

/// The time in which connections, caches and the allocator settle.
const WARM_UP: Duration = Duration::from_secs(3);

// The load shares the machine with the CA: one thread is enough for it and leaves the rest.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)) {
        Ok(options) => match bench(&options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                complain(&format!("bench: {failure}"));
                ExitCode::FAILURE
            }
        },
        Err(usage) => {
            complain(&usage);
            ExitCode::from(2)
        }
    }
}

async fn bench(options: &Options) -> Outcome {
    #[cfg(feature = "kubernetes")]
    if let Some(count) = options.tokens {
        return clusters::measure(count).await;
    }
    if let Some(rounds) = options.backends {
        return backends::measure(options, rounds).await;
    }
    if let Some(page) = &options.write {
        return page::write(page);
    }
    if let Some((pairs, other)) = options.compare.zip(options.against.as_deref()) {
        return compare::measure(options, pairs, other).await;
    }
    if let Some(rounds) = options.connect_each {
        return connections::measure(options, rounds).await;
    }
    if let Some(agents) = options.herd {
        return herd::measure(agents).await;
    }
    if let Some(dimension) = options.growth {
        return growth::measure(options, dimension).await;
    }
    if let Some(events) = options.start {
        return start::measure(options, events).await;
    }
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    proc::allow_files()?;
    let cas = usage::Cas::start(&dev, options.replicas).await?;
    if let Some(proxies) = options.proxies {
        return proxies::measure(&dev, &cas.first, proxies).await;
    }
    say(&format!("making {} identities, each with an RS256 token and a P-256 CSR", options.identities));
    let prepared = requests::prepare(&dev, options.identities)?;
    if options.streams.is_some() {
        return streams::measure(&dev, &cas.first, &prepared).await.map(drop);
    }
    let load = load::Load::open(&dev, &cas.addresses, &prepared, options.connections).await?;
    say(&format!("{} connections over TLS 1.3, {} s warm-up", options.connections, WARM_UP.as_secs()));
    load.run(WARM_UP).await?;
    let (before, usage_before) = (cas.first.metrics().await?, cas.usage()?);
    let measured = load.run(options.duration).await?;
    let (usage, rss, after) = (cas.usage()?.since(usage_before), cas.resident_mib()?, cas.first.metrics().await?);
    load.judge_one().await?;
    drop(load);
    let replicas = cas.count();
    cas.stop().await?;
    say("the crypto floor, on all cores as under load");
    let floor = floor::measure(&prepared)?;
    let peers = if options.peers { peers::measure(options)? } else { peers::Peers::default() };
    report::turned_away(&measured);
    let report = Report { measured, usage, replicas, rss, floor, peers };
    report::explain(&before, &after);
    report.print()
}

/// Lets a CA take whatever comes.
fn unlimited(dev: &Dev, options: &Options) -> Outcome {
    for limit in ["limits.per_identity", "limits.per_peer"] {
        dev.set_ca(&format!("{limit}.per_second"), 1_000_000)?;
        dev.set_ca(&format!("{limit}.burst"), 1_000_000)?;
    }
    dev.set_ca("limits.concurrent_requests", options.places.unwrap_or(10_000))
}
