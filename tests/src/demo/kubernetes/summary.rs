//! What the Kubernetes demo showed, for programs and for people, and whether it is a success.

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
    /// Certificates that the node agent got for pods of its node.
    pub impersonated: u64,
    /// Askers that were refused, each as it should be.
    pub refused: u64,
    /// Certificates that kubelet got for pods.
    pub pod_certificates: u64,
    /// Namespaces that had the trust bundle in a ConfigMap in the end.
    pub namespaces_published: usize,
}

/// Who is refused: a node agent that asks for a pod of another node, a workload that asks for another identity, and a pod that is gone.
const REFUSED: u64 = 3;
/// Fewer would say little.
const LEAST: u64 = 500;

impl Summary {
    fn json(&self) -> String {
        format!(
            "{{\"requests\":{},\"failed\":{},\"impersonated\":{},\"refused\":{},\"pod_certificates\":{},\"namespaces_published\":{}}}",
            self.requests,
            self.failed,
            self.impersonated,
            self.refused,
            self.pod_certificates,
            self.namespaces_published
        )
    }

    /// Writes `target/demo/kubernetes.json`; gives its path.
    ///
    /// # Errors
    /// [`Failure::Io`](crate::failure::Failure::Io).
    pub fn write(&self) -> Outcome<PathBuf> {
        keep("kubernetes", &self.json())
    }

    /// A table for people.
    pub fn tell(&self, narrator: &Narrator) {
        for (number, what) in [
            (self.requests, "requests through two Envoys over mutual TLS"),
            (self.failed, "of them failed"),
            (self.impersonated, "certificates for the pods of a node, by its node agent"),
            (self.refused, "askers refused, as they should be"),
            (self.pod_certificates, "certificates by a kubelet's PodCertificateRequest, without an agent"),
            (self.namespaces_published as u64, "namespaces with the roots in a ConfigMap"),
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
        ensure(self.impersonated >= 2, || format!("only {} certificates for pods of a node", self.impersonated))?;
        ensure(self.refused == REFUSED, || format!("{} askers were refused, not {REFUSED}", self.refused))?;
        ensure(self.pod_certificates >= 1, || "no pod got a certificate from its kubelet".to_owned())?;
        ensure(self.namespaces_published >= 3, || {
            format!("only {} namespaces have the roots", self.namespaces_published)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn each_shortcoming_is_a_failure() {
        let good = || Summary {
            requests: 501,
            failed: 0,
            impersonated: 2,
            refused: 3,
            pod_certificates: 1,
            namespaces_published: 3,
        };
        assert!(good().judge().is_ok());
        let read: serde_json::Value = serde_json::from_str(&good().json()).unwrap();
        let expected = json!({"requests": 501, "failed": 0, "impersonated": 2, "refused": 3, "pod_certificates": 1,
            "namespaces_published": 3});
        assert_eq!(read, expected);
        for bad in [
            Summary { requests: 500, ..good() },
            Summary { failed: 1, ..good() },
            Summary { impersonated: 1, ..good() },
            Summary { refused: 2, ..good() },
            Summary { refused: 4, ..good() },
            Summary { pod_certificates: 0, ..good() },
            Summary { namespaces_published: 2, ..good() },
        ] {
            assert!(bad.judge().is_err(), "{bad:?}");
        }
    }
}
