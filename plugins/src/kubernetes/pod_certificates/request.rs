//! A PodCertificateRequest as it is read and answered, in whichever version the API server has it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use signet_core::certificate::Facts;
use signet_core::clock::rfc3339;
use signet_core::csr::{CertificateRequest, CsrError};
use signet_core::digest::sha256;
use signet_core::seams::authenticator::{AuthenticationError, Outage};
use signet_core::{renewal, time_math};
use time::OffsetDateTime;

use crate::kubernetes::api_server::{ApiServer, outage};

/// How long one question, or one answer, may take.
pub(super) const WITHIN: Duration = Duration::from_secs(5);

/// How far from both ends of a certificate its renewal begins at least: the API server demands it.
const MARGIN: Duration = Duration::from_secs(600);

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "podcertificaterequests";

/// The versions, the newest first.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The newest version in which the API server has these requests; `None` when it has them in none.
///
/// # Errors
/// [`AuthenticationError::Unavailable`].
pub(super) async fn discover(server: &ApiServer) -> Result<Option<ApiResource>, AuthenticationError> {
    for version in VERSIONS {
        let group = format!("{GROUP}/{version}");
        let client = server.client();
        let resources = match within(client.list_api_group_resources(&group)).await? {
            Ok(resources) => resources.resources,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(outage(&error)),
        };
        if resources.iter().any(|resource| resource.name == PLURAL) {
            return Ok(Some(ApiResource {
                group: GROUP.to_owned(),
                version: version.to_owned(),
                api_version: group,
                kind: "PodCertificateRequest".to_owned(),
                plural: PLURAL.to_owned(),
            }));
        }
    }
    Ok(None)
}

/// Waits for an answer, but not for long.
///
/// # Errors
/// [`AuthenticationError::Unavailable`].
pub(super) async fn within<T>(asking: impl Future<Output = T>) -> Result<T, AuthenticationError> {
    let late = |_| AuthenticationError::unavailable(Outage::ApiTimedOut, format!("no answer within {WITHIN:?}"));
    tokio::time::timeout(WITHIN, asking).await.map_err(late)
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    pod_name: String,
    #[serde(rename = "podUID")]
    pod_uid: String,
    service_account_name: String,
    #[serde(rename = "serviceAccountUID")]
    service_account_uid: String,
    node_name: String,
    #[serde(rename = "nodeUID")]
    node_uid: String,
    max_expiration_seconds: Option<i64>,
    #[serde(rename = "stubPKCS10Request")]
    stub_pkcs10_request: Option<ByteString>,
    #[serde(rename = "pkixPublicKey")]
    pkix_public_key: Option<ByteString>,
    proof_of_possession: Option<ByteString>,
    #[serde(default)]
    unverified_user_annotations: BTreeMap<String, String>,
}

/// One that is not answered.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    version: String,
    pub(super) pod: (String, String),
    pub(super) account: (String, String),
    pub(super) node: (String, String),
    pub(super) longest: Duration,
    pub(super) problem: Option<String>,
    key: Key,
}

#[derive(Debug, Clone)]
enum Key {
    Request(Vec<u8>),
    Proved { key: Vec<u8>, proof: Vec<u8> },
}

/// How much of a name is repeated in messages, in characters.
const SHOWN: usize = 200;

/// Whether it was answered.
fn is_over(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let over = |condition: &Value| {
        matches!(condition.get("type").and_then(Value::as_str), Some("Issued" | "Denied" | "Failed"))
    };
    conditions.into_iter().flatten().any(over)
}

impl Open {
    /// What is asked, unless it is answered or not what the API server lets through.
    pub(super) fn of(object: &DynamicObject) -> Option<Self> {
        if is_over(object) {
            return None;
        }
        let metadata = object.metadata.clone();
        let spec: Spec = serde_json::from_value(object.data.get("spec")?.clone()).ok()?;
        let bytes = |bytes: Option<ByteString>| bytes.map(|bytes| bytes.0).filter(|bytes| !bytes.is_empty());
        let key = match (bytes(spec.stub_pkcs10_request), bytes(spec.pkix_public_key)) {
            (Some(request), _) => Key::Request(request),
            (None, Some(key)) => Key::Proved { key, proof: bytes(spec.proof_of_possession).unwrap_or_default() },
            (None, None) => Key::Request(Vec::new()),
        };
        let problem = spec.unverified_user_annotations.keys().next().map(|name| {
            let name: String = name.chars().take(SHOWN).collect();
            format!("the annotation {name:?} means nothing to this signer; leave userAnnotations out of the volume")
        });
        Some(Self {
            uid: metadata.uid?,
            namespace: metadata.namespace?,
            name: metadata.name?,
            version: metadata.resource_version?,
            pod: (spec.pod_name, spec.pod_uid),
            account: (spec.service_account_name, spec.service_account_uid),
            node: (spec.node_name, spec.node_uid),
            // The API server fills in its default of a day.
            longest: Duration::from_secs(spec.max_expiration_seconds.unwrap_or(86_400).unsigned_abs()),
            problem,
            key,
        })
    }

    /// The key, whose proof is looked at whatever the API server has made of it.
    pub(super) fn csr(&self) -> Result<CertificateRequest, CsrError> {
        match &self.key {
            Key::Request(der) => CertificateRequest::parse_der(der),
            Key::Proved { key, proof } => CertificateRequest::proven(key, self.pod.1.as_bytes(), proof),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// This chain, as PEM.
    Issued(String),
    /// Never.
    Denied { reason: String, message: String },
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there.
    Now,
    /// Somebody has answered before, or nobody waits for it any more.
    Over,
    /// The API server does not take it, and never will.
    Refused(String),
}

impl Answer {
    /// The status that says so; `None` for a chain that is none.
    fn status(&self, now: OffsetDateTime) -> Option<Value> {
        let condition = |kind: &str, reason: &str, message: &str| {
            json!([{
                "type": kind, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": rfc3339(time_math::whole_second(now)),
            }])
        };
        match self {
            Self::Denied { reason, message } => Some(json!({ "conditions": condition("Denied", reason, message) })),
            Self::Issued(chain) => {
                let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).ok()?;
                let Facts { not_before, not_after, .. } = Facts::read(&leaf).ok()?;
                let refresh = refresh_at(not_before, not_after, &sha256(&leaf));
                Some(json!({
                    "conditions": condition("Issued", "Signed", "signed and on record"),
                    "certificateChain": chain,
                    "notBefore": rfc3339(not_before),
                    "beginRefreshAt": rfc3339(refresh),
                    "notAfter": rfc3339(not_after),
                }))
            }
        }
    }
}

/// When kubelet is to ask for the next one.
fn refresh_at(not_before: OffsetDateTime, not_after: OffsetDateTime, hash: &[u8; 32]) -> OffsetDateTime {
    let at = time_math::whole_second(renewal::renew_at(not_before, not_after, hash));
    at.clamp(
        time_math::after(not_before, MARGIN),
        time_math::before(not_after, MARGIN).max(time_math::after(not_before, MARGIN)),
    )
}

/// Writes an answer into the status of a request. It is written once: what is there already stays.
///
/// # Errors
/// [`AuthenticationError::Unavailable`]: it may have been written all the same.
pub(super) async fn write(
    client: Client,
    resource: &ApiResource,
    open: &Open,
    answer: &Answer,
    now: OffsetDateTime,
) -> Result<Written, AuthenticationError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client, &open.namespace, resource);
    let Some(status) = answer.status(now) else {
        return Ok(Written::Refused("the certificate on record cannot be read".to_owned()));
    };
    let mut version = open.version.clone();
    for _ in 0..3 {
        let mut object = DynamicObject::new(&open.name, resource).within(&open.namespace);
        object.metadata.uid = Some(open.uid.clone());
        object.metadata.resource_version = Some(version);
        object.data = json!({ "status": status });
        match within(api.replace_status(&open.name, &PostParams::default(), &object)).await? {
            Ok(_) => return Ok(Written::Now),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Written::Over),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => {
                // Also when it was answered before: then nothing in it may change.
                return Ok(match look(&api, open).await? {
                    None => Written::Over,
                    Some(_) => Written::Refused(status.message.chars().take(300).collect()),
                });
            }
            Err(error) => return Err(outage(&error)),
        }
        // It was changed since it was read, or is another one of this name.
        match look(&api, open).await? {
            None => return Ok(Written::Over),
            Some(newer) => version = newer,
        }
    }
    Err(AuthenticationError::unavailable(Outage::ApiFailed, "the request is changed again and again"))
}

/// The newest version of a request that nobody has answered.
async fn look(api: &Api<DynamicObject>, open: &Open) -> Result<Option<String>, AuthenticationError> {
    let found = within(api.get_opt(&open.name)).await?.map_err(|error| outage(&error))?;
    let same = found.filter(|object| object.metadata.uid.as_deref() == Some(&open.uid) && !is_over(object));
    Ok(same.and_then(|object| object.metadata.resource_version))
}

#[cfg(test)]
#[path = "request_tests.rs"]
pub(super) mod tests;
