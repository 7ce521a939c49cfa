//! One piece of work for all who want its outcome at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

/// Work that is being done, by what it is about. Whoever waits drives it; when nobody waits any more, it ends.
pub(super) struct Flights<K, T: Clone>(Mutex<HashMap<K, WeakShared<BoxFuture<'static, T>>>>);

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, T: Clone> Flights<K, T> {
    /// The work about `key` that is being done and not over; otherwise `begin` is.
    pub(super) fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> Shared<BoxFuture<'static, T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let going_on =
            |work: &WeakShared<_>| work.upgrade().filter(|work: &Shared<BoxFuture<'static, T>>| work.peek().is_none());
        if let Some(work) = all.get(&key).and_then(going_on) {
            return work;
        }
        // What nobody waits for any more goes, when there may be as much of it as of the rest.
        if all.len() == all.capacity() {
            all.retain(|_, work| going_on(work).is_some());
        }
        let work = begin().boxed().shared();
        if let Some(weak) = work.downgrade() {
            all.insert(key, weak);
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn who_comes_while_work_is_done_shares_its_outcome_and_who_comes_later_does_not() {
        let (flights, begun, go) = (Flights::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let join = |key: u8| {
            flights.join(key, || {
                let (number, go) = (begun.fetch_add(1, Ordering::SeqCst), Arc::clone(&go));
                async move {
                    go.notified().await;
                    number
                }
            })
        };
        let (one, two, other) = (join(1), join(1), join(2));
        go.notify_one();
        assert_eq!((one.await, two.await), (0, 0));
        go.notify_one();
        assert_eq!(other.await, 1);
        let again = join(1);
        go.notify_one();
        assert_eq!(again.await, 2);
    }

    #[tokio::test]
    async fn work_goes_on_while_anybody_waits_and_is_forgotten_when_nobody_does() {
        let flights = Flights::default();
        let alive = Arc::new(());
        let join = |key: usize| {
            let alive = Arc::clone(&alive);
            flights.join(key, move || async move {
                std::future::pending::<()>().await;
                drop(alive);
            })
        };
        let (one, two) = (join(0), join(0));
        drop(one);
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(two);
        assert_eq!(Arc::strong_count(&alive), 1);
        for key in 0..10_000 {
            drop(join(key));
        }
        assert!(flights.0.lock().is_ok_and(|all| all.len() < 100), "what nobody waits for is kept");
    }
}
