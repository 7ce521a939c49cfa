//! Waits until this process serves what storage holds, so that whoever has changed the authorities here finds the change
//! here.

use std::sync::Arc;
use std::time::Duration;

use signet_core::seams::store::{AuthorityJournal, StoreError};

use crate::signing_state::StateReader;

/// How long an answer waits at most. What keeps this process from publishing is told by readiness; the change is made.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is served, and what should be.
pub struct CatchUp {
    /// The state that streams are served from, see [`BundleFeed::served`](crate::bundle_feed::BundleFeed::served).
    pub state: StateReader,
    /// What exists.
    pub journal: Arc<dyn AuthorityJournal>,
}

impl CatchUp {
    /// Returns once what is served is what the journal holds, hence at least as new as whatever was written before;
    /// after two seconds in any case.
    pub async fn wait(&self) {
        match tokio::time::timeout(PATIENCE, self.caught_up()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "what is served cannot be compared with what should be"),
            Err(_) => tracing::warn!("a change of the authorities is not served here yet; see `signet-ca status`"),
        }
    }

    async fn caught_up(&self) -> Result<(), StoreError> {
        let mut state = self.state.clone();
        loop {
            // Before storage is asked, so that no later state is missed.
            let served = state.borrow_and_update().clone();
            let Some((_, wanted)) = self.journal.load().await? else { return Ok(()) };
            if served.is_some_and(|served| served.authorities == wanted) || state.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::bundle_feed::{AGENT_NAME, BundleFeed};
    use crate::operations::Operator;
    use crate::world_tests::World;
    use futures::FutureExt;
    use signet_core::authority::AuthorityId;
    use signet_core::rotation::Command;
    use signet_sds::ledger::Ledger;
    use signet_sds::snapshot::SecretContent;
    use tokio_util::sync::CancellationToken;

    fn operator() -> Operator {
        Operator { name: "uid 0".into(), peer: None }
    }

    fn active(world: &World) -> AuthorityId {
        let state = crate::signing_state::current(&world.state).unwrap();
        state.authorities.active().unwrap().id.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_caught_up_with_when_streams_are_served_it_and_not_before() {
        let world = World::new().await;
        let feed = BundleFeed::new(world.state.clone(), Duration::from_secs(60), crate::storage_age::test_proofs());
        let (snapshots, stop) = (feed.snapshots(), CancellationToken::new());
        let catch_up = CatchUp { state: feed.served(), journal: Arc::clone(&world.store) as _ };
        let ledger = Ledger::new(1, Arc::new(world.clock.clone()), Arc::new(()));
        let mut feed = Box::pin(feed.run(ledger, stop));
        assert!((&mut feed).now_or_never().is_none());
        catch_up.wait().await;

        world.operations.command(&operator(), Command::Prepare, "").await.unwrap();
        let mut caught = Box::pin(catch_up.wait());
        assert!((&mut caught).now_or_never().is_none(), "nothing is published yet");
        world.rotator.turn().await.unwrap();
        assert!((&mut caught).now_or_never().is_none(), "no stream is served it yet");
        assert!((&mut feed).now_or_never().is_none());
        assert!((&mut caught).now_or_never().is_some());

        // A change that leaves the bundle as it is, and a state that has gone on in the meantime.
        let taint = Command::Taint { id: active(&world), force: true };
        world.operations.command(&operator(), taint, "test").await.unwrap();
        let mut caught = Box::pin(catch_up.wait());
        assert!((&mut caught).now_or_never().is_none());
        world.rotator.turn().await.unwrap();
        assert!((&mut feed).now_or_never().is_none());
        assert!((&mut caught).now_or_never().is_some());
        let word = snapshots.borrow().secret(AGENT_NAME).map(|secret| secret.content().clone()).unwrap();
        let SecretContent::Generic(word) = word else { unreachable!("what is for agents is generic") };
        assert!(String::from_utf8_lossy(&word).contains("authorities"), "the order to renew is there");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_two_seconds_at_most_for_what_does_not_come() {
        let world = World::new().await;
        let catch_up = CatchUp { state: world.state.clone(), journal: Arc::clone(&world.store) as _ };
        world.operations.command(&operator(), Command::Prepare, "").await.unwrap();
        let begun = tokio::time::Instant::now();
        catch_up.wait().await;
        assert_eq!(begun.elapsed(), PATIENCE);
        // Nothing to wait for, and nobody.
        let (writer, state) = tokio::sync::watch::channel(None);
        let nobody = CatchUp { state, ..catch_up };
        drop(writer);
        nobody.wait().await;
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
