//! The command line of the soak.

use std::time::Duration;

const USAGE: &str = "usage: signet-soak [2m] [--agents 20]   (a time is a number with s, m or h)";

/// How long and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// Time between the two ends that are compared.
    pub(crate) duration: Duration,
    /// Agents in all; the first four have an Envoy.
    pub(crate) agents: usize,
}

impl Options {
    /// Reads the arguments; an error is the usage.
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { duration: Duration::from_secs(120), agents: 20 };
        while let Some(arg) = args.next() {
            let understood = if arg == "--agents" {
                let value =
                    args.next().and_then(|value| value.parse().ok()).filter(|agents| (4..=500).contains(agents));
                value.map(|agents| options.agents = agents)
            } else {
                time(&arg).map(|duration| options.duration = duration)
            };
            understood.ok_or_else(|| format!("{arg}: not understood\n{USAGE}"))?;
        }
        Ok(options)
    }
}

fn time(text: &str) -> Option<Duration> {
    let seconds = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok().filter(|number| *number > 0)?;
    number.checked_mul(seconds).map(Duration::from_secs)
}
