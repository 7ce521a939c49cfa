//! Serial numbers of certificates: those that Signet gives, and those of backends that sign leaves themselves.

use std::fmt;

use time::OffsetDateTime;

/// A certificate serial number: positive, of at most 20 bytes (RFC 5280 section 4.1.2.2).
///
/// One that is made here has 16 bytes. It begins with the microsecond of its making, so that the index that keeps serials
/// unique grows at its end (in a random order each would write a page of its own), and ends in 72 random bits, more than the
/// 64 that the CA/Browser Forum asks for (Baseline Requirements, section 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; MOST]);

/// The most bytes of a serial number.
const MOST: usize = 20;

/// The fewest bytes that one is written with; shorter ones are padded with zeroes in front.
const SHOWN: usize = 16;

impl Serial {
    /// Makes a serial at the time `now` from fresh random bytes. The two top bits are `01`: positive, constant length,
    /// never zero; 34 bits of seconds since 1970, 20 bits of microseconds and 72 random bits follow.
    #[must_use]
    pub fn new(now: OffsetDateTime, random: [u8; 16]) -> Self {
        const RANDOM_BITS: u32 = 72;
        let seconds = u128::from(now.unix_timestamp().unsigned_abs()) & ((1 << 34) - 1);
        let time = (seconds << 20) | u128::from(now.microsecond());
        let random = u128::from_be_bytes(random) & ((1 << RANDOM_BITS) - 1);
        let mut all = [0; MOST];
        all[MOST - SHOWN..].copy_from_slice(&((1 << 126) | (time << RANDOM_BITS) | random).to_be_bytes());
        Self(all)
    }

    /// The serial of a certificate, big-endian. `None` for zero, and for one that is too long.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let start = bytes.iter().position(|byte| *byte != 0)?;
        let digits = bytes.get(start..)?;
        let mut all = [0; MOST];
        all.get_mut(MOST.checked_sub(digits.len())?..)?.copy_from_slice(digits);
        Some(Self(all))
    }

    /// The big-endian bytes, 16 at least.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let start = self.0.iter().position(|byte| *byte != 0).unwrap_or(MOST).min(MOST - SHOWN);
        self.0.get(start..).unwrap_or(&self.0)
    }

    /// Parses 32 to 40 hexadecimal digits, with or without colons between bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = text.bytes().filter(|byte| *byte != b':').map(|byte| char::from(byte).to_digit(16));
        let (mut all, mut count) = ([0_u8; 2 * MOST], 0_usize);
        for digit in &mut digits {
            *all.get_mut(count)? = u8::try_from(digit?).ok()?;
            count += 1;
        }
        if count < 2 * SHOWN {
            return None;
        }
        all.rotate_right(2 * MOST - count);
        let mut bytes = [0; MOST];
        for (byte, [high, low]) in bytes.iter_mut().zip(all.as_chunks::<2>().0) {
            *byte = high << 4 | low;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
                assert!(serial.as_bytes().first().is_some_and(|first| (0x40..0x80).contains(first)));
                assert_eq!(serial.as_bytes().len(), 16);
                assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
            }
        }
        assert_ne!(Serial::new(late, [1; 16]), Serial::new(late, [2; 16]));
        assert_eq!(Serial::parse("12"), None);
        assert_eq!(Serial::parse(&"g".repeat(32)), None);
    }

    #[test]
    fn serials_of_others_have_one_to_twenty_bytes_and_are_shown_with_sixteen_at_least() {
        for (bytes, shown) in [
            (&[1][..], Some("00000000000000000000000000000001".to_owned())),
            (&[0, 0x7f, 2], Some("00000000000000000000000000007f02".to_owned())),
            (&[0xab; 17], Some("ab".repeat(17))),
            (&[0x7f; 20], Some("7f".repeat(20))),
            (&[1; 21], None),
            (&[0, 0], None),
            (&[], None),
        ] {
            let serial = Serial::from_bytes(bytes);
            assert_eq!(serial.map(|serial| serial.to_string()), shown);
            if let Some(serial) = serial {
                assert_eq!(Serial::parse(&serial.to_string()), Some(serial));
                assert_eq!(Serial::from_bytes(serial.as_bytes()), Some(serial));
            }
        }
        let colons = ["0c"; 20].join(":");
        assert_eq!(Serial::parse(&colons), Serial::from_bytes(&[0x0c; 20]));
        assert_eq!(Serial::parse(&"1".repeat(33)), Serial::parse(&format!("0{}", "1".repeat(33))));
        assert_eq!(Serial::parse(&"1".repeat(41)), None);
        assert_eq!(Serial::parse(&"ä".repeat(16)), None);
    }
}
