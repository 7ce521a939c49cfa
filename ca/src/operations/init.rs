//! The first authority: made because somebody has said so, never because storage is empty.

use signet_core::audit::{AuditEvent, Outcome};
use signet_core::rotation::{Authorities, Step};

use super::{OperationError, Operations, Operator, Order, RACES, StepError, attributed, ordered_by};

/// What is recorded as the name of the command.
const INIT: &str = "init";

impl Operations {
    /// Makes sure that there is no authority.
    ///
    /// # Errors
    /// [`OperationError::Refused`] when there is one, with its name.
    pub async fn expect_no_authority(&self) -> Result<(), OperationError> {
        let authorities = self.executor.journal.load().await?;
        authorities.map_or(Ok(()), |(_, authorities)| none_in(&authorities))
    }

    /// Makes the first authority, or takes that of the backend, and puts on record who wanted it. `replacing` says which
    /// other roots were given up for it, by their fingerprints.
    ///
    /// # Errors
    /// [`OperationError::Refused`] when there is one; nothing changes then. Of several at once, one makes it.
    pub async fn init(&self, operator: &Operator, replacing: &[String]) -> Result<Authorities, OperationError> {
        let mut text = "the first authority of this storage".to_owned();
        if !replacing.is_empty() {
            text += &format!(", replacing {}", replacing.join(", "));
        }
        for _ in 0..RACES {
            let observation = self.executor.observe().await?;
            none_in(&observation.authorities)?;
            let order = Order { events: vec![self.init_event(operator, Outcome::Done, &text)], ..ordered_by(operator) };
            if let Some(made) = self.executor.take(&observation, &Step::CreateRoot, order).await? {
                self.wake_up.notify_one();
                return Ok(made);
            }
        }
        Err(OperationError::Conflict)
    }

    /// Puts on record that no first authority was made, and why.
    ///
    /// # Errors
    /// [`OperationError`] of the record.
    pub async fn init_not_done(&self, operator: &Operator, outcome: Outcome, why: &str) -> Result<(), OperationError> {
        self.executor.audit.record(self.init_event(operator, outcome, why)).await.map_err(StepError::from)?;
        Ok(())
    }

    fn init_event(&self, operator: &Operator, outcome: Outcome, text: &str) -> AuditEvent {
        self.admin_event(operator, INIT, &format!("{INIT}: {text}"), outcome, attributed(operator))
    }
}

fn none_in(authorities: &Authorities) -> Result<(), OperationError> {
    let Some(root) = authorities.active() else { return Ok(()) };
    let (id, generation) = (&root.id, root.generation);
    let text = format!("there is an authority already, root {id} of generation {generation}; nothing was changed");
    Err(OperationError::Refused(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::world_tests::World;
    use signet_core::seams::store::AuthorityJournal;

    fn operator() -> Operator {
        Operator { name: "uid 7".to_owned(), peer: None }
    }

    #[tokio::test]
    async fn one_authority_is_made_however_often_and_by_how_many_and_it_is_on_record_for_whom() {
        let world = World::empty();
        let other = world.another();
        let who = operator();
        let replacing = ["aa".to_owned()];
        world.operations.expect_no_authority().await.unwrap();
        let both = tokio::join!(world.operations.init(&who, &replacing), other.operations.init(&who, &replacing));
        let ((Ok(made), Err(refused)) | (Err(refused), Ok(made))) = both else { panic!("{both:?}") };
        let id = made.active().unwrap().id.clone();
        let again = world.operations.init(&who, &[]).await.unwrap_err();
        for refused in [refused, again, world.operations.expect_no_authority().await.unwrap_err()] {
            assert!(refused.to_string().contains(&format!("already, root {id}")), "{refused}");
        }
        assert_eq!(world.store.load().await.unwrap().unwrap().1, made);
        let events = world.events().await.into_iter().map(|stored| stored.event);
        let done: Vec<_> = events.filter(|event| event.outcome == Outcome::Done).collect();
        let said: Vec<String> = done.iter().filter_map(|event| event.detail.clone()).collect();
        let on_record = said.iter().any(|text| text.contains("uid 7: init") && text.contains("replacing aa"));
        assert!(done.len() == 2 && on_record, "{said:?}");
        assert!(done.iter().all(|event| event.who.peer.as_deref() == Some("uid 7")));
    }

    /// Its writes are an intention, two keys, two certificates to try them out, and the journal with both records. After none of them, or after the last of
    /// some which may still have been kept.
    #[tokio::test]
    async fn cut_off_at_any_write_it_can_be_run_again_and_there_is_one_authority() {
        for (writes, is_kept) in (0..=6).flat_map(|writes| [(writes, false), (writes, true)]) {
            let world = World::empty();
            world.store.die_after(writes, is_kept);
            world.operations.init(&operator(), &[]).await.unwrap_err();
            world.store.live();
            let left = world.store.load().await.unwrap();
            let whole = (writes, is_kept) == (6, true);
            assert_eq!(left.is_some(), whole, "{writes} {is_kept}");
            let next = world.another();
            match next.operations.init(&operator(), &[]).await {
                Ok(_) => assert!(!whole, "another one was made"),
                Err(error) => assert!(whole && error.to_string().contains("already"), "{writes} {is_kept}: {error}"),
            }
            next.rotator.turn().await.unwrap();
            let events = next.events().await.into_iter().map(|stored| stored.event);
            let done: Vec<_> = events.filter(|event| event.outcome == Outcome::Done).collect();
            assert_eq!(
                (done.len(), crate::signing_state::current(&next.state).unwrap().bundle().roots().len()),
                (2, 1)
            );
        }
    }
}
