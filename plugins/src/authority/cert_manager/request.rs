//! The CertificateRequest: what it says, and what its status means. Nothing is sent here.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use kube::core::GroupVersionKind;
use rcgen::BasicConstraints;
use serde_json::{Value, json};
use signet_core::clock::rfc3339;
use signet_core::csr::KeyFamily;
use signet_core::digest::{hex, sha256};
use signet_core::identity::TrustDomain;
use signet_core::pem::pem_block;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::SigningKey;
use time::OffsetDateTime;

use super::super::certificates::{CaProfile, failed, random, uri};
use super::super::remote_signature::{Unsigned, complete};
use super::settings::{CertManagerSettings, GROUP};

/// By this label, and [`OWNER`], requests are known as ours.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "signet-ca");
/// Whose requests: a hash of the trust domain, which may be longer than a label.
const OWNER: &str = "signet.dev/trust-domain";
/// When whoever made it waits for it no more, in seconds since 1970.
const ENDS: &str = "signet.dev/given-up-at";
/// The longest text of somebody else's that is told, in characters.
const SHOWN: usize = 300;

/// The kind of requests.
pub(super) fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk(GROUP, "v1", "CertificateRequest");
    ApiResource::from_gvk_with_plural(&kind, "certificaterequests")
}

/// The signing request, PEM: with the name and the SPIFFE ID that issuing CAs made here have. It asks for a CA, as cert-manager
/// wants of a request with `isCA`; it names no usages, which would have to be repeated in the same order.
pub(super) async fn csr(trust_domain: &TrustDomain, key: &dyn SigningKey) -> Result<String, SignError> {
    csr_as(trust_domain, ("issuing", trust_domain.id().as_str()), key).await
}

/// The same with another name: what of the common name says the kind, and the SPIFFE ID.
pub(super) async fn csr_as(
    trust_domain: &TrustDomain,
    (kind, id): (&'static str, &str),
    key: &dyn SigningKey,
) -> Result<String, SignError> {
    let at = OffsetDateTime::UNIX_EPOCH;
    let path = BasicConstraints::Constrained(0);
    let profile = CaProfile { trust_domain, kind, spki_der: key.spki_der(), path, not_before: at, not_after: at };
    let mut params = profile.params()?;
    params.subject_alt_names = vec![uri(id)?];
    (params.serial_number, params.key_usages) = (None, Vec::new());
    let own = Unsigned::of(key).ok_or_else(|| failed("the key to certify is of an unsupported kind"))?;
    let unsigned = params
        .serialize_request(&own)
        .map_err(|error| SignError::Failed(format!("building the certificate signing request: {error}")))?;
    Ok(pem_block("CERTIFICATE REQUEST", &complete(unsigned.der(), key).await?))
}

/// The labels of our requests, as a selector.
pub(super) fn selector(settings: &CertManagerSettings) -> String {
    format!("{}={},{OWNER}={}", MANAGED_BY.0, MANAGED_BY.1, owner(settings))
}

fn owner(settings: &CertManagerSettings) -> String {
    hex(&sha256(settings.trust_domain.as_str().as_bytes())).chars().take(16).collect()
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks<'a> {
    /// An issuing CA.
    Ca,
    /// A leaf with this identity, for a key of this family. The names are those of the CSR, as it stands.
    Leaf(&'a str, KeyFamily),
}

impl Asks<'_> {
    /// What the certificate may be used for. cert-manager adds no key usage that is not asked for.
    fn usages(self) -> &'static [&'static str] {
        match self {
            Self::Ca => &["cert sign", "crl sign"],
            Self::Leaf(_, KeyFamily::Ec) => &["digital signature", "server auth", "client auth"],
            Self::Leaf(_, KeyFamily::Rsa) => &["digital signature", "key encipherment", "server auth", "client auth"],
        }
    }
}

/// The object to be made; nobody waits for it after `ends`. Its name is ours, so that one that was made without our hearing of
/// it can be removed.
pub(super) fn object(
    settings: &CertManagerSettings,
    csr: &str,
    asks: Asks<'_>,
    ttl: Duration,
    ends: OffsetDateTime,
) -> Result<DynamicObject, SignError> {
    let issuer = &settings.issuer;
    let name = format!("signet-ca-{}", hex(&random::<8>()?));
    let labels = BTreeMap::from([
        (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
        (OWNER.to_owned(), owner(settings)),
        (ENDS.to_owned(), ends.unix_timestamp().to_string()),
    ]);
    // For approvers and whoever reads the log of the API server: who asks is always our own account.
    let identity = match asks {
        Asks::Ca => settings.trust_domain.id().as_str().to_owned(),
        Asks::Leaf(identity, _) => identity.to_owned(),
    };
    let annotations = BTreeMap::from([("signet.dev/identity".to_owned(), identity)]);
    let mut object = DynamicObject::new(&name, &resource()).within(&settings.namespace).data(json!({
        "spec": {
            "request": STANDARD.encode(csr),
            "issuerRef": { "name": issuer.name, "kind": issuer.kind, "group": issuer.group },
            // Left out, it would be 90 days; and nothing is taken as it stands.
            "duration": format!("{}s", ttl.as_secs().max(1)),
            "isCA": asks == Asks::Ca,
            "usages": asks.usages(),
        }
    }));
    object.metadata = ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..object.metadata };
    Ok(object)
}

/// When whoever made a request gives it up; what says nothing was not made here.
pub(super) fn given_up_at(metadata: &ObjectMeta) -> Option<i64> {
    metadata.labels.as_ref()?.get(ENDS)?.parse().ok()
}

/// The same request, approved by us.
pub(super) fn approved(mut object: DynamicObject, now: OffsetDateTime) -> DynamicObject {
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "signet-ca", "message": "Approved by Signet, who made it",
        "lastTransitionTime": rfc3339(now),
    });
    if let Some(data) = object.data.as_object_mut() {
        data.insert("status".to_owned(), json!({ "conditions": [condition] }));
    }
    object
}

/// Whether somebody has approved a request.
pub(super) fn is_approved(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let is = |found: &Value| text_of(found, "type") == "Approved" && text_of(found, "status") == "True";
    conditions.into_iter().flatten().any(is)
}

/// What a request has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// There is a certificate.
    Issued(Issued),
    /// Somebody has said no, for good.
    Denied(String),
    /// It is of no use as it stands, for good.
    Invalid(String),
    /// It failed; another one may not.
    Failed(String),
    /// Nothing is decided yet.
    Pending(Pending),
}

/// What came back, unjudged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issued {
    /// The chain, PEM.
    pub(super) chain: Vec<u8>,
    /// What is said to be its root; often something else, or nothing.
    pub(super) ca: Vec<u8>,
}

/// What a request waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pending {
    approved: bool,
    /// What the issuer has said about it.
    said: Option<String>,
}

impl Pending {
    /// In words, when it has taken too long. Two of the reasons are guesses: nobody says anything then.
    pub(super) fn words(&self, settings: &CertManagerSettings) -> String {
        let CertManagerSettings { issuer, deadline, namespace, .. } = settings;
        let what = match (&self.said, self.approved) {
            (Some(said), _) => format!("{issuer} has not signed it, and says: {said}"),
            (None, true) => format!(
                "it is approved, and nobody signs it: does the controller of {issuer} run, and does it watch namespace \
                 {namespace}? Requests for an external issuer that is not installed get no answer at all"
            ),
            (None, false) => format!(
                "nobody approves it: does cert-manager run, and is its approver on (disableAutoApproval, approveSignerNames) and \
                 in charge of {issuer}? Approve such requests by a policy, or set authority.cert_manager.approve. Requests for \
                 an external issuer that is not installed stay like this, too"
            ),
        };
        format!("the CertificateRequest was not answered within {deadline:?}: {what}")
    }
}

/// What the status of a request means (all states that cert-manager and external issuers set).
pub(super) fn state(object: &Value) -> State {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let condition = |name: &str| {
        conditions.into_iter().flatten().find(|found| text_of(found, "type") == name).map(|found| {
            let text = |field: &str| text_of(found, field);
            let message = if text("message").is_empty() { text("reason") } else { text("message") };
            (text("status") == "True", text("reason"), shown(message))
        })
    };
    let is = |name| condition(name).filter(|(is_true, ..)| *is_true);
    if let Some((_, _, said)) = is("Denied") {
        return State::Denied(said);
    }
    if let Some((_, _, said)) = is("InvalidRequest") {
        return State::Invalid(said);
    }
    let bytes = |at: &str| {
        let text = object.pointer(at).and_then(Value::as_str).unwrap_or_default();
        STANDARD.decode(text).unwrap_or_default()
    };
    match condition("Ready") {
        Some((true, ..)) => {
            let chain = bytes("/status/certificate");
            if !chain.is_empty() {
                return State::Issued(Issued { chain, ca: bytes("/status/ca") });
            }
        }
        Some((false, "Denied", said)) => return State::Denied(said),
        Some((false, "Failed", said)) => return State::Failed(said),
        Some((false, _, said)) => {
            return State::Pending(Pending { approved: is("Approved").is_some(), said: Some(said) });
        }
        None => {}
    }
    State::Pending(Pending { approved: is("Approved").is_some(), said: None })
}

/// A text in a JSON object; empty where there is none.
pub(super) fn text_of<'v>(object: &'v Value, field: &str) -> &'v str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Somebody else's text, on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
#[path = "request_tests.rs"]
pub(super) mod tests;
