//! What a program shows on its ops port beside what every one shows.

use std::{fmt, pin::Pin, sync::Arc};

/// Something to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What it is.
    pub content_type: &'static str,
    /// For how long it may be kept.
    pub cache_control: &'static str,
    /// The thing itself.
    pub body: Vec<u8>,
}

/// `None` when there is no such page; an error when that cannot be told now.
pub type Answer = Pin<Box<dyn Future<Output = Result<Option<Page>, String>> + Send>>;

/// Pages of one program.
#[derive(Clone)]
pub struct MorePages {
    /// A line for each path, for whoever asks for one that there is not.
    pub paths: &'static str,
    /// What is shown at a path. It answers in bounded time.
    pub page: Arc<dyn Fn(String) -> Answer + Send + Sync>,
}

impl fmt::Debug for MorePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MorePages({})", self.paths)
    }
}
