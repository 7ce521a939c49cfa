//! Free TCP ports on the loopback interface.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::ServerError;

/// Below the kernel's range for outgoing connections, which would otherwise take a port while its server is stopped, and
/// apart from the range of the end-to-end tests.
const FIRST: u16 = 5_500;
const COUNT: u16 = 6_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A free port on 127.0.0.1, never given twice by one process.
pub(crate) fn free() -> Result<u16, ServerError> {
    // Two test processes at once start at different places.
    let start = u16::try_from(std::process::id().wrapping_mul(61) % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + offset) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ServerError::refused("find a port", format!("none is free between {FIRST} and {}", FIRST + COUNT)))
}
