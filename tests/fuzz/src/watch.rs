//! Sees to it that an input which never ends, or takes all memory, is told like any other that breaks something.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one input may take before the hunt is given up.
pub const ENDLESS: Duration = Duration::from_secs(30);

/// What the whole program may hold, in bytes. Inputs are under 100 KiB, and no reader keeps more than a few times that.
pub const MOST_MEMORY: u64 = 1 << 30;

/// The input that one hunt is trying.
#[derive(Debug, Default)]
pub struct Watched(Mutex<Option<(Instant, Vec<u8>)>>);

impl Watched {
    pub(crate) fn begins(&self, input: &[u8]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), input.to_vec()));
    }

    pub(crate) fn ends(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The input, and for how long it has been tried.
    #[must_use]
    pub fn current(&self) -> Option<(Duration, Vec<u8>)> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(since, input)| (since.elapsed(), input.clone()))
    }
}

/// Resident memory of this process in bytes; 0 where the kernel does not tell.
#[must_use]
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
