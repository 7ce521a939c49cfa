//! Hearing that another replica has changed the journal, by LISTEN and NOTIFY. Only a hint: whoever hears nothing asks for the
//! version now and then.

use std::time::Duration;

use signet_core::seams::store::StoreError;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::PostgresStore;
use super::error::store_error;

/// The channel, which every replica on the database listens on.
pub(super) const CHANNEL: &str = "signet_journal";

/// Between two attempts to listen: at first, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The ear of one store.
#[derive(Default)]
pub(super) struct Ear(Mutex<State>);

#[derive(Default)]
struct State {
    listener: Option<PgListener>,
    /// When to try again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
}

impl Drop for State {
    fn drop(&mut self) {
        // It ends its connection in a task, for which there is no place once the runtime has gone.
        if tokio::runtime::Handle::try_current().is_err() {
            std::mem::forget(self.listener.take());
        }
    }
}

impl Ear {
    /// Waits until something was heard, or may have been missed because the connection was made anew.
    pub(super) async fn hear(&self, store: &PostgresStore) {
        let mut state = self.0.lock().await;
        loop {
            if let Some(listener) = &mut state.listener {
                match listener.try_recv().await {
                    Ok(Some(_)) => return,
                    Ok(None) => tracing::debug!("the connection that listens was lost"),
                    Err(error) => tracing::debug!(%error, "the connection that listens was lost"),
                }
                state.listener = None;
            }
            if let Some((at, _)) = state.retry {
                tokio::time::sleep_until(at).await;
            }
            let pause = state.retry.map_or(PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
            // Before the attempt: it counts also when nobody waits for its end.
            state.retry = Some((Instant::now() + pause, pause));
            match store.within("listening to the database", listen(store)).await {
                Ok(listener) => {
                    state.listener = Some(listener);
                    state.retry = None;
                    return;
                }
                Err(error) => tracing::debug!(%error, "changes of the journal are not heard"),
            }
        }
    }

    /// Ends the connection, unless somebody listens still.
    pub(super) fn close(&self) {
        if let Ok(mut state) = self.0.try_lock() {
            state.listener = None;
        }
    }
}

async fn listen(store: &PostgresStore) -> Result<PgListener, StoreError> {
    let failed = |error: sqlx::Error| store_error("listening to the database", &error);
    let options = store.access.options(store.settings, false).await?;
    let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.acquire_timeout(store.settings.deadline).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await.map_err(failed)?;
    Ok(listener)
}
