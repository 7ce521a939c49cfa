//! The trust bundle on the wire, as this process serves it: no storage is asked.

use signet_proto::admin::v1alpha1 as wire;
use tonic::Status;

use super::values::{state, time};
use crate::signing_state::{StateReader, current};

/// The trust bundle of this moment.
pub(super) fn served(reader: &StateReader, trust_domain: &str) -> Result<wire::GetBundleResponse, Status> {
    let nothing = || Status::unavailable("there is no trust bundle yet: no authority is made, or it is not read yet");
    let served = current(reader).ok_or_else(nothing)?;
    let roots = served.authorities.roots.iter().map(|root| wire::BundleRoot {
        id: root.id.to_string(),
        generation: root.generation,
        state: state(root.state).into(),
        not_after: Some(time(root.not_after)),
        certificate: root.certificate.to_vec(),
    });
    Ok(wire::GetBundleResponse {
        trust_domain: trust_domain.to_owned(),
        sequence: served.bundle().sequence(),
        roots: roots.collect(),
    })
}
