//! Whether the process can do its work: named conditions, each kept up to date by the part that knows.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::sync::watch;

/// The state of one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In order.
    Ready,
    /// Still doing its work, but somebody should look.
    Degraded,
    /// Not doing its work: the process is not ready.
    Failing,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        })
    }
}

/// One condition as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The condition's name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// A sentence for people; never a secret.
    pub detail: String,
}

/// All conditions at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Whether no condition is failing, and there is at least one.
    pub ready: bool,
    /// The conditions, by name.
    pub checks: Vec<Check>,
}

type Checks = BTreeMap<u64, Check>;

/// The registry of conditions; clones share it.
#[derive(Debug, Clone)]
pub struct Readiness {
    checks: Arc<watch::Sender<Checks>>,
    last_id: Arc<AtomicU64>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// An empty registry, which is not ready: nothing has vouched for anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self { checks: Arc::new(watch::Sender::new(Checks::new())), last_id: Arc::default() }
    }

    /// Registers a condition, failing with "starting" until its holder says otherwise.
    ///
    /// A program registers all conditions before it starts its tasks, so that none can be forgotten by a slow start.
    #[must_use = "a dropped condition fails for good"]
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let check = Check { name: name.into(), state: State::Failing, detail: "starting".to_owned() };
        self.register(id, check, false)
    }

    /// Registers a condition of something that comes and goes while the process runs: degraded with "starting" until its
    /// holder says otherwise, and off the registry when its holder drops it.
    #[must_use = "a dropped condition is gone"]
    pub fn passing(&self, name: impl Into<String>) -> Condition {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        self.register(id, Check { name: name.into(), state: State::Degraded, detail: "starting".to_owned() }, true)
    }

    fn register(&self, id: u64, check: Check, passing: bool) -> Condition {
        self.checks.send_modify(|checks| {
            checks.insert(id, check);
        });
        Condition { checks: Arc::clone(&self.checks), id, passing }
    }

    /// All conditions now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.checks.borrow())
    }

    /// Waits until all conditions together are as `reached` wants them, and gives them.
    pub async fn wait_for(&self, reached: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut changes = self.checks.subscribe();
        // Fails only without a sender, and `self` is one.
        let _reached = changes.wait_for(|checks| reached(&Snapshot::of(checks))).await.is_ok();
        let now = changes.borrow();
        Snapshot::of(&now)
    }

    /// Waits until the process is ready, or is no longer so.
    pub async fn wait_until(&self, ready: bool) {
        self.wait_for(|now| now.ready == ready).await;
    }

    /// Waits until the process is ready.
    pub async fn wait_until_ready(&self) {
        self.wait_until(true).await;
    }
}

impl Snapshot {
    fn of(checks: &Checks) -> Self {
        let mut checks: Vec<Check> = checks.values().cloned().collect();
        checks.sort_by(|one, two| one.name.cmp(&two.name));
        Self { ready: is_ready(checks.iter()), checks }
    }
}

/// The handle of one condition. Dropping it leaves the condition failing with "stopped", since whoever vouched is gone; one
/// that is [`passing`](Readiness::passing) is gone with it.
#[derive(Debug)]
pub struct Condition {
    checks: Arc<watch::Sender<Checks>>,
    id: u64,
    passing: bool,
}

impl Condition {
    /// In order.
    pub fn ready(&self, detail: impl Into<String>) {
        self.set(State::Ready, detail.into());
    }

    /// Doing its work, but somebody should look.
    pub fn degraded(&self, detail: impl Into<String>) {
        self.set(State::Degraded, detail.into());
    }

    /// Not doing its work.
    pub fn failing(&self, detail: impl Into<String>) {
        self.set(State::Failing, detail.into());
    }

    /// Takes the condition off the registry, because what it spoke of is no longer wanted.
    pub fn remove(self) {
        self.forget();
    }

    fn forget(&self) {
        self.checks.send_modify(|checks| {
            checks.remove(&self.id);
        });
    }

    fn set(&self, state: State, detail: String) {
        self.checks.send_if_modified(|checks| match checks.get_mut(&self.id) {
            Some(check) if check.state != state || check.detail != detail => {
                check.state = state;
                check.detail = detail;
                true
            }
            _ => false,
        });
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        if self.passing {
            self.forget();
        } else {
            self.set(State::Failing, "stopped".to_owned());
        }
    }
}

fn is_ready<'c>(checks: impl Iterator<Item = &'c Check>) -> bool {
    let mut any = false;
    for check in checks {
        if check.state == State::Failing {
            return false;
        }
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_process_is_ready_when_something_vouches_and_nothing_fails() {
        let readiness = Readiness::new();
        assert!(!readiness.snapshot().ready, "nothing vouches");
        let store = readiness.condition("store");
        let issuer = readiness.condition("issuer");
        assert!(!readiness.snapshot().ready, "starting");
        store.ready("42 events");
        assert!(!readiness.snapshot().ready);
        issuer.degraded("root expires in 3d");
        assert!(readiness.snapshot().ready);
        store.failing("disk full");
        assert!(!readiness.snapshot().ready);
        store.remove();
        assert!(readiness.snapshot().ready);
        drop(issuer);
        let snapshot = readiness.snapshot();
        assert!(!snapshot.ready, "whoever vouched is gone");
        assert_eq!(snapshot.checks.first().unwrap().detail, "stopped");
    }

    #[test]
    fn what_comes_and_goes_never_makes_a_process_unready_and_leaves_nothing_behind() {
        let readiness = Readiness::new();
        let store = readiness.condition("store");
        store.ready("");
        let cluster = readiness.passing("a cluster");
        let now = readiness.snapshot();
        assert!(now.ready && now.checks.iter().any(|check| check.state == State::Degraded), "{now:?}");
        cluster.ready("");
        drop(cluster);
        let now = readiness.snapshot();
        assert!(now.ready && now.checks.len() == 1, "{now:?}");
    }

    #[test]
    fn the_snapshot_is_sorted_and_serialises() {
        let readiness = Readiness::new();
        let [b, _a] = ["b", "a"].map(|name| readiness.condition(name));
        b.ready("fine");
        assert_eq!(
            serde_json::to_value(readiness.snapshot()).unwrap(),
            json!({"ready": false, "checks": [
                {"name": "a", "state": "failing", "detail": "starting"},
                {"name": "b", "state": "ready", "detail": "fine"}]})
        );
    }

    #[tokio::test]
    async fn waiting_ends_when_the_last_condition_is_met() {
        let readiness = Readiness::new();
        let condition = readiness.condition("c");
        let wait = readiness.wait_until_ready();
        tokio::pin!(wait);
        assert!(tokio::time::timeout(std::time::Duration::ZERO, &mut wait).await.is_err());
        condition.ready("");
        wait.await;
    }
}
