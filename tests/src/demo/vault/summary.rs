//! What the Vault demo showed, for programs and for people, and whether it is a success.

use std::path::PathBuf;

use crate::demo::keep;
use crate::demo::narrator::Narrator;
use crate::failure::{Outcome, ensure};

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Requests through both proxies.
    pub requests: u64,
    /// Those that were not answered with 200.
    pub failed: u64,
    /// Certificates that Signet signed with an issuing CA of OpenBao's.
    pub issued_intermediate_mode: u64,
    /// Certificates that OpenBao has signed itself.
    pub issued_leaf_mode: u64,
    /// From the changed configuration until nobody had a certificate of the former root any more.
    pub switch_seconds: f64,
    /// How long OpenBao was sealed, in all.
    pub sealed_seconds: f64,
}

/// Fewer would say little.
const LEAST: u64 = 500;

impl Summary {
    fn json(&self) -> String {
        format!(
            "{{\"requests\":{},\"failed\":{},\"issued_intermediate_mode\":{},\"issued_leaf_mode\":{},\"switch_seconds\":{:.1},\"sealed_seconds\":{:.1}}}",
            self.requests,
            self.failed,
            self.issued_intermediate_mode,
            self.issued_leaf_mode,
            self.switch_seconds,
            self.sealed_seconds
        )
    }

    /// Writes `target/demo/vault.json`; gives its path.
    ///
    /// # Errors
    /// [`Failure::Io`](crate::failure::Failure::Io).
    pub fn write(&self) -> Outcome<PathBuf> {
        keep("vault", &self.json())
    }

    /// A table for people.
    pub fn tell(&self, narrator: &Narrator) {
        for (number, what) in [
            (self.requests.to_string(), "requests through two Envoys over mutual TLS"),
            (self.failed.to_string(), "of them failed"),
            (self.issued_intermediate_mode.to_string(), "certificates signed here, below OpenBao's root"),
            (self.issued_leaf_mode.to_string(), "certificates signed by OpenBao itself"),
            (format!("{:.1}", self.switch_seconds), "seconds from the changed configuration until everybody had moved"),
            (format!("{:.1}", self.sealed_seconds), "seconds that OpenBao was sealed"),
        ] {
            narrator.row(&format!("{number:>7}  {what}"));
        }
    }

    /// Whether the demo showed what it is for.
    ///
    /// # Errors
    /// [`Failure::Unexpected`](crate::failure::Failure::Unexpected).
    pub fn judge(&self) -> Outcome {
        ensure(self.failed == 0, || format!("{} of {} requests failed", self.failed, self.requests))?;
        ensure(self.requests > LEAST, || {
            format!("only {} requests were made, more than {LEAST} are wanted", self.requests)
        })?;
        ensure(self.issued_intermediate_mode > 0, || "nothing was issued below OpenBao's root".to_owned())?;
        ensure(self.issued_leaf_mode > 0, || "nothing was signed by OpenBao itself".to_owned())?;
        ensure(self.switch_seconds > 0.0, || "nobody has moved to OpenBao's root".to_owned())?;
        ensure(self.sealed_seconds > 0.0, || "OpenBao was never sealed".to_owned())
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
            requests: 501,
            failed: 0,
            issued_intermediate_mode: 1,
            issued_leaf_mode: 2,
            switch_seconds: 12.34,
            sealed_seconds: 20.0,
        };
        assert!(good().judge().is_ok());
        let expected = json!({"requests": 501, "failed": 0, "issued_intermediate_mode": 1, "issued_leaf_mode": 2,
            "switch_seconds": 12.3, "sealed_seconds": 20.0});
        let read: Value = serde_json::from_str(&good().json()).unwrap();
        assert_eq!(read, expected);
        for bad in [
            Summary { requests: 500, ..good() },
            Summary { failed: 1, ..good() },
            Summary { issued_intermediate_mode: 0, ..good() },
            Summary { issued_leaf_mode: 0, ..good() },
            Summary { switch_seconds: 0.0, ..good() },
            Summary { sealed_seconds: 0.0, ..good() },
        ] {
            assert!(bad.judge().is_err(), "{bad:?}");
        }
    }
}
