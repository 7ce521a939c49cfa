//! A CA whose bundle numbers go back: pure. Its storage was restored from a backup, or it was set up anew; but a replica
//! that lags, or that has lost its storage and goes on with what it knew, looks the same on the bundle stream.
//!
//! So lower numbers on the stream only make the agent ask for a certificate, after a time that no replica lags. A CA
//! gives none without its storage, and the number in that reply counts, also if it is lower than the one held.

use std::time::Duration;

use signet_core::moment;
use time::OffsetDateTime;

/// How long the stream must have told lower numbers: many times of what replicas lag behind each other. As much again
/// at most passes until a certificate is asked for, spread over the agents.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The stream tells lower numbers than the one held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The number that it tells.
    pub told: u64,
    /// Since when it tells lower ones.
    pub since: OffsetDateTime,
    /// When a certificate is asked for; `None` when replies tell no numbers, so that none would help.
    pub ask_at: Option<OffsetDateTime>,
}

/// The stream has told a number; `jitter` from 0 to 1 is this agent's place among all of them.
#[must_use]
pub fn streamed(
    before: Option<Behind>,
    told: u64,
    held: Option<u64>,
    jitter: f64,
    now: OffsetDateTime,
) -> Option<Behind> {
    if held.is_none_or(|held| told >= held) {
        return None;
    }
    let patience = PATIENCE + PATIENCE.mul_f64(jitter.clamp(0.0, 1.0));
    let first = || Behind { told, since: now, ask_at: Some(moment::after(now, patience)) };
    Some(Behind { told, ..before.unwrap_or_else(first) })
}

/// What a reply's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The numbers have gone back: the reply's bundle counts.
    GoneBack,
    /// What is held counts, and this is still to be found out.
    Open(Option<Behind>),
}

/// A certificate came with a bundle of this number.
#[must_use]
pub fn replied(before: Option<Behind>, told: Option<u64>, held: Option<u64>, now: OffsetDateTime) -> Verdict {
    let (Some(behind), Some(held)) = (before, held) else { return Verdict::Open(None) };
    match told {
        None => Verdict::Open(Some(Behind { ask_at: None, ..behind })),
        // From storage: the stream's replica is the one that is wrong.
        Some(told) if told >= held => Verdict::Open(None),
        Some(_) if moment::until(behind.since, now) >= PATIENCE => Verdict::GoneBack,
        // Too early to tell, or by a clock that was set back.
        Some(_) => Verdict::Open(Some(Behind { ask_at: Some(moment::after(now, PATIENCE)), ..behind })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn at(seconds: u64) -> OffsetDateTime {
        START + Duration::from_secs(seconds)
    }

    fn behind(told: u64) -> Option<Behind> {
        streamed(None, told, Some(7), 0.5, at(0))
    }

    #[test]
    fn lower_numbers_on_the_stream_make_the_agent_ask_once_between_one_minute_and_two() {
        for (jitter, ask_at) in [(0.0, 60), (0.5, 90), (1.0, 120), (7.0, 120), (-1.0, 60)] {
            let expected = Behind { told: 3, since: at(0), ask_at: Some(at(ask_at)) };
            assert_eq!(streamed(None, 3, Some(7), jitter, at(0)), Some(expected), "{jitter}");
        }
        let later = streamed(behind(3), 4, Some(7), 0.0, at(50)).map(|it| (it.told, it.since, it.ask_at));
        assert_eq!(later, Some((4, at(0), Some(at(90)))), "the time goes on");
        for (told, held) in [(7, Some(7)), (8, Some(7)), (3, None)] {
            assert_eq!(streamed(behind(3), told, held, 0.5, at(1)), None, "{told} {held:?}");
        }
    }

    #[test]
    fn only_a_reply_after_a_minute_of_lower_numbers_says_that_they_have_gone_back() {
        let open = |ask_at| Verdict::Open(behind(3).map(|it| Behind { ask_at, ..it }));
        for (before, told, seconds, expected) in [
            (behind(3), Some(3), 60, Verdict::GoneBack),
            (behind(3), Some(6), 1000, Verdict::GoneBack),
            (behind(3), Some(3), 59, open(Some(at(119)))),
            (behind(3), Some(7), 1000, Verdict::Open(None)),
            (behind(3), Some(8), 1000, Verdict::Open(None)),
            (behind(3), None, 1000, open(None)),
            (None, Some(3), 1000, Verdict::Open(None)),
        ] {
            assert_eq!(replied(before, told, Some(7), at(seconds)), expected, "{told:?} {seconds}");
        }
        assert_eq!(replied(behind(3), Some(3), None, at(1000)), Verdict::Open(None));
    }
}
