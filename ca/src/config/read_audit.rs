//! Reads how the record is signed, and how long it is kept.

use std::path::PathBuf;

use signet_core::audit::Retention;
use signet_core::identity::TrustDomain;
use signet_runtime::config::{Section, kind};

use super::read_witnesses::{WitnessConfig, read_witnesses};

/// How the record is signed and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The name of the log in its checkpoints, and of the keys that sign them.
    pub origin: String,
    /// Where the newest checkpoint is kept outside of the database.
    pub checkpoint_file: Option<PathBuf>,
    /// How long the words of events are kept.
    pub retention: Retention,
    /// The file of JSON lines that the record is followed into.
    pub sink_file: Option<PathBuf>,
    /// Who cosigns checkpoints.
    pub witnesses: Vec<WitnessConfig>,
    /// How many of them are enough.
    pub quorum: usize,
}

/// What is in the section; the name of the log is made of the trust domain when there is none.
pub(super) struct Read {
    origin: Option<String>,
    checkpoint_file: Option<PathBuf>,
    retention: Retention,
    sink_file: Option<PathBuf>,
    witnesses: (Vec<WitnessConfig>, usize),
}

impl Read {
    pub(super) fn of(self, trust_domain: &TrustDomain) -> AuditConfig {
        let origin = self.origin.clone().unwrap_or_else(|| format!("{trust_domain}/record"));
        let Self { checkpoint_file, retention, sink_file, witnesses: (witnesses, quorum), .. } = self;
        AuditConfig { origin, checkpoint_file, retention, sink_file, witnesses, quorum }
    }
}

pub(super) fn read_audit(s: &mut Section<'_>) -> Option<Read> {
    let checkpoint_file = s.optional(
        "checkpoint_file",
        kind::path(),
        "where the newest signed checkpoint of the record is kept outside of the storage: a record that does not continue it is not signed, see docs/audit.md",
    );
    let origin = s.optional(
        "origin",
        kind::parsed("name of a log", name),
        "the name of the record in its checkpoints and keys; another one begins a new log, see docs/audit.md. Without it, the trust domain and /record",
    );
    let retention =
        s.section("retention", "how long the words of events are kept; their hashes stay for ever", read_retention);
    let sink_file = s.optional(
        "sink_file",
        kind::absolute_path(),
        "a file that each event on record is appended to as a line of JSON, once and in order, by this process; see docs/audit.md",
    );
    let witnesses = read_witnesses(s);
    Some(Read {
        origin: origin?,
        checkpoint_file: checkpoint_file?,
        retention: retention?,
        sink_file: sink_file?,
        witnesses: witnesses?,
    })
}

fn read_retention(s: &mut Section<'_>) -> Option<Retention> {
    let certificates = s.optional(
        "certificates",
        kind::duration(),
        "of certificates that were issued, at least until they have ended and svid.max_ttl has passed since. Without it, for ever",
    );
    let refusals = s.optional(
        "refusals",
        kind::duration(),
        "of requests for certificates that were refused or could not be served. Without it, for ever",
    );
    let operations = s.optional(
        "operations",
        kind::duration(),
        "of everything else: steps of authorities, what operators did, configurations. Without it, for ever",
    );
    Some(Retention { certificates: certificates?, refusals: refusals?, operations: operations? })
}

fn name(text: &str) -> Result<String, &'static str> {
    let bad = |one: char| one.is_whitespace() || one.is_control() || one == '+';
    let is_name = (1..=200).contains(&text.len()) && !text.contains(bad);
    is_name
        .then(|| text.to_owned())
        .ok_or("has spaces or a plus sign, or is not of 1 to 200 bytes; write it like ca.example.com/record")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use signet_runtime::config::parse;

    use super::super::{read, tests::SMALLEST};
    use super::*;

    #[test]
    fn the_log_is_named_after_the_trust_domain_unless_it_has_another_name() {
        let read = |audit: &str| parse("f", &format!("{SMALLEST}\n{audit}\n"), read).map(|loaded| loaded.config.audit);
        let (origin, checkpoint_file) = ("cluster.local/record".to_owned(), None);
        assert_eq!(
            read("").unwrap(),
            AuditConfig {
                origin,
                checkpoint_file,
                retention: Retention::default(),
                sink_file: None,
                witnesses: Vec::new(),
                quorum: 1,
            }
        );
        let given = read("audit: { origin: ca.example.com/log, checkpoint_file: /elsewhere/checkpoint }").unwrap();
        assert_eq!(given.origin, "ca.example.com/log");
        assert_eq!(given.checkpoint_file, Some(PathBuf::from("/elsewhere/checkpoint")));
        let kept = read("audit: { retention: { certificates: 90d, operations: 3650d } }").unwrap().retention;
        let days = |days: u64| Some(std::time::Duration::from_hours(24 * days));
        assert_eq!(kept, Retention { certificates: days(90), refusals: None, operations: days(3650) });
        for bad in ["\"\"", "a b", "a+b", "\"a\\nb\""] {
            let error = read(&format!("audit: {{ origin: {bad} }}")).unwrap_err().to_string();
            assert!(error.contains("audit.origin"), "{bad}: {error}");
        }
    }
}
