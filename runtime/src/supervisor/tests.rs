//! Each way a task can end, and each way a process can stop.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    convert::Infallible,
    future::{pending, ready},
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::time::Instant;

use super::{Importance::*, *};

const DRAIN: Duration = Duration::from_secs(30);

async fn until_stopped(stop: CancellationToken) -> Result<(), Infallible> {
    stop.cancelled().await;
    Ok(())
}

async fn run(supervisor: Supervisor) -> Outcome {
    supervisor.run_until(pending(), pending(), DRAIN).await
}

#[tokio::test(start_paused = true)]
async fn a_critical_task_that_ends_in_any_way_stops_the_others_and_is_named() {
    let supervisor = Supervisor::new();
    supervisor.spawn("fails", Critical, |_| ready(Err::<(), _>("disk full")));
    supervisor.spawn("other", Critical, until_stopped);
    let outcome = run(supervisor).await;
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.to_string(), "task fails failed");
    assert_eq!(failure.source().unwrap().to_string(), "disk full");
    assert_eq!(outcome.aborted, Vec::<String>::new(), "the other one had time to stop");

    let supervisor = Supervisor::new();
    supervisor.spawn("ends", Critical, |_| ready(Ok::<_, Infallible>(())));
    let failure = run(supervisor).await.failure.unwrap();
    assert!(matches!(&failure, TaskFailure::Ended { name } if name == "ends"), "{failure}");

    for kind in ["static", "formatted"] {
        let supervisor = Supervisor::new();
        supervisor.spawn("panics", Critical, |_| async move {
            if kind == "static" {
                panic!("oh no")
            }
            let reason = "no";
            if reason == "no" {
                panic!("oh {reason}")
            }
            Ok::<_, Infallible>(())
        });
        let failure = run(supervisor).await.failure.unwrap();
        assert_eq!(failure.to_string(), "task panics panicked, which is a bug: oh no");
    }
}

#[tokio::test(start_paused = true)]
async fn a_passing_task_may_end_and_must_not_fail() {
    let supervisor = Supervisor::new();
    supervisor.spawn("ends", Passing, |_| ready(Ok::<_, Infallible>(())));
    supervisor.spawn("fails later", Passing, |_| async {
        tokio::time::sleep(DRAIN).await;
        Err::<(), _>("disk full")
    });
    assert_eq!(run(supervisor).await.failure.unwrap().to_string(), "task fails later failed");
}

#[tokio::test(start_paused = true)]
async fn optional_tasks_may_end_in_any_way() {
    let supervisor = Supervisor::new();
    supervisor.spawn("fails", Optional, |_| ready(Err::<(), _>("x")));
    supervisor.spawn("ends", Optional, |_| ready(Ok::<_, Infallible>(())));
    supervisor.spawn("panics", Optional, |_| async {
        if true {
            panic!("x")
        }
        Ok::<_, Infallible>(())
    });
    let outcome = supervisor.run_until(tokio::time::sleep(DRAIN), pending(), DRAIN).await;
    assert!(outcome.failure.is_none() && outcome.aborted.is_empty(), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_cancels_every_token_and_waits_for_the_tasks() {
    let supervisor = Supervisor::new();
    supervisor.spawn("quick", Critical, until_stopped);
    supervisor.spawn("slow", Optional, |stop| async move {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN / 2).await;
        Ok::<_, Infallible>(())
    });
    let start = Instant::now();
    let outcome = supervisor.run_until(ready(()), pending(), DRAIN).await;
    assert!(outcome.failure.is_none() && outcome.aborted.is_empty(), "{outcome:?}");
    assert_eq!(start.elapsed().as_secs(), DRAIN.as_secs() / 2);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_do_not_stop_in_time_are_aborted_and_named() {
    let supervisor = Supervisor::new();
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    supervisor.spawn("stubborn", Critical, |_| async move {
        let _held = held;
        pending::<Result<(), Infallible>>().await
    });
    supervisor.spawn("willing", Critical, until_stopped);
    let start = Instant::now();
    let outcome = supervisor.run_until(ready(()), pending(), DRAIN).await;
    assert_eq!(outcome.aborted, ["stubborn"]);
    assert_eq!(start.elapsed().as_secs(), DRAIN.as_secs());
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&dropped), 1, "the task is gone");
}

#[tokio::test(start_paused = true)]
async fn force_ends_the_drain_at_once() {
    let supervisor = Supervisor::new();
    supervisor.spawn("stubborn", Critical, |_| pending::<Result<(), Infallible>>());
    let start = Instant::now();
    let force = tokio::time::sleep(Duration::from_secs(1));
    let outcome = supervisor.run_until(ready(()), force, DRAIN).await;
    assert_eq!(outcome.aborted, ["stubborn"]);
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn running_tasks_can_start_others_also_after_a_time_without_any() {
    let supervisor = Supervisor::new();
    let spawner = supervisor.spawner();
    supervisor.spawn("parent", Optional, move |_| async move {
        spawner.spawn("child", Critical, |_| ready(Err::<(), _>("from the child")));
        Ok::<_, Infallible>(())
    });
    assert_eq!(run(supervisor).await.failure.unwrap().to_string(), "task child failed");

    let supervisor = Supervisor::new();
    let spawner = supervisor.spawner();
    let later = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!spawner.is_stopping());
        spawner.spawn("late", Critical, |_| ready(Ok::<_, Infallible>(())));
        pending::<()>().await;
    };
    let outcome = supervisor.run_until(later, pending(), DRAIN).await;
    assert_eq!(outcome.failure.unwrap().to_string(), "task late ended although the process needs it");
    assert!(spawner.is_stopping());
    spawner.spawn("too late", Critical, |_| async { panic!("never polled") as Result<(), Infallible> });
    assert!(spawner.shared.lock().set.is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_supervisor_aborts_even_tasks_that_hold_a_spawner() {
    let running = Arc::new(AtomicUsize::new(1));
    struct Leave(Arc<AtomicUsize>);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let supervisor = Supervisor::new();
    let (leave, spawner) = (Leave(Arc::clone(&running)), supervisor.spawner());
    supervisor.spawn("holder", Critical, |_| async move {
        let _held = (leave, spawner);
        pending::<Result<(), Infallible>>().await
    });
    tokio::task::yield_now().await;
    drop(supervisor);
    tokio::task::yield_now().await;
    assert_eq!(running.load(Ordering::SeqCst), 0);
}
