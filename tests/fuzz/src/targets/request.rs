//! A certificate request as it arrives: lines `header: value`, an empty line, and the bytes of the protobuf message.
//!
//! Promises: a message reads the same once it is written again; only the two known metadata keys do anything, and only
//! as text; a cluster counts only when it is named once; a token is exactly what follows `Bearer `; an instance is 32
//! digits.

use prost::Message as _;
use prost_types::value::Kind;
use signet_ca::grpc::create_certificate::application;
use signet_ca::grpc::headers;
use signet_proto::codec::Received;
use signet_proto::istio::IstioCertificateRequest;
use tonic::metadata::MetadataMap;

use super::{Verdict, promise, readable};
use crate::mutate::{Material, text, wire};
use crate::random::Random;

pub(super) const WORDS: &[&str] = &[
    "clusterid",
    "authorization",
    "Bearer ",
    "bearer ",
    "signet-bundle",
    "stream",
    "signet-instance",
    "0123456789abcdef0123456789abcdef",
    "Kubernetes",
    "ImpersonatedIdentity",
    "CertSigner",
    "spiffe://cluster.local/ns/default/sa/web",
    "\nclusterid: x\n",
    "\nauthorization: Bearer x\n",
    "\u{1F512}",
];

/// Changes to the headers as text, or to the message by its structure.
pub(super) fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let (head, message) = divide(input);
    let (_, other) = divide(material.other);
    let material = Material { words: material.words, other };
    let (head, message) = if random.once_in(4) {
        (text::change(random, head, &material)?, message.to_vec())
    } else {
        (head.to_vec(), wire::change(random, message, &material)?)
    };
    Some([head, b"\n\n".to_vec(), message].concat())
}

fn divide(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.windows(2).position(|window| window == b"\n\n");
    end.map_or((&[][..], input), |end| (input.get(..end).unwrap_or_default(), input.get(end + 2..).unwrap_or_default()))
}

fn metadata(head: &[u8]) -> MetadataMap {
    let mut map = tonic::codegen::http::HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let name = tonic::codegen::http::HeaderName::from_bytes(name);
        let value = tonic::codegen::http::HeaderValue::from_bytes(value.trim_ascii_start());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    MetadataMap::from_headers(map)
}

pub(super) fn run(input: &[u8]) -> Verdict {
    let (head, bytes) = divide(input);
    let metadata = metadata(head);
    check_headers(&metadata)?;
    let message = match IstioCertificateRequest::decode(bytes) {
        Err(error) => {
            readable(&error.to_string())?;
            return Ok(format!("{error}"));
        }
        Ok(message) => message,
    };
    let again = IstioCertificateRequest::decode(message.encode_to_vec().as_slice());
    // A number that is none equals nothing, not even itself; its text does.
    promise(again.as_ref().map(|again| format!("{again:?}")) == Ok(format!("{message:?}")), || {
        format!("written again it reads as {again:?}")
    })?;
    let fields = message.metadata.as_ref().map(|metadata| &metadata.fields);
    let field = |key: &str| fields.and_then(|fields| fields.get(key)).map(|value| value.kind.clone());
    let (impersonated, signer) = (field("ImpersonatedIdentity"), field("CertSigner"));
    let (csr, ttl) = (message.csr.clone(), message.validity_duration);
    let application = application("0".repeat(32), (None, None), &metadata, Received(Ok(message)));
    promise(application.csr == csr && application.ttl == ttl, || "the request or its lifetime was changed".to_owned())?;
    if let Some(problem) = application.unreadable.as_ref().or(application.problem.as_ref()) {
        readable(problem)?;
        return Ok(format!("refused: {problem}"));
    }
    let plain = |kind: &Option<Option<Kind>>| {
        matches!(kind, None | Some(None | Some(Kind::NullValue(_) | Kind::StringValue(_))))
    };
    promise(plain(&impersonated) && plain(&signer), || "metadata that is no text was taken".to_owned())?;
    let names_signer = matches!(&signer, Some(Some(Kind::StringValue(name))) if !name.is_empty());
    promise(application.names_signer == names_signer, || format!("{signer:?} was taken for {names_signer}"))?;
    let said = match impersonated {
        Some(Some(Kind::StringValue(text))) => Some(text),
        _ => None,
    };
    promise(application.impersonated == said, || format!("{said:?} became {:?}", application.impersonated))?;
    Ok(format!(
        "cluster {} token {} impersonated {} acknowledges {}",
        application.cluster.is_some(),
        application.token.is_some(),
        application.impersonated.is_some(),
        application.acknowledges
    ))
}

fn check_headers(metadata: &MetadataMap) -> Result<(), String> {
    let values = |name: &str| -> Vec<Vec<u8>> {
        metadata.get_all(name).iter().map(|value| value.as_encoded_bytes().to_vec()).collect()
    };
    let all = values("clusterid");
    promise(headers::cluster(metadata).is_ok() || !all.is_empty(), || "a refusal of no cluster".to_owned())?;
    if let Ok(Some(cluster)) = headers::cluster(metadata) {
        promise(all == [cluster.as_bytes()], || format!("{cluster:?} out of {} clusters", all.len()))?;
    }
    if let Some(token) = headers::bearer(metadata) {
        let exact = [b"Bearer ".as_slice(), token.expose()].concat();
        promise(values("authorization").contains(&exact), || "a token that nobody sent".to_owned())?;
    }
    if let Some(instance) = headers::instance(metadata) {
        let digits = instance.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        promise(instance.len() == 32 && digits, || format!("the instance {instance:?}"))?;
    }
    if headers::acknowledges(metadata) {
        promise(values("signet-bundle").contains(&b"stream".to_vec()), || "acknowledges unasked".to_owned())?;
    }
    Ok(())
}
