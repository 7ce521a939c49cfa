//! Serial numbers of the certificates that Signet makes.

use std::fmt;

use time::OffsetDateTime;

/// A certificate serial number: 16 bytes, positive, never zero (RFC 5280 section 4.1.2.2).
///
/// It begins with the microsecond of its making, so that the index that keeps serials unique grows at its end (in a random
/// order each would write a page of its own), and ends in 72 random bits, more than the 64 that the CA/Browser Forum asks for
/// (Baseline Requirements, section 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Makes a serial at the time `now` from fresh random bytes. The two top bits are `01`: positive, constant length,
    /// never zero; 34 bits of seconds since 1970, 20 bits of microseconds and 72 random bits follow.
    #[must_use]
    pub fn new(now: OffsetDateTime, random: [u8; 16]) -> Self {
        const RANDOM_BITS: u32 = 72;
        let seconds = u128::from(now.unix_timestamp().unsigned_abs()) & ((1 << 34) - 1);
        let time = (seconds << 20) | u128::from(now.microsecond());
        let random = u128::from_be_bytes(random) & ((1 << RANDOM_BITS) - 1);
        Self(((1 << 126) | (time << RANDOM_BITS) | random).to_be_bytes())
    }

    /// The big-endian bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses 32 hexadecimal digits, with or without colons between bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let digits = std::str::from_utf8(&digits).ok().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(|value| Self(value.to_be_bytes()))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_positive_sixteen_bytes_in_order_of_time_and_round_trip_as_text() {
        let late = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs((1 << 34) - 1);
        for random in [[0; 16], [0xff; 16], [0x80; 16]] {
            let (early, late) = (Serial::new(OffsetDateTime::UNIX_EPOCH, random), Serial::new(late, [0; 16]));
            assert!(early < late);
            let next = Serial::new(OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_micros(1), [0; 16]);
            assert!(early < next && next < late, "by the microsecond");
            for serial in [early, late] {
                let [first, ..] = serial.as_bytes();
                assert!((0x40..0x80).contains(first));
                assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
            }
        }
        assert_ne!(Serial::new(late, [1; 16]), Serial::new(late, [2; 16]));
        assert_eq!(Serial::parse("12"), None);
        assert_eq!(Serial::parse(&"g".repeat(32)), None);
    }
}
