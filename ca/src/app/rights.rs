//! Whether the API server of a cluster lets this CA do what its configuration needs: looked at while it runs, so that a right that is
//! missing is told of before it is needed. Some are needed seldom, such as those that write a ClusterTrustBundle.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use signet_core::seams::authenticator::AuthenticationError;
use signet_plugins::kubernetes::{Right, lacking};
use signet_runtime::readiness::Condition;

use super::cluster_set::Surroundings;
use super::kubernetes::{Server, needs};
use super::passing::Tasks;
use crate::config::Cluster;

/// How often it is looked while nothing is missing.
const IDLE: Duration = Duration::from_secs(300);
/// How often it is looked until somebody has given what is missing, or the server says what we may do.
const SOON: Duration = Duration::from_secs(10);
/// How many missing rights are told of.
const TOLD: usize = 8;

/// Looks at the rights of a cluster's account until this is dropped.
pub(super) struct Rights {
    _tasks: Tasks,
}

impl Rights {
    /// Begins to look, where an API server is asked for anything.
    pub(super) fn watch(cluster: &Cluster, server: Option<&Arc<Server>>, around: &Surroundings) -> Option<Self> {
        let (api, needs) = (Arc::clone(&server?.api), Arc::new(needs(cluster)));
        let name = format!("rights in {}", cluster.id);
        let condition = around.readiness.passing(name.as_str());
        let look = move || {
            let (api, needs) = (Arc::clone(&api), Arc::clone(&needs));
            async move { lacking(&api, &needs).await }.boxed()
        };
        let tasks = Tasks::default();
        tasks.spawn(&around.spawner, &name, look_for_ever(cluster.id.clone(), condition, look));
        Some(Self { _tasks: tasks })
    }
}

/// The rights that are missing, or why they are not known.
type Looked = Result<Vec<Right>, AuthenticationError>;

async fn look_for_ever(cluster: String, condition: Condition, look: impl Fn() -> BoxFuture<'static, Looked> + Send) {
    let mut before = None;
    loop {
        let found = look().await;
        let pause = match &found {
            Ok(missing) if missing.is_empty() => IDLE,
            _ => SOON,
        };
        let missing = found.as_ref().map(|missing| in_words(missing));
        match &missing {
            Ok(None) => condition.ready("the account has all the rights that the configuration needs"),
            Ok(Some(missing)) => condition.degraded(format!("{missing}; bind a ClusterRole with that to it")),
            // That the server is away is told by whoever needs it.
            Err(error) => condition.ready(format!("not known: {error}")),
        }
        let now = missing.unwrap_or_default();
        if before.as_ref() != Some(&now) {
            match &now {
                Some(missing) => tracing::warn!(cluster, missing, "the CA lacks rights in a cluster"),
                None if before.is_some() => tracing::info!(cluster, "the CA lacks no right in a cluster any more"),
                None => {}
            }
        }
        before = Some(now);
        tokio::time::sleep(pause).await;
    }
}

/// What is missing, in one sentence of bounded length.
fn in_words(missing: &[Right]) -> Option<String> {
    let told: Vec<String> = missing.iter().take(TOLD).map(|right| format!("may not {right}")).collect();
    let more = missing.len().saturating_sub(TOLD);
    let more = if more > 0 { format!(", and {more} rights more") } else { String::new() };
    (!missing.is_empty()).then(|| format!("the account of the CA {}{more}", told.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use signet_core::seams::authenticator::Outage;
    use signet_runtime::readiness::{Readiness, State};

    use super::*;

    /// What the condition says after each of these answers, which come with the pauses between them.
    async fn said(answers: Vec<Looked>) -> Vec<(State, String, Duration)> {
        let readiness = Readiness::new();
        let condition = readiness.passing("rights in a");
        let (answers, seen) = (Arc::new(Mutex::new(VecDeque::from(answers))), Arc::new(Mutex::new(Vec::new())));
        let started = tokio::time::Instant::now();
        let look = {
            let (seen, readiness) = (Arc::clone(&seen), readiness.clone());
            move || {
                let check = readiness.snapshot().checks.into_iter().next().unwrap();
                seen.lock().unwrap().push((check.state, check.detail, started.elapsed()));
                match answers.lock().unwrap().pop_front() {
                    Some(answer) => std::future::ready(answer).boxed(),
                    None => std::future::pending().boxed(),
                }
            }
        };
        let looking = look_for_ever("a".to_owned(), condition, look);
        let _never = tokio::time::timeout(Duration::from_secs(3600), looking).await;
        seen.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_named_and_looked_at_soon_again() {
        let right = || Right::new("patch", "", "configmaps").called("roots");
        let away = || AuthenticationError::unavailable(Outage::ApiTimedOut, "no answer");
        let seen = said(vec![Ok(vec![right()]), Err(away()), Ok(Vec::new()), Ok(vec![right(); 10])]).await;
        let at: Vec<u64> = seen.iter().map(|(_, _, at)| at.as_secs()).collect();
        assert_eq!(at, [0, 10, 20, 320, 330]);
        let one = "the account of the CA may not patch configmaps called roots; bind a ClusterRole with that to it";
        assert_eq!((seen[1].0, seen[1].1.as_str()), (State::Degraded, one));
        assert!(seen[2].0 == State::Ready && seen[2].1.starts_with("not known: "), "{seen:?}");
        assert_eq!(seen[3].0, State::Ready);
        assert!(seen[4].1.contains(", and 2 rights more") && seen[4].1.matches("may not").count() == 8, "{seen:?}");
    }
}
