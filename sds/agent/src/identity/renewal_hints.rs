//! Renewal hints: the CA asks the holders of certificates from certain issuing CAs, or of certain certificates, to
//! renew before their time. When each of them does so is a pure function of hint and certificate.

use std::time::Duration;

use serde::Deserialize;
use signet_core::time_math;
use time::OffsetDateTime;

/// The most hints, and the most authorities in one, that make sense.
const MAX_LIST: usize = 256;

/// The most serial numbers in one hint.
const MAX_SERIALS: usize = 4096;

/// The longest proof that is kept for the CA, in bytes; it travels as a header.
const MAX_PROOF: usize = 256;

/// How long at most a renewal that is overdue by its hint is put off, so that a CA that was away is not run over.
pub(crate) const OVERDUE_SPREAD: Duration = Duration::from_secs(3);

/// The least time between two renewals by hint, and the most that it grows to.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// The share of a hint's window that is decided by the certificate's jitter; the rest by the life it has left.
const JITTER_SHARE: f64 = 0.2;

/// What the secret `signet/agent` holds. Fields that are not known are passed over: a newer CA may say more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Instructions {
    /// The sequence of the bundle that is current with them.
    pub sequence: u64,
    /// Who is to renew.
    #[serde(default)]
    pub renew: Vec<RenewalHint>,
    /// What the CA wants to be shown when it is met again. It means nothing here.
    #[serde(default)]
    pub proof: Option<String>,
}

/// Holders of certificates from these authorities, or of these certificates, renew within a window of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct RenewalHint {
    /// Hexadecimal key identifiers of issuing CAs.
    #[serde(default)]
    pub authorities: Vec<String>,
    /// Hexadecimal serial numbers of single certificates; zeros in front do not count.
    #[serde(default)]
    pub serials: Vec<String>,
    /// When the window begins, seconds since 1970.
    pub since: i64,
    /// How long it is, in seconds.
    pub window: u64,
}

/// Why instructions are not followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum InstructionsError {
    /// Not the JSON that belongs there.
    #[error("not the JSON that belongs there")]
    Unreadable(#[source] serde_json::Error),
    /// More than makes sense.
    #[error(
        "the CA's instructions hold more than {MAX_LIST} hints, or {MAX_LIST} authorities or {MAX_SERIALS} serials in one"
    )]
    TooMany,
}

impl Instructions {
    /// Reads the secret's bytes.
    ///
    /// # Errors
    /// [`InstructionsError`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, InstructionsError> {
        let instructions: Self = serde_json::from_slice(bytes).map_err(InstructionsError::Unreadable)?;
        let over = |hint: &RenewalHint| hint.authorities.len() > MAX_LIST || hint.serials.len() > MAX_SERIALS;
        let too_many = instructions.renew.iter().any(over);
        if too_many || instructions.renew.len() > MAX_LIST {
            return Err(InstructionsError::TooMany);
        }
        let fits = |proof: &String| proof.len() <= MAX_PROOF && proof.bytes().all(|byte| byte.is_ascii_graphic());
        Ok(Self { proof: instructions.proof.filter(fits), ..instructions })
    }
}

impl RenewalHint {
    /// Whether the certificate of this serial number, hexadecimal, is meant itself.
    #[must_use]
    pub(crate) fn names_serial(&self, serial: &str) -> bool {
        let own = serial.trim_start_matches('0');
        let is_own = |named: &String| named.trim_start_matches('0').eq_ignore_ascii_case(own);
        !own.is_empty() && self.serials.iter().any(is_own)
    }

    fn names_authority(&self, key_id: &str) -> bool {
        !key_id.is_empty() && self.authorities.iter().any(|named| named.eq_ignore_ascii_case(key_id))
    }

    /// When the certificate is renewed because of this hint; `None` if the hint is not about it. `now` is when the hint
    /// is seen for the first time.
    ///
    /// Certificates near their end come first: the place in the window grows with the share of life that was left when
    /// the window began. Never later than without a hint.
    #[must_use]
    pub(crate) fn renew_at(&self, certificate: Candidate<'_>, now: OffsetDateTime) -> Option<OffsetDateTime> {
        if !self.names_authority(certificate.authority) && !self.names_serial(certificate.serial) {
            return None;
        }
        // A time that no calendar has is a mistake; what is left of the hint is that one should renew.
        let since = OffsetDateTime::from_unix_timestamp(self.since).unwrap_or(now);
        let jitter = if certificate.jitter.is_nan() { 1.0 } else { certificate.jitter.clamp(0.0, 1.0) };
        let left_at = |from| time_math::until(from, certificate.not_after).as_secs_f64();
        let life = left_at(certificate.not_before);
        let left = if life > 0.0 { (left_at(since) / life).clamp(0.0, 1.0) } else { 0.0 };
        let place = (1.0 - JITTER_SHARE).mul_add(left, JITTER_SHARE * jitter);
        let window = Duration::from_secs(self.window);
        let within = Duration::try_from_secs_f64(window.as_secs_f64() * place).unwrap_or(window).min(window);
        let at = time::Duration::try_from(within).ok().and_then(|within| since.checked_add(within));
        let at = at.unwrap_or(certificate.renew_at);
        let at = if at <= now { time_math::after(now, OVERDUE_SPREAD.mul_f64(jitter)) } else { at };
        Some(at.min(certificate.renew_at))
    }
}

/// What a hint needs to know of a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// Key identifier of the issuing CA, hexadecimal.
    pub authority: &'a str,
    /// Serial number, hexadecimal.
    pub serial: &'a str,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// When it is renewed without any hint.
    pub renew_at: OffsetDateTime,
    /// A number from 0 to 1 that is always the same for the same certificate.
    pub jitter: f64,
}

/// How long the next renewal by hint is put off after certificates that a hint was about as soon as they came,
/// so many in a row: a CA that goes on to sign with what it wants to be rid of is asked ever more seldom.
#[must_use]
pub(crate) fn pause(in_a_row: u32) -> Duration {
    PAUSES.0.saturating_mul(2_u32.saturating_pow(in_a_row.saturating_sub(1))).min(PAUSES.1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_700_000_000;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(START + seconds).unwrap()
    }

    fn hint(since: i64, window: u64) -> RenewalHint {
        RenewalHint { authorities: vec!["other".into(), "ABCD".into()], serials: vec![], since: START + since, window }
    }

    /// Valid from `from` on for `life` seconds, renewed at its very end.
    fn candidate(from: i64, life: i64, jitter: f64) -> Candidate<'static> {
        Candidate {
            authority: "abcd",
            serial: "00c0ffee",
            not_before: at(from),
            not_after: at(from + life),
            renew_at: at(from + life),
            jitter,
        }
    }

    proptest! {
        #[test]
        fn a_renewal_falls_into_its_window_and_never_after_the_normal_one(
            from in -100_000_i64..0, life in 1_i64..200_000, since in -1000_i64..1000, window in 0_u64..100_000,
            share in 0.0_f64..1.0, jitter in 0.0_f64..=1.0, now in -1000_i64..1000,
        ) {
            let renew_at = at(from) + Duration::from_secs(life.unsigned_abs()).mul_f64(share);
            let candidate = Candidate { renew_at, ..candidate(from, life, jitter) };
            let serials = vec![candidate.serial.to_owned()];
            let hint = hint(since, window);
            let early = hint.renew_at(candidate, at(now)).unwrap();
            let by_serial = RenewalHint { authorities: vec![], serials, ..hint.clone() };
            prop_assert_eq!(Some(early), by_serial.renew_at(candidate, at(now)), "named in either way");
            prop_assert!(early <= renew_at);
            if early < renew_at {
                prop_assert!(early >= at(since).min(at(now)));
                let end = at(since) + Duration::from_secs(window);
                prop_assert!(early <= end.max(at(now) + OVERDUE_SPREAD));
                prop_assert!(early >= at(now), "nothing is due before it is known");
            }
            prop_assert_eq!(Some(early), hint.renew_at(candidate, at(now)), "always the same");
        }

        #[test]
        fn of_two_certificates_alike_the_one_nearer_to_its_end_comes_first(
            one in 1_i64..100_000, other in 1_i64..100_000, window in 1_u64..100_000, jitter in 0.0_f64..=1.0,
        ) {
            // Both live equally long and began at different times.
            let renewal = |age: i64| hint(0, window).renew_at(candidate(-age, 1_000_000, jitter), at(-1)).unwrap();
            prop_assert!((one >= other) == (renewal(one) <= renewal(other)) || renewal(one) == renewal(other));
        }

        #[test]
        fn no_numbers_make_it_fail(since: i64, window: u64, jitter: f64, life: i32, now: i32) {
            let hint = RenewalHint { since, ..hint(0, window) };
            let candidate = Candidate { renew_at: at(7), ..candidate(0, life.into(), jitter) };
            prop_assert!(hint.renew_at(candidate, at(now.into())).unwrap() <= at(7));
        }
    }

    #[test]
    fn a_hint_is_about_the_certificates_of_its_authorities_only() {
        for (authority, expected) in [("abcd", true), ("ABCD", true), ("other", true), ("abc", false), ("", false)] {
            let candidate = Candidate { authority, ..candidate(0, 100, 0.0) };
            let hint = RenewalHint { authorities: vec!["abcd".into(), "other".into(), String::new()], ..hint(0, 10) };
            assert_eq!(hint.renew_at(candidate, at(0)).is_some(), expected, "{authority}");
        }
    }

    #[test]
    fn a_hint_is_about_the_certificates_that_it_names_by_serial_too() {
        // As the CA writes it, in capitals, without zeros in front or with more of them; part of it, another one.
        let own = format!("{:0>32}", "c0ffee");
        for (named, expected) in [
            (own.as_str(), true),
            ("C0FFEE", true),
            ("0c0FFee", true),
            ("c0ffe", false),
            ("1c0ffee", false),
            ("0", false),
            ("", false),
        ] {
            let hint = RenewalHint { authorities: vec![], serials: vec!["01".into(), named.into()], ..hint(0, 10) };
            let about = |serial| hint.renew_at(Candidate { serial, ..candidate(0, 100, 0.0) }, at(0)).is_some();
            assert_eq!((about(&own), about(""), about("00")), (expected, false, false), "{named}");
            let authority = RenewalHint { authorities: vec!["abcd".into()], ..hint.clone() };
            assert!(authority.renew_at(candidate(0, 100, 0.0), at(0)).is_some(), "one of the two is enough");
        }
        let all: Vec<String> = (1..=MAX_SERIALS).map(|serial| format!("{serial:032x}")).collect();
        let hint = RenewalHint { authorities: vec![], serials: all, ..hint(0, 10) };
        assert!(hint.names_serial("1000") && !hint.names_serial("1001"), "the last one of many");
    }

    #[test]
    fn a_hint_that_is_past_is_due_within_seconds() {
        for jitter in [0.0, 0.5, 1.0] {
            let early = hint(-1000, 10).renew_at(candidate(-5000, 100_000, jitter), at(0)).unwrap();
            assert_eq!(early, at(0) + OVERDUE_SPREAD.mul_f64(jitter));
        }
    }

    #[test]
    fn the_place_in_the_window_is_mostly_the_share_of_life_that_is_left() {
        for (from, jitter, seconds) in [(-500, 0.0, 400), (-500, 1.0, 600), (-1000, 1.0, 200), (0, 0.0, 800)] {
            let candidate = Candidate { renew_at: at(10_000), ..candidate(from, 1000, jitter) };
            let early = hint(0, 1000).renew_at(candidate, at(-1)).unwrap();
            assert!((early - at(seconds)).abs() < Duration::from_millis(1), "{from} {jitter}: {early}");
        }
        let renewal = |jitter| hint(0, 1000).renew_at(candidate(0, 1000, jitter), at(-1));
        assert_eq!(renewal(f64::NAN), renewal(1.0), "what is no number comes last");
        let now = hint(0, 0).renew_at(candidate(-5000, 100_000, 1.0), at(0));
        assert_eq!(now, Some(at(0) + OVERDUE_SPREAD), "what is due now is overdue");
    }

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let seconds = [0, 1, 2, 3, 6, 7, 8, u32::MAX].map(|times| pause(times).as_secs());
        assert_eq!(seconds, [10, 10, 20, 40, 320, 600, 600, 600]);
    }

    #[test]
    fn instructions_are_strict_but_take_no_offence_at_news() {
        let of =
            |list: &str| format!(r#"{{"sequence":7,"new":{{}},"renew":[{{{list}"since":-5,"window":60,"why":"x"}}]}}"#);
        let parse = |text: &str| Instructions::parse(text.as_bytes());
        for (list, authorities, serials) in [
            (r#""authorities":["ab"],"#, vec!["ab"], vec![]),
            (r#""serials":["01","02"],"#, vec![], vec!["01", "02"]),
            (r#""authorities":["ab"],"serials":["01"],"#, vec!["ab"], vec!["01"]),
            ("", vec![], vec![]),
        ] {
            let [authorities, serials] = [authorities, serials].map(|it| it.into_iter().map(str::to_owned).collect());
            let expected = RenewalHint { authorities, serials, since: -5, window: 60 };
            assert_eq!(
                parse(&of(list)).unwrap(),
                Instructions { sequence: 7, renew: vec![expected], proof: None },
                "{list}"
            );
        }
        assert_eq!(Instructions::parse(br#"{"sequence":7}"#).unwrap().renew, []);
        for (proof, kept) in [
            ("v1.ab.7.c-_", true),
            (&"x".repeat(MAX_PROOF), true),
            (&"x".repeat(MAX_PROOF + 1), false),
            ("no header", false),
            ("\u{e9}", false),
        ] {
            let read = parse(&format!(r#"{{"sequence":7,"proof":"{proof}"}}"#)).unwrap();
            assert_eq!((read.sequence, read.proof.is_some()), (7, kept), "the rest counts whatever it is: {proof}");
        }
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"sequence":-1}"#,
            r#"{"sequence":"7"}"#,
            r#"{"sequence":7,"renew":{}}"#,
            r#"{"sequence":7,"renew":[{"authorities":["ab"],"since":1,"window":-1}]}"#,
            r#"{"sequence":7,"renew":[{"authorities":"ab","since":1,"window":1}]}"#,
            r#"{"sequence":7,"renew":[{"serials":[1],"since":1,"window":1}]}"#,
        ] {
            assert!(matches!(Instructions::parse(wrong.as_bytes()), Err(InstructionsError::Unreadable(_))), "{wrong}");
        }
        let many = format!(
            r#"{{"sequence":7,"renew":[{}]}}"#,
            vec![r#"{"authorities":[],"since":1,"window":1}"#; MAX_LIST + 1].join(",")
        );
        assert!(matches!(parse(&many), Err(InstructionsError::TooMany)));
        for (list, most) in [("authorities", MAX_LIST), ("serials", MAX_SERIALS)] {
            let with = |count| parse(&of(&format!(r#""{list}":[{}],"#, vec![r#""ab""#; count].join(","))));
            assert!(with(most).is_ok() && matches!(with(most + 1), Err(InstructionsError::TooMany)), "{list}");
        }
    }
}
