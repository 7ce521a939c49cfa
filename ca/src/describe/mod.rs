//! Rotation in sentences for people: in records, in logs, in readiness and in answers to operators. Nobody else makes any.

mod alerts;
mod progress;
mod step;

use signet_core::holder::Holder;
use signet_core::rotation::{Authorities, Observed};
use time::OffsetDateTime;

pub(crate) use alerts::{SUPERSEDED, UNUSABLE, alerts, in_use, outage};
pub(crate) use progress::{held, what_next};
pub(crate) use step::{REPLACED, done, needs, step};

/// What is described: the journal and the world at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// The journal.
    pub(crate) authorities: &'a Authorities,
    /// What is seen of the world.
    pub(crate) seen: Observed<'a>,
    /// When.
    pub(crate) now: OffsetDateTime,
}

/// A holder as refusals name it.
pub(crate) fn holder(holder: &Holder) -> String {
    let place = holder.pod.as_ref().map_or_else(|| holder.key.instance.clone(), |pod| format!("pod {pod}"));
    let refused = holder.refused.as_ref().map(|(_, text)| format!(", refused it: {text}")).unwrap_or_default();
    format!("{} ({place}, has bundle {}{refused})", holder.key.spiffe_id, holder.sequence)
}
