//! Requests that a crash has left behind: those with our labels that nobody waits for any more.

use std::time::Duration;

use kube::ResourceExt;
use time::OffsetDateTime;

use super::calls::{Fault, Requests};
use super::request::{given_up_at, selector};
use super::settings::CertManagerSettings;

/// How far clocks of replicas may be apart, so that nobody removes what another waits for.
const MARGIN: i64 = 30;
/// When to look again where there is nothing to be removed.
const IDLE: Duration = Duration::from_secs(600);
/// And at the earliest.
const SOON: Duration = Duration::from_secs(1);

/// Removes them; when to look again.
pub(super) async fn collect(
    requests: &Requests,
    settings: &CertManagerSettings,
    now: OffsetDateTime,
) -> Result<Duration, Fault> {
    let mut next = IDLE;
    for object in requests.list(&selector(settings)).await? {
        let Some(ends) = given_up_at(&object.metadata) else { continue };
        let left = ends.saturating_add(MARGIN).saturating_sub(now.unix_timestamp());
        if let Ok(left @ 1..) = u64::try_from(left) {
            next = next.min(Duration::from_secs(left)).max(SOON);
            continue;
        }
        let name = object.name_any();
        requests.delete(&name, object.metadata.uid.clone()).await?;
        tracing::info!(request = name, "a CertificateRequest was removed that nobody waits for any more");
    }
    Ok(next)
}
