//! The shape of the certificates that Signet makes: the SPIFFE leaf and the two CA levels above it.

use std::time::Duration;

use crate::csr::KeyFamily;

/// Key usage bits by their RFC 5280 section 4.2.1.3 numbers.
pub mod usage {
    /// digitalSignature.
    pub const DIGITAL_SIGNATURE: u8 = 0;
    /// keyEncipherment.
    pub const KEY_ENCIPHERMENT: u8 = 2;
    /// keyCertSign.
    pub const KEY_CERT_SIGN: u8 = 5;
    /// cRLSign.
    pub const CRL_SIGN: u8 = 6;
}

/// The key usages of a leaf: digitalSignature always (X-10a), keyEncipherment for RSA only, where TLS 1.2 key transport
/// gives it a meaning (X-10c).
#[must_use]
pub fn leaf_usages(family: KeyFamily) -> &'static [u8] {
    match family {
        KeyFamily::Ec => &[usage::DIGITAL_SIGNATURE],
        KeyFamily::Rsa => &[usage::DIGITAL_SIGNATURE, usage::KEY_ENCIPHERMENT],
    }
}

/// How far before now a leaf's validity starts, so that peers whose clocks are slow accept it at once:
/// `min(2 min, ttl / 10)`. Proportional, because clients renew at half of the whole span: a fixed two minutes would
/// put the renewal time of a short leaf in the past and make them ask in a loop.
#[must_use]
pub fn backdate(ttl: Duration) -> Duration {
    (ttl / 10).min(Duration::from_secs(120))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_half_life_of_every_leaf_lies_well_after_its_issue() {
        for seconds in [1, 10, 60, 3600, 86_400, 90 * 86_400] {
            let ttl = Duration::from_secs(seconds);
            let half_after_issue = (ttl + backdate(ttl)) / 2 - backdate(ttl);
            assert!(half_after_issue >= ttl * 2 / 5, "{seconds}");
        }
        assert_eq!(backdate(Duration::from_secs(60)), Duration::from_secs(6));
        assert_eq!(backdate(Duration::from_secs(86_400)), Duration::from_secs(120));
    }
}
