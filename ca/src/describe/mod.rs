//! Rotation in sentences for people: in records, in logs and in readiness. What operators are answered is data, which the
//! command line describes.

mod alerts;
pub(crate) mod event_json;
mod step;

use signet_core::holder::Holder;

pub(crate) use alerts::{SUPERSEDED, UNUSABLE, alerts, in_use, lacks_signer, outage, unsettled};
pub(crate) use step::{asked_elsewhere, needs, step};

/// A holder as refusals name it.
pub(crate) fn holder(holder: &Holder) -> String {
    let place = holder.pod.as_ref().map_or_else(|| holder.key.instance.clone(), |pod| format!("pod {pod}"));
    let refused = holder.refused.as_ref().map(|(_, text)| format!(", refused it: {text}")).unwrap_or_default();
    format!("{} ({place}, has bundle {}{refused})", holder.key.spiffe_id, holder.sequence)
}
