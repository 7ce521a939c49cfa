//! Where connections and requests come from, as limits and records count it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or the first 64 bits of an IPv6 one: a host has a whole /64 to choose from (RFC 4291 section 2.5.4),
/// and ports change with every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// One address.
    V4(Ipv4Addr),
    /// A /64: the other bits are zero.
    V6(Ipv6Addr),
    /// The transport tells none.
    Unknown,
}

impl Source {
    /// The source that an address belongs to.
    #[must_use]
    pub fn of(address: Option<IpAddr>) -> Self {
        // A listener on [::] sees IPv4 peers as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => Self::V4(address),
            Some(IpAddr::V6(address)) => Self::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            None => Self::Unknown,
        }
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self::of(Some(address))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(prefix) => write!(f, "{prefix}/64"),
            Self::Unknown => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_prefix() {
        for (address, expected) in [
            (Some("192.0.2.1"), "192.0.2.1"),
            (Some("::ffff:192.0.2.1"), "192.0.2.1"),
            (Some("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
            (Some("2001:db8:1:2:ffff::"), "2001:db8:1:2::/64"),
            (Some("::1"), "::/64"),
            (None, "-"),
        ] {
            assert_eq!(Source::of(address.map(|text| text.parse().unwrap())).to_string(), expected, "{address:?}");
        }
    }
}
