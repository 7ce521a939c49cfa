//! Runs the named tasks of a process: nothing ends unnoticed, a critical end stops everything, stopping has a deadline.

use std::{
    any::Any,
    collections::HashMap,
    error::Error,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::Notify,
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::output::error_chain;

/// The error of a task.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// What the end of a task means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// The process cannot do its work without the task: when it ends, for whatever reason, the process stops.
    Critical,
    /// The task may end; a failure or panic is logged.
    Optional,
    /// The task ends when what it is about is gone; when it fails or panics, the process stops.
    Passing,
}

/// A critical task that ended before anybody asked the process to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TaskFailure {
    /// It returned without an error.
    #[error("task {name} ended although the process needs it")]
    Ended {
        /// The task's name.
        name: String,
    },
    /// It returned an error.
    #[error("task {name} failed")]
    Failed {
        /// The task's name.
        name: String,
        /// Its error.
        #[source]
        source: TaskError,
    },
    /// It panicked.
    #[error("task {name} panicked, which is a bug: {message}")]
    Panicked {
        /// The task's name.
        name: String,
        /// The panic's message.
        message: String,
    },
}

/// How a supervised process came to its end.
#[derive(Debug)]
#[must_use = "the failure belongs in the exit code"]
pub struct Outcome {
    /// The critical task that ended first, if that is why the process stops.
    pub failure: Option<TaskFailure>,
    /// The tasks that were still running when their time was up, and were aborted.
    pub aborted: Vec<String>,
}

struct Task {
    name: Arc<str>,
    importance: Importance,
}

struct Tasks {
    set: JoinSet<Result<(), TaskError>>,
    by_id: HashMap<Id, Task>,
    /// After the drain nothing may start.
    closed: bool,
}

struct Shared {
    tasks: Mutex<Tasks>,
    /// A task was started. Wakes a wait on a set that was empty, which no task's end can do.
    started: Notify,
    stop: CancellationToken,
}

/// Owns the tasks. Dropping it aborts them.
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// Starts tasks under a supervisor; clones are for tasks that start others.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

/// A task that came to its end.
struct Ended {
    task: Task,
    result: Result<Result<(), TaskError>, JoinError>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without tasks.
    #[must_use]
    pub fn new() -> Self {
        let tasks = Tasks { set: JoinSet::new(), by_id: HashMap::new(), closed: false };
        let shared = Shared { tasks: Mutex::new(tasks), started: Notify::new(), stop: CancellationToken::new() };
        Self { shared: Arc::new(shared) }
    }

    /// A handle to start tasks from elsewhere.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: Arc::clone(&self.shared) }
    }

    /// Starts a task now: see [`Spawner::spawn`].
    pub fn spawn<F, E>(&self, name: &str, importance: Importance, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError>,
    {
        self.spawner().spawn(name, importance, task);
    }

    /// Runs until `shutdown` is done or a critical task ends; then asks all tasks to stop and waits for them, at most
    /// `drain_deadline` long and not beyond `force`; then aborts what is left.
    ///
    /// Use [`std::future::pending`] for a `force` that never comes.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
        force: impl Future<Output = ()>,
        drain_deadline: Duration,
    ) -> Outcome {
        let mut shutdown = pin!(shutdown);
        let failure = loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break None,
                ended = self.next_ended() => {
                    if let Some(failure) = judge(ended) {
                        tracing::error!(error = error_chain(&failure), "a task the process needs has ended; stopping");
                        break Some(failure);
                    }
                }
            }
        };
        self.shared.stop.cancel();
        let mut force = pin!(force);
        let mut deadline = pin!(tokio::time::sleep(drain_deadline));
        while !self.lock().set.is_empty() {
            tokio::select! {
                ended = self.next_ended() => log_end_while_stopping(&ended),
                () = &mut force => break,
                () = &mut deadline => break,
            }
        }
        let aborted = self.abort_rest();
        if !aborted.is_empty() {
            tracing::warn!(tasks = aborted.join(", "), "tasks did not stop in time and were aborted");
        }
        Outcome { failure, aborted }
    }

    async fn next_ended(&self) -> Ended {
        loop {
            let started = self.shared.started.notified();
            if let Some(ended) = poll_fn(|cx| self.poll_ended(cx)).await {
                return ended;
            }
            started.await;
        }
    }

    /// `Ready(None)` means that no task is running.
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let mut tasks = self.lock();
        while let Poll::Ready(next) = tasks.set.poll_join_next_with_id(cx) {
            let (id, result) = match next {
                None => return Poll::Ready(None),
                Some(Ok((id, result))) => (id, Ok(result)),
                Some(Err(error)) => (error.id(), Err(error)),
            };
            if let Some(task) = tasks.by_id.remove(&id) {
                return Poll::Ready(Some(Ended { task, result }));
            }
        }
        Poll::Pending
    }

    fn abort_rest(&self) -> Vec<String> {
        let mut tasks = self.lock();
        tasks.closed = true;
        tasks.set.abort_all();
        let mut names: Vec<String> = tasks.by_id.drain().map(|(_, task)| task.name.to_string()).collect();
        names.sort();
        names
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.shared.lock()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        // A task that holds a spawner keeps the set alive; dropping the set alone would not end it.
        self.abort_rest();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spawner {
    /// Starts a task now. `task` gets a token of its own that is cancelled when the process stops; it should then
    /// finish what it does and return `Ok`. Names are for logs and need not be unique.
    ///
    /// After the supervisor has ended, nothing is started. Must be called within a tokio runtime.
    pub fn spawn<F, E>(&self, name: &str, importance: Importance, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError>,
    {
        let future = task(self.shared.stop.child_token());
        let future = async move { future.await.map_err(Into::into) };
        let future = future.instrument(tracing::info_span!("task", task.name = name));
        let mut tasks = self.shared.lock();
        if tasks.closed {
            return;
        }
        let id = tasks.set.spawn(future).id();
        tasks.by_id.insert(id, Task { name: name.into(), importance });
        drop(tasks);
        self.shared.started.notify_one();
    }

    /// Whether the process was asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }
}

/// The failure of the process, if this end means one; logs the end of an optional task.
fn judge(ended: Ended) -> Option<TaskFailure> {
    let name = ended.task.name.to_string();
    let failure = match ended.result {
        Ok(Ok(())) if ended.task.importance != Importance::Critical => {
            tracing::debug!(task.name = name, "task ended");
            return None;
        }
        Ok(Ok(())) => TaskFailure::Ended { name },
        Ok(Err(source)) => TaskFailure::Failed { name, source },
        Err(error) => TaskFailure::Panicked { name, message: panic_message(error) },
    };
    if ended.task.importance != Importance::Optional {
        return Some(failure);
    }
    tracing::warn!(error = error_chain(&failure), "an optional task has failed; the process goes on");
    None
}

fn log_end_while_stopping(ended: &Ended) {
    let name = &*ended.task.name;
    match &ended.result {
        Ok(Ok(())) => tracing::debug!(task.name = name, "task stopped"),
        Ok(Err(error)) => {
            tracing::warn!(task.name = name, error = error_chain(error.as_ref()), "task failed while stopping")
        }
        Err(error) => tracing::warn!(task.name = name, error = %error, "task panicked while stopping"),
    }
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => text_of_panic(payload.as_ref()).to_owned(),
        Err(error) => error.to_string(),
    }
}

fn text_of_panic(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
