//! Sealed keys in a file that two handles share.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use super::tests::{meddle, store};
use crate::store::suite::unused_keys;

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_needs_go_and_no_others() {
    let directories = Mutex::new(Vec::new());
    let make = async || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signet.db");
        directories.lock().unwrap().push(directory);
        [Arc::new(store(&path).await), Arc::new(store(&path).await)]
    };
    let forget_history = async |store: &Arc<super::SqliteStore>| {
        meddle(&store.path, "DELETE FROM authority_journal_history").await;
    };
    unused_keys::every_case(make, forget_history).await;
}
