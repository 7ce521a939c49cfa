//! The end of a program: what it started is given a moment, and then left behind.

use std::{future::Future, time::Duration};

use tokio::runtime::Runtime;

/// How long threads that still touch files may take. One that hangs cannot be told to stop.
const LINGER: Duration = Duration::from_secs(1);

/// Runs `program` to its end. Unlike dropping the runtime, this does not wait for threads that hang.
pub fn run<T>(runtime: Runtime, program: impl Future<Output = T>) -> T {
    let result = runtime.block_on(program);
    runtime.shutdown_timeout(LINGER);
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_hangs_does_not_hold_up_the_end() {
        let (held, hang) = mpsc::channel::<()>();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (started, start) = tokio::sync::oneshot::channel();
        let result = run(runtime, async {
            tokio::task::spawn_blocking(move || {
                started.send(()).unwrap();
                hang.recv()
            });
            start.await.unwrap();
            7
        });
        // It hangs still: what it waits for can be sent.
        assert_eq!((result, held.send(())), (7, Ok(())));
    }
}
