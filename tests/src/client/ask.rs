//! One call of `CreateCertificate`, with everything a client can get right or wrong about it.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use signet_proto::istio::IstioCertificateRequest;
use tonic::metadata::{Ascii, MetadataValue};

use crate::failure::{Failure, Outcome};

/// The id that clients send when nobody told them another.
pub const CLUSTER: &str = "Kubernetes";
/// What istio-agent and ztunnel ask for, in seconds.
pub const A_DAY: i64 = 86_400;

/// How a client tells which bundle it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledges {
    /// By what replies carry.
    ByReply,
    /// By acknowledgements on a bundle stream.
    OnStream,
}

/// The call.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// PEM request.
    pub csr: String,
    /// Seconds asked for; absent from the message when `None`.
    pub validity: Option<i64>,
    /// Metadata of the message.
    pub metadata: Option<Struct>,
    /// Every value of the `authorization` header.
    pub authorization: Vec<String>,
    /// Every value of the `clusterid` header.
    pub cluster: Vec<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Ask {
    /// A plain call: the CSR, the token, the usual cluster, the default lifetime.
    #[must_use]
    pub fn new(csr: &str, token: &str) -> Self {
        Self {
            csr: csr.to_owned(),
            validity: None,
            metadata: None,
            authorization: vec![format!("Bearer {token}")],
            cluster: vec![CLUSTER.to_owned()],
            headers: Vec::new(),
        }
    }

    /// As istio-agent asks: a day, and an empty `CertSigner`.
    #[must_use]
    pub fn like_istio_agent(csr: &str, token: &str) -> Self {
        Self { validity: Some(A_DAY), metadata: Some(text_struct("CertSigner", "")), ..Self::new(csr, token) }
    }

    /// As ztunnel in shared mode asks: a day, and the identity to impersonate.
    #[must_use]
    pub fn like_ztunnel(csr: &str, token: &str, identity: &str) -> Self {
        let metadata = Some(text_struct("ImpersonatedIdentity", identity));
        Self { validity: Some(A_DAY), metadata, ..Self::new(csr, token) }
    }

    /// The same call with a lifetime.
    #[must_use]
    pub fn for_seconds(self, seconds: i64) -> Self {
        Self { validity: Some(seconds), ..self }
    }

    /// The same call from a named client instance; `streams` says that it keeps a bundle stream and acknowledges there.
    #[must_use]
    pub fn as_instance(mut self, instance: &str, streams: Acknowledges) -> Self {
        self.headers.push(("signet-instance", instance.to_owned()));
        if streams == Acknowledges::OnStream {
            self.headers.push(("signet-bundle", "stream".to_owned()));
        }
        self
    }

    /// The gRPC request.
    ///
    /// # Errors
    /// [`Failure`] when a header value cannot be sent at all.
    pub fn request(&self) -> Outcome<tonic::Request<IstioCertificateRequest>> {
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: self.csr.clone(),
            validity_duration: self.validity,
            metadata: self.metadata.clone(),
        });
        for (name, values) in [("authorization", &self.authorization), ("clusterid", &self.cluster)] {
            for value in values {
                let value: MetadataValue<Ascii> =
                    value.parse().map_err(Failure::while_doing("write a header value"))?;
                request.metadata_mut().append(name, value);
            }
        }
        for (name, value) in &self.headers {
            let value: MetadataValue<Ascii> = value.parse().map_err(Failure::while_doing("write a header value"))?;
            request.metadata_mut().append(*name, value);
        }
        Ok(request)
    }
}

/// A struct of one text field.
#[must_use]
pub fn text_struct(key: &str, value: &str) -> Struct {
    struct_of([(key, Kind::StringValue(value.to_owned()))])
}

/// A struct of these fields.
#[must_use]
pub fn struct_of<const N: usize>(fields: [(&str, Kind); N]) -> Struct {
    let fields: BTreeMap<String, Value> =
        fields.into_iter().map(|(key, kind)| (key.to_owned(), Value { kind: Some(kind) })).collect();
    Struct { fields }
}
