//! Durations and sizes as people write them: a number with a unit, such as `24h`, `1h30m` or `64KiB`.

use std::time::Duration;

use thiserror::Error;

/// The longest duration that is accepted: 100 years. Larger values are slips, and would overflow dates.
pub const MAX_DURATION: Duration = Duration::from_secs(36_500 * 86_400);

/// Milliseconds per unit, the largest unit first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes per unit.
const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// What every duration that [`parse_duration`] reads looks like, and little else.
pub const DURATION_PATTERN: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// What every size that [`parse_size`] reads looks like.
pub const SIZE_PATTERN: &str = "^[0-9]+([KMGT]i)?B$";

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// The text does not start with a digit where a number is due.
    #[error("a whole number is missing")]
    NumberMissing,
    /// A number stands alone.
    #[error("the unit is missing")]
    UnitMissing,
    /// The unit is none of the known ones.
    #[error("the unit {0:?} is not known")]
    UnitUnknown(String),
    /// Units are repeated or not in falling order, as in `30m1h`.
    #[error("units must go from large to small, each once")]
    UnitOrder,
    /// The value is beyond what is accepted.
    #[error("the value is too large")]
    TooLarge,
}

/// Reads a duration: one or more whole numbers with units `d`, `h`, `m`, `s`, `ms`, largest first, no spaces.
///
/// # Errors
/// [`UnitError`] when the text has another form or means more than [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    loop {
        let (number, unit, after) = split_term(rest)?;
        let factor = factor_of(&TIME_UNITS, unit)?;
        if factor >= smallest {
            return Err(UnitError::UnitOrder);
        }
        smallest = factor;
        let term = number.checked_mul(factor).ok_or(UnitError::TooLarge)?;
        total = total.checked_add(term).ok_or(UnitError::TooLarge)?;
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    let duration = Duration::from_millis(total);
    if duration > MAX_DURATION { Err(UnitError::TooLarge) } else { Ok(duration) }
}

/// Reads a size in bytes: one whole number with the unit `B`, `KiB`, `MiB`, `GiB` or `TiB`, no spaces.
///
/// # Errors
/// [`UnitError`] when the text has another form or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit, after) = split_term(text)?;
    if !after.is_empty() {
        return Err(UnitError::UnitOrder);
    }
    number.checked_mul(factor_of(&SIZE_UNITS, unit)?).ok_or(UnitError::TooLarge)
}

/// Writes a duration so that [`parse_duration`] reads it back; what is finer than a millisecond is dropped.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in TIME_UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    text
}

/// Splits `1h30m` into the number 1, the unit `h` and the rest `30m`.
fn split_term(text: &str) -> Result<(u64, &str, &str), UnitError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NumberMissing);
    }
    let number = number.parse().map_err(|_too_long| UnitError::TooLarge)?;
    let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(letters);
    if unit.is_empty() { Err(UnitError::UnitMissing) } else { Ok((number, unit, after)) }
}

fn factor_of(units: &[(&str, u64)], unit: &str) -> Result<u64, UnitError> {
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
        .ok_or_else(|| UnitError::UnitUnknown(unit.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_read_as_written_and_write_back() {
        for (text, seconds) in
            [("30s", 30.0), ("5m", 300.0), ("24h", 86_400.0), ("3650d", 315_360_000.0), ("250ms", 0.25), ("0s", 0.0)]
        {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_secs_f64(seconds), "{text}");
            assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration, "{text}");
        }
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(format_duration(Duration::from_millis(90_061_001)), "1d1h1m1s1ms");
        assert_eq!(parse_duration("36500d").unwrap(), MAX_DURATION);
    }

    #[test]
    fn malformed_durations_are_refused_with_the_reason() {
        for (text, error) in [
            ("", UnitError::NumberMissing),
            ("h", UnitError::NumberMissing),
            ("-1h", UnitError::NumberMissing),
            (" 1h", UnitError::NumberMissing),
            ("24", UnitError::UnitMissing),
            ("1h30", UnitError::UnitMissing),
            ("24x", UnitError::UnitUnknown("x".into())),
            ("1.5h", UnitError::UnitUnknown(".".into())),
            ("24 h", UnitError::UnitUnknown(" h".into())),
            ("30m1h", UnitError::UnitOrder),
            ("1h1h", UnitError::UnitOrder),
            ("36501d", UnitError::TooLarge),
            ("99999999999999999999s", UnitError::TooLarge),
            ("18446744073709551615d", UnitError::TooLarge),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn sizes_use_binary_units_only() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("0B"), Ok(0));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        for (text, error) in [
            ("64", UnitError::UnitMissing),
            ("64KB", UnitError::UnitUnknown("KB".into())),
            ("1KiB1B", UnitError::UnitOrder),
            ("99999999TiB", UnitError::TooLarge),
        ] {
            assert_eq!(parse_size(text), Err(error), "{text}");
        }
    }
}
