//! What a ConfigMap is to hold, and what becomes of one that is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use signet_core::bundle::Validation;
use signet_core::digest::sha256;
use signet_core::pem::{pem_block, read_certificates};

use super::super::calls::MANAGER;
use super::{ConfigMapSettings, Istiod};

/// What an API server lets a ConfigMap hold, in bytes of keys and values.
const MOST: usize = 1 << 20;
/// Every ConfigMap that is written has it, so that one's own can be told and found.
pub(in crate::publisher) const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "signet-ca");
/// istiod's ConfigMaps have it.
const ISTIODS: (&str, &str) = ("istio.io/config", "true");
/// As what istiod writes.
const ISTIOD: &str = "pilot-discovery";
const LACKS_ROOTS: &str = "istiod writes this ConfigMap, and it lacks roots of this CA: add these to \
    root-cert.pem of istiod's cacerts, stop istiod from writing it and set istiod: replace, or choose another name";
const LACKS_LISTS: &str = "istiod writes this ConfigMap, and its revocation lists are not those of this CA: stop istiod from \
    writing it and set istiod: replace, choose another revocation_name, or set revocation_lists: false";

/// Names a content: equal ones have equal digests.
pub(super) type Digest = u64;
/// No ConfigMap at all.
pub(super) const NOTHING: Digest = 0;
/// Whatever is there, or not.
pub(super) const ANYTHING: Digest = Digest::MAX;

/// What one ConfigMap is to hold.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) key: String,
    pub(super) text: String,
    labels: BTreeMap<String, String>,
    istiod: Istiod,
}

/// What the ConfigMaps of a namespace are to hold.
#[derive(Debug)]
pub(super) struct Contents {
    /// Of which bundle.
    pub(super) sequence: u64,
    pub(super) roots: Wanted,
    /// `None` when there is to be no such ConfigMap.
    pub(super) lists: Option<Wanted>,
    /// Why the revocation lists are left as they are.
    pub(super) blocked: Option<String>,
    pub(super) anchors: Anchors,
}

impl Contents {
    /// What is to be of the lists.
    pub(super) fn lists_digest(&self) -> Digest {
        let without = if self.blocked.is_some() { ANYTHING } else { NOTHING };
        self.lists.as_ref().map_or(without, |lists| lists.digest)
    }
}

/// The roots, each as its DER.
pub(super) type Anchors = BTreeSet<Vec<u8>>;

impl Contents {
    pub(super) fn of(validation: &Validation, settings: &ConfigMapSettings) -> Self {
        let wanted = |key: &str, text: String| {
            let mut labels = settings.labels.clone();
            labels.insert(OURS.0.to_owned(), OURS.1.to_owned());
            let digest = sha256(json!([key, text, labels]).to_string().as_bytes());
            let digest = digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
            Wanted { digest: digest.clamp(1, ANYTHING - 1), key: key.to_owned(), text, labels, istiod: settings.istiod }
        };
        let lists: String = validation.revocation_lists.iter().map(|list| pem_block("X509 CRL", list)).collect();
        let size = lists.len() + settings.revocation_key.len();
        let blocked = (settings.revocation_lists && size > MOST).then(|| {
            format!(
                "the revocation lists take {size} bytes, and a ConfigMap holds {MOST}: {} is left as it is; let certificates on \
                 them end, or set revocation_lists: false",
                settings.revocation_name
            )
        });
        let publish = settings.revocation_lists && !lists.is_empty() && blocked.is_none();
        Self {
            sequence: validation.bundle.sequence(),
            roots: wanted(&settings.key, validation.bundle.pem().to_owned()),
            lists: publish.then(|| wanted(&settings.revocation_key, lists)),
            blocked,
            anchors: validation.bundle.roots().iter().map(|root| root.to_vec()).collect(),
        }
    }
}

/// A ConfigMap that is there.
#[derive(Debug, Deserialize)]
pub(super) struct Held {
    pub(super) metadata: HeldMetadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default, rename = "binaryData")]
    binary: BTreeMap<String, IgnoredAny>,
}

/// What is read of its metadata.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeldMetadata {
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) resource_version: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    managed_fields: Vec<Manager>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manager {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    fields_v1: Value,
}

/// A page of ConfigMaps.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) metadata: PageMetadata,
    pub(super) items: Vec<Held>,
}

/// How a list goes on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageMetadata {
    #[serde(default, rename = "continue")]
    pub(super) more: String,
}

/// What becomes of a ConfigMap that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what it is to be.
    Right,
    /// It is somebody else's, and does no harm.
    Left,
    /// It is somebody else's, is left so, and lacks what it is to hold.
    Lacks(&'static str),
    /// It is to be changed.
    Change {
        /// Whether istiod has written what is wrong.
        istiods: bool,
    },
    /// It is to go.
    Remove,
}

impl Held {
    /// Who has written to it last, as far as it shows.
    pub(super) fn last_writer(&self) -> String {
        let last = self.metadata.managed_fields.iter().max_by(|one, other| one.time.cmp(&other.time));
        match last.map(|entry| entry.manager.as_str()) {
            Some(MANAGER) => format!("another CA (field manager {MANAGER})"),
            Some(manager) if !manager.is_empty() => {
                let manager: String = manager.chars().filter(|one| !one.is_control()).take(100).collect();
                format!("somebody else (field manager {manager})")
            }
            _ => "somebody else".to_owned(),
        }
    }

    /// What becomes of it where `wanted` is to be; `anchors` are all the roots, if that is what it is to hold.
    pub(super) fn judge(&self, wanted: &Wanted, anchors: Option<&Anchors>) -> Verdict {
        let has_labels =
            wanted.labels.iter().all(|(name, value)| self.metadata.labels.get(name).is_some_and(|is| is == value));
        let holds = self.data.get(&wanted.key) == Some(&wanted.text) && !self.binary.contains_key(&wanted.key);
        if holds && has_labels {
            return Verdict::Right;
        }
        if wanted.istiod == Istiod::Leave && self.is_istiods(wanted) {
            if holds || anchors.is_some_and(|anchors| self.has_roots(&wanted.key, anchors)) {
                return Verdict::Left;
            }
            return Verdict::Lacks(if anchors.is_some() { LACKS_ROOTS } else { LACKS_LISTS });
        }
        Verdict::Change { istiods: self.is_written_by_istiod(&wanted.key) }
    }

    /// What becomes of it where nothing is to be: only what was written by us goes.
    pub(super) fn judge_unwanted(&self) -> Verdict {
        let (name, value) = OURS;
        if self.metadata.labels.get(name).is_some_and(|is| is == value) { Verdict::Remove } else { Verdict::Left }
    }

    fn is_istiods(&self, wanted: &Wanted) -> bool {
        let (name, value) = ISTIODS;
        let labelled =
            !wanted.labels.contains_key(name) && self.metadata.labels.get(name).is_some_and(|is| is == value);
        labelled || self.metadata.managed_fields.iter().any(|entry| entry.manager == ISTIOD)
    }

    fn is_written_by_istiod(&self, key: &str) -> bool {
        let field = format!("/f:data/f:{}", key.replace('~', "~0").replace('/', "~1"));
        let wrote = |entry: &Manager| entry.manager == ISTIOD && entry.fields_v1.pointer(&field).is_some();
        self.metadata.managed_fields.iter().any(wrote)
    }

    fn has_roots(&self, key: &str, anchors: &Anchors) -> bool {
        let held = self.data.get(key).and_then(|text| read_certificates(text.as_bytes()).ok()).unwrap_or_default();
        let held: Anchors = held.into_iter().map(|(_, root)| root.to_vec()).collect();
        anchors.is_subset(&held)
    }

    /// Whether it holds the key as something other than text, which has to go with the change.
    pub(super) fn is_binary(&self, key: &str) -> bool {
        self.binary.contains_key(key)
    }
}

impl Wanted {
    /// The whole ConfigMap.
    pub(super) fn whole(&self, namespace: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": self.labels},
            "data": {&self.key: self.text},
        })
    }

    /// What changes of one of this version; all else in it stays.
    pub(super) fn change(&self, version: &str, was_binary: bool) -> Value {
        let mut change = json!({
            "metadata": {"resourceVersion": version, "labels": self.labels},
            "data": {&self.key: self.text},
        });
        if was_binary && let Some(fields) = change.as_object_mut() {
            fields.insert("binaryData".to_owned(), json!({&self.key: null}));
        }
        change
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
pub(super) mod tests;
