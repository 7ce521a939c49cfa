//! Random numbers that spread things out or tell processes apart; nothing here is a secret.

use ring::rand::{SecureRandom, SystemRandom};

/// A random number from 0 to 1, so that agents which failed together do not come back together.
#[must_use]
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_unspecified) => 1.0,
    }
}

/// A name for this process, 32 hexadecimal digits: tells it from others of the same identity. `None` if the system
/// has no randomness, in which case there will be no key either.
#[must_use]
pub(crate) fn instance() -> Option<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
