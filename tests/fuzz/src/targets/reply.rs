//! What a CA replies to an agent. A line `==` divides its elements.
//!
//! Promises: an accepted leaf is the one that was asked for (key, one name, in force, no CA); the chain holds no root; the
//! bundle is what another PEM reader finds in the last element.

use std::collections::BTreeSet;

use signet_agent::ca::reply::{Asked, Reply, SKEW, check};
use signet_core::certificate::Facts;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::secret::Secret;
use signet_core::time_math;

use super::blocks::certificates;
use super::{Verdict, files, promise, readable};
use crate::world::{NOW, leaf};

pub(super) fn run(input: &[u8]) -> Verdict {
    let parts = files::parts(input);
    let elements: Vec<String> =
        parts.iter().map(|(_, content)| String::from_utf8_lossy(content).into_owned()).collect();
    let domain = TrustDomain::parse("cluster.local").map_err(|error| error.to_string())?;
    let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/web").map_err(|error| error.to_string())?;
    let wanted = Facts::read(&leaf()).map_err(|error| error.to_string())?;
    let asked = Asked { spiffe_id: &id, trust_domain: &domain, spki_der: &wanted.spki_der };
    let last = elements.last().cloned().unwrap_or_default();
    let issued = match check(&Reply { elements, sequence: Some(7) }, asked, Secret::new(b"key".to_vec()), NOW) {
        Err(error) => {
            readable(&error.to_string())?;
            return Ok(format!("{error:?}"));
        }
        Ok(issued) => issued,
    };
    let facts = Facts::read(issued.chain.leaf()).map_err(|error| format!("an unreadable leaf: {error}"))?;
    promise(facts.spki_der == wanted.spki_der, || "a leaf for another key".to_owned())?;
    promise(facts.uris == [id.as_str()], || format!("a leaf for {:?}", facts.uris))?;
    promise(facts.dns.is_empty() && facts.ips.is_empty() && facts.other_names == 0, || "more names".to_owned())?;
    promise(!facts.is_ca, || "a leaf that is a CA".to_owned())?;
    promise(facts.not_after > NOW && facts.not_before <= time_math::after(NOW, SKEW), || {
        "a leaf that is not in force".to_owned()
    })?;
    promise(issued.not_before <= issued.renew_at && issued.renew_at <= issued.not_after, || {
        format!("renewal at {} is outside of {} to {}", issued.renew_at, issued.not_before, issued.not_after)
    })?;
    promise((0.0..=1.0).contains(&issued.jitter), || format!("a jitter of {}", issued.jitter))?;
    let found: BTreeSet<Vec<u8>> = certificates(last.as_bytes()).into_iter().collect();
    let taken: BTreeSet<Vec<u8>> = issued.bundle.roots().iter().map(|root| root.to_vec()).collect();
    promise(taken == found, || format!("{} roots were taken of {}", taken.len(), found.len()))?;
    Ok(format!("accepted with {} between and {} roots", issued.chain.intermediates().len(), taken.len()))
}
