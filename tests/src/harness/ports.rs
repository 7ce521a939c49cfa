//! Free TCP ports on the loopback interface.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::failure::{Failure, Outcome};

/// Below the kernel's range for outgoing connections, which would otherwise take a port between our looking and the
/// server's binding.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A free address on 127.0.0.1, never given twice by one process.
///
/// # Errors
/// [`Failure::Unexpected`] when the whole range is taken.
pub fn free() -> Outcome<SocketAddr> {
    // Two test processes at once start at different places.
    let start = u16::try_from(std::process::id().wrapping_mul(61) % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(offset % COUNT)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::unexpected(format!("no free port between {FIRST} and {}", FIRST + COUNT)))
}

/// The same where the one behind it is free and kept, too: for a server that listens on both.
///
/// # Errors
/// As [`free`].
pub fn free_pair() -> Outcome<SocketAddr> {
    let mut first = free()?;
    loop {
        let second = free()?;
        if second.port().checked_sub(1) == Some(first.port()) {
            return Ok(first);
        }
        first = second;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ports_are_free_and_never_given_twice() {
        let taken: HashSet<u16> = (0..50).map(|_| free().unwrap().port()).collect();
        assert_eq!(taken.len(), 50);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let next = free().unwrap().port() + 1;
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, next));
        assert_ne!(free().unwrap().port(), next);
    }
}
