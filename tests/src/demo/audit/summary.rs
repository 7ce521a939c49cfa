//! What the audit demo showed, for programs and for people, and whether it is a success.

use std::path::PathBuf;

use crate::demo::keep;
use crate::demo::narrator::Narrator;
use crate::failure::{Outcome, ensure};

/// What came of it, on all storages together.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Certificates that clients received.
    pub received: usize,
    /// Those that are not on record.
    pub missing: usize,
    /// Serial numbers that are on record, or were received, twice.
    pub duplicate_serials: usize,
    /// How often the CA was killed.
    pub kills: usize,
    /// Storages whose record held to the end.
    pub verified: usize,
    /// Storages in which the changed event was named.
    pub tamper_found: usize,
    /// Storages that there were.
    pub storages: usize,
    /// Events whose words retention had removed when a proof of another one was verified.
    pub forgotten: u64,
}

impl Summary {
    fn json(&self) -> String {
        format!(
            "{{\"received\":{},\"missing\":{},\"duplicate_serials\":{},\"kills\":{},\"verified\":{},\"tamper_found\":{},\"forgotten\":{}}}",
            self.received,
            self.missing,
            self.duplicate_serials,
            self.kills,
            self.is_everywhere(self.verified),
            self.is_everywhere(self.tamper_found),
            self.forgotten
        )
    }

    fn is_everywhere(&self, number: usize) -> bool {
        self.storages > 0 && number == self.storages
    }

    /// Writes `target/demo/audit.json`; gives its path.
    ///
    /// # Errors
    /// [`Failure::Io`](crate::failure::Failure::Io).
    pub fn write(&self) -> Outcome<PathBuf> {
        keep("audit", &self.json())
    }

    /// A table for people.
    pub fn tell(&self, narrator: &Narrator) {
        for (number, what) in [
            (self.received as u64, "certificates were received"),
            (self.kills as u64, "times the CA was killed while it issued them"),
            (self.missing as u64, "of them are not on record"),
            (self.duplicate_serials as u64, "serial numbers were given twice"),
            (self.forgotten, "events have no words any more, and proofs of the others hold"),
        ] {
            narrator.row(&format!("{number:>7}  {what}"));
        }
    }

    /// Whether the demo showed what it is for.
    ///
    /// # Errors
    /// [`Failure::Unexpected`](crate::failure::Failure::Unexpected).
    pub fn judge(&self) -> Outcome {
        ensure(self.received > 0 && self.kills > 0, || format!("nothing was tried: {self:?}"))?;
        ensure(self.missing == 0 && self.duplicate_serials == 0, || {
            format!("{} certificates are not on record, {} serials came twice", self.missing, self.duplicate_serials)
        })?;
        ensure(self.is_everywhere(self.verified), || "the record does not hold".to_owned())?;
        ensure(self.is_everywhere(self.tamper_found), || "a changed event was not named".to_owned())?;
        ensure(self.forgotten > 0, || "retention has removed nothing".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_shortcoming_is_a_failure() {
        let good = || Summary {
            received: 9,
            missing: 0,
            duplicate_serials: 0,
            kills: 2,
            verified: 2,
            tamper_found: 2,
            storages: 2,
            forgotten: 3,
        };
        assert!(good().judge().is_ok());
        let expected = json!({"received": 9, "missing": 0, "duplicate_serials": 0, "kills": 2, "verified": true,
            "tamper_found": true, "forgotten": 3});
        let read: Value = serde_json::from_str(&good().json()).unwrap();
        assert_eq!(read, expected);
        for bad in [
            Summary { received: 0, ..good() },
            Summary { kills: 0, ..good() },
            Summary { missing: 1, ..good() },
            Summary { duplicate_serials: 1, ..good() },
            Summary { verified: 1, ..good() },
            Summary { tamper_found: 1, ..good() },
            Summary { storages: 0, verified: 0, tamper_found: 0, ..good() },
            Summary { forgotten: 0, ..good() },
        ] {
            assert!(bad.judge().is_err(), "{bad:?}");
        }
    }
}
