//! The command line of the bench.

use std::path::PathBuf;
use std::time::Duration;

use crate::growth::Dimension;

const USAGE: &str = "usage: signet-bench [--seconds 10] [--connections 32] [--identities 2048] [--replicas 1] [--no-peers]\n       signet-bench --connect-each 5 [--seconds 5]\n       signet-bench --compare 10 --against PROGRAM [--connect-each 1] [--seconds 4]\n       signet-bench --herd 5000\n       signet-bench --start 100000\n       signet-bench --growth events|holders|streams|clusters|roots [--long]\n       signet-bench --write docs/performance.md\n       signet-bench --places 16 --connections 96\n       signet-bench --streams 2000\n       signet-bench --proxies 2000\n       signet-bench --tokens 2000\n       signet-bench --backends 5 [--seconds 5]";

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Length of the measurement.
    pub(crate) duration: Duration,
    /// Connections, each with one request at a time.
    pub(crate) connections: usize,
    /// Workloads, each with a token and a CSR of its own.
    pub(crate) identities: usize,
    /// CA processes on one storage, among which the connections are dealt out.
    pub(crate) replicas: usize,
    /// Requests that the CA works on at the same time; those of more connections are turned away, and come again at once.
    pub(crate) places: Option<usize>,
    /// Agents with a bundle stream each; measures those instead of the rate.
    pub(crate) streams: Option<usize>,
    /// Proxies with a stream each from one agent; measures those instead of the rate.
    pub(crate) proxies: Option<usize>,
    /// New tokens of a real API server, all at once; measures those instead of the rate.
    pub(crate) tokens: Option<usize>,
    /// Rounds in which each backend has its turn; measures those instead of the one rate.
    pub(crate) backends: Option<usize>,
    /// Rounds in which new connections and such that stay open have their turns; measures those instead of the one rate.
    pub(crate) connect_each: Option<usize>,
    /// Pairs of turns of this CA and another one, with the program of that; measures those instead of the one rate.
    pub(crate) compare: Option<usize>,
    pub(crate) against: Option<PathBuf>,
    /// Agents that come at once after a restart; measures those instead of the one rate.
    pub(crate) herd: Option<usize>,
    /// Events on record of a CA that starts; measures starts instead of the rate.
    pub(crate) start: Option<usize>,
    /// What grows; measures that instead of the one rate.
    pub(crate) growth: Option<Dimension>,
    /// Whether to grow to the largest size.
    pub(crate) long: bool,
    /// The page to fill with what was measured.
    pub(crate) write: Option<PathBuf>,
    /// Whether to run the other signers too.
    pub(crate) peers: bool,
}

impl Options {
    /// Reads the arguments; an error is the usage.
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            duration: Duration::from_secs(10),
            connections: 32,
            identities: 2048,
            replicas: 1,
            places: None,
            streams: None,
            proxies: None,
            tokens: None,
            backends: None,
            connect_each: None,
            compare: None,
            herd: None,
            start: None,
            growth: None,
            long: false,
            write: None,
            against: None,
            peers: true,
        };
        while let Some(name) = args.next() {
            if name == "--no-peers" {
                options.peers = false;
                continue;
            }
            if name == "--long" {
                options.long = true;
                continue;
            }
            if name == "--growth" {
                options.growth = args.next().as_deref().and_then(Dimension::of);
                if options.growth.is_some() {
                    continue;
                }
            }
            if name == "--write" {
                options.write = args.next().map(PathBuf::from);
                continue;
            }
            if name == "--against" {
                options.against = args.next().map(PathBuf::from);
                continue;
            }
            let value: Option<usize> = args.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
            match (name.as_str(), value) {
                ("--seconds", Some(value)) => options.duration = Duration::from_secs(value as u64),
                ("--connections", Some(value)) => options.connections = value,
                ("--identities", Some(value)) => options.identities = value,
                ("--replicas", Some(value)) => options.replicas = value,
                ("--places", Some(value)) => options.places = Some(value),
                ("--streams", Some(value)) => (options.streams, options.identities) = (Some(value), value),
                ("--tokens", Some(value)) => options.tokens = Some(value),
                ("--backends", Some(value)) => options.backends = Some(value),
                ("--start", Some(value)) => options.start = Some(value),
                ("--herd", Some(value)) => options.herd = Some(value),
                ("--compare", Some(value)) => options.compare = Some(value),
                ("--connect-each", Some(value)) => options.connect_each = Some(value),
                ("--proxies", Some(value)) => options.proxies = Some(value),
                _ => return Err(format!("{name}: not understood\n{USAGE}")),
            }
        }
        if options.compare.is_some() != options.against.is_some() {
            return Err(format!("--compare and --against belong together\n{USAGE}"));
        }
        Ok(options)
    }
}
