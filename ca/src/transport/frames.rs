//! Follows the frames of an HTTP/2 connection as they are read (RFC 9113 section 4.1), without looking into them: how
//! many of them are of no use to anybody, and whether one has begun and does not end.
//!
//! The HTTP/2 library bounds what such frames can make it remember, but not how much work they make; and it waits for the
//! rest of a header block for ever.

use std::time::Duration;

use tokio::time::Instant;

/// What a client says first (RFC 9113 section 3.4).
const PREFACE: u8 = 24;

/// Bytes before the content of a frame.
const HEAD: usize = 9;

/// Control frames at once after a pause, and per second. A client sends a few for each call (window updates, pings to
/// measure the connection) and a ping now and then.
const BURST: f64 = 1024.0;
const PER_SECOND: f64 = 128.0;

/// How many more each call brings along.
const PER_CALL: f64 = 8.0;

/// DATA frames of fewer bytes are of no use unless they end a message: trickled bytes cost more than they carry.
const SMALL_DATA: usize = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// More control frames than a client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood;

/// Where the reading stands.
pub struct Frames {
    preface: u8,
    head: [u8; HEAD],
    /// Bytes of the head that have been read.
    headed: usize,
    /// Bytes of the content that have not been read.
    rest: usize,
    /// Whether a header block has begun and not ended.
    block: bool,
    /// When what has not ended yet has begun.
    begun: Option<Instant>,
    tokens: f64,
    at: Instant,
}

impl Frames {
    /// Before the first byte.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            preface: PREFACE,
            head: [0; HEAD],
            headed: 0,
            rest: 0,
            block: false,
            begun: Some(now),
            tokens: BURST,
            at: now,
        }
    }

    /// Since when something is being read that has to end: the preface, a frame, or the headers of a request.
    #[must_use]
    pub fn within(&self) -> Option<Instant> {
        self.begun
    }

    /// Notes that a frame has ended, which is the end of what has begun unless further headers must follow.
    fn ended(&mut self) {
        if !self.block {
            self.begun = None;
        }
    }

    /// Follows bytes that were read.
    ///
    /// # Errors
    /// [`Flood`]; the connection is to be closed.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        let skipped = usize::from(self.preface).min(bytes.len());
        self.preface -= u8::try_from(skipped).unwrap_or(self.preface);
        if skipped > 0 && self.preface == 0 {
            self.begun = None;
        }
        bytes = bytes.get(skipped..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                if self.rest == 0 {
                    self.ended();
                }
                continue;
            }
            self.begun.get_or_insert_with(Instant::now);
            let missing = self.head.get_mut(self.headed..).unwrap_or_default();
            let taken = missing.len().min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            for (to, from) in missing.iter_mut().zip(now) {
                *to = *from;
            }
            self.headed += taken;
            bytes = later;
            if self.headed == HEAD {
                self.headed = 0;
                self.begin()?;
            }
        }
        Ok(())
    }

    /// A frame's head is complete.
    fn begin(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            HEADERS | CONTINUATION => self.block = flags & END_HEADERS == 0,
            _ => {}
        }
        if self.rest == 0 {
            self.ended();
        }
        match kind {
            HEADERS => {
                self.fill();
                self.tokens = (self.tokens + PER_CALL).min(BURST);
                Ok(())
            }
            DATA if self.rest >= SMALL_DATA || flags & END_STREAM != 0 => Ok(()),
            _ if self.tokens >= 1.0 => {
                self.tokens -= 1.0;
                Ok(())
            }
            _ => {
                self.fill();
                if self.tokens < 1.0 {
                    return Err(Flood);
                }
                self.tokens -= 1.0;
                Ok(())
            }
        }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let passed: Duration = now.saturating_duration_since(self.at);
        self.tokens = (self.tokens + passed.as_secs_f64() * PER_SECOND).min(BURST);
        self.at = now;
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD + length, 0);
        bytes
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        assert!(frames.within().is_some());
        assert_eq!(frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Ok(()));
        assert!(frames.within().is_none());
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_is_within_until_it_ends_however_it_is_cut() {
        let block = [frame(HEADERS, 0, 300), frame(CONTINUATION, 0, 10), frame(CONTINUATION, END_HEADERS, 5)].concat();
        for bytes in [block, frame(DATA, 0, 70_000), frame(HEADERS, END_HEADERS, 20)] {
            for step in [1, 7, 9, 1000] {
                let mut frames = begun();
                let (last, all) = bytes.split_last().unwrap_or((&0, &[]));
                for part in all.chunks(step) {
                    assert_eq!(frames.read(part), Ok(()));
                    assert!(frames.within().is_some());
                }
                assert_eq!(frames.read(&[*last]), Ok(()));
                assert!(frames.within().is_none(), "step {step}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_carry_nothing_are_a_flood_and_calls_are_none() {
        for useless in
            [frame(PING, 0, 8), frame(WINDOW_UPDATE, 0, 4), frame(SETTINGS, 0, 0), frame(DATA, 0, 1), frame(99, 0, 0)]
        {
            let mut frames = begun();
            for _ in 0..BURST as usize {
                assert_eq!(frames.read(&useless), Ok(()));
            }
            tokio::time::advance(Duration::from_secs(2)).await;
            let again = (0..10_000).take_while(|_| frames.read(&useless).is_ok()).count();
            assert_eq!(again, 2 * PER_SECOND as usize, "kind {:?}", useless.get(3));
        }
        // A busy client: a call, its message, and what goes with it.
        let mut frames = begun();
        let call = [
            frame(HEADERS, END_HEADERS, 100),
            frame(DATA, END_STREAM, 800),
            frame(WINDOW_UPDATE, 0, 4),
            frame(WINDOW_UPDATE, 0, 4),
            frame(PING, 0, 8),
        ];
        for _ in 0..10_000 {
            assert_eq!(frames.read(&call.concat()), Ok(()));
        }
    }
}
