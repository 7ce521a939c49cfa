//! Keeps the trust bundle where others look for it: who of the replicas does the work, what storage says is to be published, and
//! what is told of it. Rotation waits for what is reported here; issuance waits for nothing of it.

mod keeper;
mod report;
mod trust;

use std::path::Path;

use signet_core::clock::Clock;

pub use keeper::{Keeper, Shown};
pub use report::{Reporter, Surroundings};
pub use trust::StoredTrust;

/// What this machine, or pod, is called.
#[must_use]
pub fn host() -> String {
    let name = signet_runtime::files::read(Path::new("/proc/sys/kernel/hostname"), 256).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// What no other process of this CA is called.
#[must_use]
pub fn who(host: &str, clock: &dyn Clock) -> String {
    format!("{host}/{}/{}", std::process::id(), clock.now().unix_timestamp_nanos())
}

#[cfg(test)]
#[path = "publishing_tests.rs"]
pub(crate) mod tests;
