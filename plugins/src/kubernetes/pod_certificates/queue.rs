//! The requests that wait for an answer, and which of them is due.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube::api::DynamicObject;
use tokio::time::Instant;

use super::request::Open;

/// Requests that are known at a time; when there are more, the rest is listed again once these are answered.
pub(super) const MOST: usize = 10_000;

/// One request on its way.
pub(super) struct Work {
    pub(super) open: Arc<Open>,
    pub(super) heard_at: Instant,
    pub(super) attempts: u32,
    /// When it is due, unless it is being worked on.
    pub(super) due: Option<Instant>,
}

/// What is known of requests, and of how answering them goes.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) version: Option<String>,
    pub(super) work: HashMap<String, Work>,
    /// When which is due.
    pub(super) due: BTreeSet<(Instant, String)>,
    pub(super) left_out: bool,
    pub(super) issued: u64,
    pub(super) denied: u64,
    pub(super) heard_at: Option<Instant>,
    /// What keeps us from hearing of requests.
    pub(super) deaf: Option<String>,
    /// What kept the last attempt from coming to an end.
    pub(super) stuck: Option<String>,
}

impl Queue {
    /// Hears of a request: new, changed, or answered.
    pub(super) fn hear(&mut self, object: &DynamicObject) {
        self.heard_at = Some(Instant::now());
        self.deaf = None;
        let Some(open) = Open::of(object) else {
            if let Some(uid) = &object.metadata.uid {
                self.forget(uid);
            }
            return;
        };
        let known = self.work.len();
        match self.work.get_mut(&open.uid) {
            Some(work) => work.open = Arc::new(open),
            None if known >= MOST => self.left_out = true,
            None => {
                let now = Instant::now();
                self.due.insert((now, open.uid.clone()));
                self.work.insert(
                    open.uid.clone(),
                    Work { open: Arc::new(open), heard_at: now, attempts: 0, due: Some(now) },
                );
            }
        }
    }

    /// One is answered, or gone.
    pub(super) fn forget(&mut self, uid: &str) {
        if let Some(at) = self.work.remove(uid).and_then(|work| work.due) {
            self.due.remove(&(at, uid.to_owned()));
        }
    }

    /// Takes one that is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Arc<Open>, Instant)> {
        loop {
            let (at, uid) = self.due.first().cloned()?;
            if at > now {
                return None;
            }
            self.due.pop_first();
            if let Some(work) = self.work.get_mut(&uid) {
                work.due = None;
                return Some((Arc::clone(&work.open), work.heard_at));
            }
        }
    }

    /// Puts one back, or forgets it; with when it is tried again.
    pub(super) fn put_back(&mut self, uid: &str, again: Option<Duration>) {
        let Some(work) = self.work.get_mut(uid) else { return };
        match again {
            None => self.forget(uid),
            Some(wait) => {
                let at = Instant::now() + wait;
                (work.attempts, work.due) = (work.attempts.saturating_add(1), Some(at));
                self.due.insert((at, uid.to_owned()));
            }
        }
    }
}
