//! The roots that clients of the service have applied last, for one that refuses the newest and has applied none on its
//! own stream: a proxy that has come back, or started anew.

use std::sync::{Mutex, PoisonError};

use crate::session::Roots;
use crate::snapshot::Snapshot;

/// One content for each name. Only contents that were served are here, so there are no more names than secrets.
#[derive(Debug, Default)]
pub(crate) struct LastGood(Mutex<Roots>);

impl LastGood {
    /// Notes what a stream has applied while `snapshot` is the newest; names that are not in it are forgotten.
    pub(crate) fn note(&self, applied: Roots, snapshot: &Snapshot) {
        if applied.is_empty() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(applied);
        known.retain(|name, _| snapshot.secret(name).is_some());
    }

    /// All of them; the contents are shared.
    pub(crate) fn roots(&self) -> Roots {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::snapshot::tests::{bundle, root};
    use std::sync::Arc;

    #[test]
    fn the_last_content_of_a_name_counts_for_as_long_as_the_name_is_served() {
        let snapshot = |names: &[&str]| Snapshot::new(names.iter().map(|name| (*name, bundle(1, &[root("r")]))));
        let roots = |snapshot: &Snapshot| -> Roots {
            snapshot.iter().map(|(name, roots)| (Arc::clone(name), Arc::clone(roots))).collect()
        };
        let (first, second) = (snapshot(&["a", "b"]), snapshot(&["a"]));
        let good = LastGood::default();
        good.note(roots(&first), &first);
        assert_eq!(good.roots(), roots(&first));
        good.note(Roots::new(), &second);
        assert_eq!(good.roots().len(), 2, "nothing was applied, and nothing is looked at");
        good.note(roots(&second), &second);
        assert_eq!(good.roots(), roots(&second));
    }
}
