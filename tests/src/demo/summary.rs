//! The outcome of a demo, for programs, and whether it is a success.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::failure::{Failure, Outcome, ensure};
use crate::tools;

/// What the demo did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Requests sent through both proxies.
    pub requests: u64,
    /// Those that were not answered with 200.
    pub failed: u64,
    /// Certificates that replaced another one, of both workloads together.
    pub renewals: u64,
    /// SPIFFE IDs of caller and service.
    pub identities: Vec<String>,
    /// Events in the audit log.
    pub audit_events: usize,
}

impl Summary {
    /// Writes `target/demo/summary.json`; gives its path.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn write(&self) -> Outcome<PathBuf> {
        let directory = tools::target_dir().join("demo");
        std::fs::create_dir_all(&directory).map_err(Failure::io(format!("make {}", directory.display())))?;
        let path = directory.join("summary.json");
        self.write_to(&path)?;
        Ok(path)
    }

    fn write_to(&self, path: &Path) -> Outcome {
        let text = format!(
            "{{\"requests\":{},\"failed\":{},\"renewals\":{},\"identities\":{},\"audit_events\":{}}}\n",
            self.requests,
            self.failed,
            self.renewals,
            json!(self.identities),
            self.audit_events
        );
        std::fs::write(path, text).map_err(Failure::io(format!("write {}", path.display())))
    }

    /// Whether the demo showed what it is for.
    ///
    /// # Errors
    /// [`Failure::Unexpected`].
    pub fn judge(&self) -> Outcome {
        ensure(self.failed == 0, || format!("{} of {} requests failed", self.failed, self.requests))?;
        ensure(self.requests > 500, || format!("only {} requests were made, more than 500 are wanted", self.requests))?;
        ensure(self.renewals >= 4, || format!("only {} renewals were seen, 4 are wanted", self.renewals))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_summary_has_exactly_the_promised_fields_and_judges_by_them() {
        let good = Summary {
            requests: 501,
            failed: 0,
            renewals: 4,
            identities: vec!["spiffe://a".into(), "spiffe://b".into()],
            audit_events: 9,
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.json");
        good.write_to(&path).unwrap();
        let read: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let expected = json!({"requests": 501, "failed": 0, "renewals": 4,
            "identities": ["spiffe://a", "spiffe://b"], "audit_events": 9});
        assert_eq!(read, expected);
        good.judge().unwrap();
        for bad in [
            Summary { requests: 500, ..good.clone() },
            Summary { failed: 1, ..good.clone() },
            Summary { renewals: 3, ..good.clone() },
        ] {
            assert!(bad.judge().is_err());
        }
    }
}
