//! The command line of the bench.

use std::time::Duration;

const USAGE: &str = "usage: signet-bench [--seconds 10] [--connections 32] [--identities 2048] [--replicas 1] [--no-peers]\n       signet-bench --places 16 --connections 96\n       signet-bench --streams 2000\n       signet-bench --proxies 2000\n       signet-bench --tokens 2000\n       signet-bench --backends 5 [--seconds 5]";

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
            peers: true,
        };
        while let Some(name) = args.next() {
            if name == "--no-peers" {
                options.peers = false;
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
                ("--proxies", Some(value)) => options.proxies = Some(value),
                _ => return Err(format!("{name}: not understood\n{USAGE}")),
            }
        }
        Ok(options)
    }
}
