//! What may grow, and by how much.

use serde_json::{Value, json};

use crate::usage::Usage;

/// Memory that allocators and pools come to hold when they are used for longer, per process, in KiB.
const SLACK: u64 = 2 * 1024;

/// What the CA's page caches of SQLite hold at most, in KiB: 8,000 of the writer and 2,000 of each of two readers, and what
/// SQLite needs to find them again. Until then they grow with the database.
const PAGE_CACHES: u64 = 12_000 + 1_200;

/// Envoy's own matter, but a leak in what it holds of ours would show.
const ENVOY_SLACK: u64 = 8 * 1024;

/// Connections that happen to be open at one end and not at the other.
const FILES: u64 = 8;

/// Threads for blocking work come and go.
const THREADS: u64 = 8;

/// Everything at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since the start of the comparison, in seconds.
    pub(crate) at: u64,
    /// The CA.
    pub(crate) ca: Usage,
    /// The agents, the largest of them.
    pub(crate) agents: Usage,
    /// The Envoys, the largest of them.
    pub(crate) envoys: Usage,
    /// The CA's database with its log, in KiB.
    pub(crate) database: u64,
}

impl Moment {
    /// For the summary.
    pub(crate) fn json(&self) -> Value {
        json!({
            "second": self.at,
            "ca": self.ca.json(),
            "agents": self.agents.json(),
            "envoys": self.envoys.json(),
            "database_kib": self.database,
        })
    }
}

/// What grew beyond its tolerance between two moments; empty when nothing did.
pub(crate) fn leaks(begin: &Moment, end: &Moment) -> Vec<String> {
    let cached = end.database.saturating_sub(begin.database).saturating_mul(5) / 4;
    let kinds = [
        ("the CA", &begin.ca, &end.ca, SLACK + cached.min(PAGE_CACHES)),
        ("an agent", &begin.agents, &end.agents, SLACK),
        ("an Envoy", &begin.envoys, &end.envoys, ENVOY_SLACK),
    ];
    let mut leaks = Vec::new();
    for (kind, before, after, memory) in kinds {
        let numbers = [
            ("KiB of memory", before.memory, after.memory, memory),
            ("open files", before.files, after.files, FILES),
            ("threads", before.threads, after.threads, THREADS),
        ];
        for (what, before, after, tolerance) in numbers {
            if after > before.saturating_add(tolerance) {
                leaks.push(format!("{kind} went from {before} to {after} {what}, more than {tolerance} on top"));
            }
        }
    }
    leaks
}
