//! Which publishers of the trust bundle this replica is configured with: what they lack does not sign.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// Their names, as storage knows them. Copies share one list, which is replaced when the configuration is.
#[derive(Debug, Clone, Default)]
pub struct Publishers(Arc<ArcSwap<Vec<String>>>);

impl Publishers {
    /// The names as of now.
    #[must_use]
    pub fn names(&self) -> Arc<Vec<String>> {
        self.0.load_full()
    }

    /// From now on, these.
    pub fn replace(&self, names: Vec<String>) {
        self.0.store(Arc::new(names));
    }
}
