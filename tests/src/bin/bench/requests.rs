//! Requests made before the clock runs: for each identity its token as a header and its CSR as a message.

use std::thread;

use bytes::Bytes;
use http::HeaderValue;
use prost::Message as _;
use signet_tests::client::ask::Ask;
use signet_tests::client::token::{ClusterKey, Token};
use signet_tests::client::{csr, raw};
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::Dev;

/// One identity's request, ready to be sent again and again.
pub(crate) struct Prepared {
    /// The `authorization` header.
    pub(crate) authorization: HeaderValue,
    /// The gRPC message.
    pub(crate) body: Bytes,
    /// The CSR in it, PEM.
    pub(crate) csr: String,
    /// The identity that is certified.
    pub(crate) identity: String,
}

/// Everything that the load and the crypto floor need.
pub(crate) struct Requests {
    /// One for each identity.
    pub(crate) each: Vec<Prepared>,
    /// The cluster's public key, PKCS#1 DER.
    pub(crate) cluster_key: Vec<u8>,
}

/// Makes the requests of so many identities.
pub(crate) fn prepare(dev: &Dev, identities: usize) -> Outcome<Requests> {
    let key = ClusterKey::of(dev)?;
    let model = Token::read(&dev.token("client")?)?;
    let make = |index: usize| {
        let (namespace, account) = (format!("bench-{}", index % 16), format!("workload-{index}"));
        let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        let token = key.sign(&model.of(&namespace, &account))?;
        let csr = csr::like_ztunnel(Some(&identity))?.csr;
        let message = Ask::like_istio_agent(&csr, &token).request()?.into_inner().encode_to_vec();
        let authorization = HeaderValue::try_from(format!("Bearer {token}"));
        let authorization = authorization.map_err(Failure::while_doing("write a header"))?;
        Ok(Prepared { authorization, body: raw::framed(&message), csr, identity })
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let parts = thread::scope(|scope| {
        let make = &make;
        let part = |first| move || (first..identities).step_by(cores).map(make).collect::<Outcome<Vec<_>>>();
        let threads: Vec<_> = (0..cores).map(|first| scope.spawn(part(first))).collect();
        let ended = |_| Err(Failure::unexpected("making requests was interrupted"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(ended)).collect::<Outcome<Vec<_>>>()
    })?;
    let each = parts.into_iter().flatten().collect();
    Ok(Requests { each, cluster_key: key.public().to_vec() })
}
