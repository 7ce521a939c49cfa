//! A storage without an authority: none is made in it by itself, and the log says what to do.

use std::time::{Duration, Instant};

use signet_core::rotation::Refused;
use signet_core::seams::store::JournalVersion;
use signet_core::time_math;
use time::OffsetDateTime;

use super::{Next, OBSERVE, Unsettled};

/// How often it is told at most.
const TELL: Duration = Duration::from_secs(60);

impl Next {
    /// Without an authority there is nothing to do but to look whether somebody has made one.
    pub(super) fn without_authority(now: OffsetDateTime) -> Self {
        let (version, earliest) = (JournalVersion::default(), Instant::now());
        let unsettled = Unsettled::default();
        let due = time_math::after(now, OBSERVE);
        Self { version, due, unsettled, observe_at: Some(earliest + OBSERVE), earliest }
    }
}

/// Tells the log that there is no authority: at once, then now and then.
#[derive(Debug, Default)]
pub(super) struct Absent {
    told: Option<Instant>,
}

impl Absent {
    /// Tells it when a turn has found none, unless that was done within the last minute; what readiness has to say then.
    pub(super) fn tell(&mut self, found: Next) -> Option<String> {
        if found.version != JournalVersion::default() {
            return None;
        }
        if self.is_due(Instant::now()) {
            tracing::error!("{}", Refused::NoAuthority);
        }
        Some(Refused::NoAuthority.to_string())
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.told.is_none_or(|at| now.saturating_duration_since(at) >= TELL);
        if due {
            self.told = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::world_tests::{World, application};
    use signet_core::audit::AuditEvent;
    use signet_core::authority::AuthorityId;
    use signet_core::revocation::RevocationReason;
    use signet_core::rotation::Command;
    use signet_core::seams::store::AuthorityJournal;
    use signet_runtime::readiness::Readiness;
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    const WORDS: [&str; 3] = ["signet-ca init", "`storage` is mistyped", "volume is not mounted"];

    #[test]
    fn it_is_told_at_once_and_then_once_a_minute() {
        let (start, mut absent) = (Instant::now(), Absent::default());
        let due = |seconds| absent.is_due(start + Duration::from_secs(seconds));
        let told: Vec<bool> = [0, 1, 59, 60, 61, 119, 125, 184, 185].into_iter().map(due).collect();
        assert_eq!(told, [true, false, false, true, false, false, true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_made_on_an_empty_storage_until_somebody_says_so_and_then_it_goes_on_by_itself() {
        let world = World::empty();
        let (other, store, issuance) = (world.another(), world.store.clone(), world.issuance.clone());
        let readiness = Readiness::new();
        let (condition, stop) = (readiness.condition("signer"), CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(world.rotator.run(condition, stop.clone()));
        let said = async || loop {
            let said = format!("{:?}", readiness.snapshot());
            if !said.contains("starting") {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let said = said().await;
        assert!(WORDS.iter().all(|words| said.contains(words)) && !readiness.snapshot().ready, "{said}");
        // However long that takes.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!readiness.snapshot().ready && issuance.issue(&application()).await.is_err());
        assert_eq!(store.load().await.unwrap(), None);
        let made = |event: &AuditEvent| !event.detail.as_ref().is_some_and(|text| text.contains("unused-900"));
        assert!(!other.events().await.iter().any(|stored| made(&stored.event)), "more than unused keys removed");
        other.make_authority().await;
        tokio::time::timeout(Duration::from_secs(10), readiness.wait_until_ready()).await.unwrap();
        issuance.issue(&application()).await.unwrap();
        stop.cancel();
        running.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    }

    #[tokio::test]
    async fn no_command_of_an_operator_makes_the_first_authority_by_the_way() {
        let world = World::empty();
        let id = || AuthorityId::new(b"", b"any");
        let operator = crate::operations::Operator { name: "uid 7".to_owned(), peer: None };
        for command in [
            Command::Prepare,
            Command::Rotate,
            Command::RenewIssuing,
            Command::Activate { id: id(), force: true },
            Command::Rollback,
            Command::Taint { id: id(), force: true },
            Command::Revoke { id: id(), force: true },
            Command::Resume { shown: 7 },
        ] {
            let refused = world.operations.command(&operator, command.clone(), "test").await.unwrap_err().to_string();
            assert!(WORDS.iter().all(|words| refused.contains(words)), "{command:?}: {refused}");
        }
        let serial = signet_core::certificate::Serial::parse(&"0".repeat(32)).unwrap();
        let reason = RevocationReason::Superseded;
        assert!(world.operations.revoke_certificate(&operator, serial, reason, false).await.is_err());
        assert_eq!(world.store.load().await.unwrap(), None);
        assert_eq!(world.operations.view().await.unwrap().next, crate::operations::Next::Init);
    }
}
