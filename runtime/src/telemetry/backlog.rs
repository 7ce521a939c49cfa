//! Log lines on their way to standard error. Whoever logs never waits: a line finds room here or is dropped and
//! counted, and one thread of its own writes what is here, however long that takes.
//!
//! `tracing-appender` was looked at and is not used: it bounds lines but not bytes, cannot tell in the log what was
//! lost, and prints to standard output, which may hang just the same, when its thread does not end in time.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The memory that waiting lines may take, in bytes: some 6,000 lines of ordinary length.
const ROOM: usize = 2 * 1024 * 1024;
/// More room for errors, panics and last words alone, so that a flood of refusals cannot push them out.
const ROOM_FOR_ERRORS: usize = 256 * 1024;
/// What a line takes beside its text: its place in the queue and the allocation.
const LINE_COST: usize = 64;
/// The longest line, in bytes; what is beyond is cut.
pub(super) const LONGEST_LINE: usize = 32 * 1024;
/// How often it is told at most that lines were dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Who may use the last of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Ordinary,
    Error,
}

/// The lines that wait.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    state: Mutex<State>,
    /// Something for the writer to do.
    arrived: Condvar,
    /// The writer has done something.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    /// What `lines` and the line being written take.
    taken: usize,
    writing: bool,
    dropped: u64,
    /// How many of the dropped lines the log has told of, and when it last did.
    told: u64,
    told_at: Option<Instant>,
    /// Somebody waits for the end of the backlog: what is untold is told now.
    ending: bool,
}

/// What the writer does next.
enum Work {
    Line(Box<[u8]>),
    /// Tells of so many dropped lines.
    Tell(u64),
}

impl State {
    fn untold(&self) -> u64 {
        self.dropped.saturating_sub(self.told)
    }

    /// How long until what is untold may be told; `None` without anything to tell.
    fn tell_in(&self) -> Option<Duration> {
        if self.untold() == 0 {
            return None;
        }
        let since = self.told_at.map_or(TELL_EVERY, |at| at.elapsed());
        Some(if self.ending { Duration::ZERO } else { TELL_EVERY.saturating_sub(since) })
    }

    fn next(&mut self) -> Option<Work> {
        if self.tell_in() == Some(Duration::ZERO) {
            let lines = self.untold();
            (self.told, self.told_at) = (self.dropped, Some(Instant::now()));
            return Some(Work::Tell(lines));
        }
        self.lines.pop_front().map(Work::Line)
    }

    fn is_done(&self) -> bool {
        self.lines.is_empty() && !self.writing && self.untold() == 0
    }
}

impl Backlog {
    /// Takes a line, or counts it as dropped. Never waits for the writer.
    pub(super) fn push(&self, line: &[u8], weight: Weight) {
        let line = cut(line);
        let cost = line.len() + LINE_COST;
        let room = ROOM + if weight == Weight::Error { ROOM_FOR_ERRORS } else { 0 };
        let mut state = self.lock();
        if state.taken + cost > room {
            state.dropped += 1;
            return;
        }
        state.taken += cost;
        state.lines.push_back(line);
        drop(state);
        self.arrived.notify_one();
    }

    /// How many lines were dropped, also because they could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until everything is written, at most `within`; says whether it is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mut state = self.lock();
        state.ending = true;
        self.arrived.notify_one();
        let waited = self.written.wait_timeout_while(state, within, |state| !state.is_done());
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.ending = false;
        !waited.timed_out()
    }

    /// Starts the thread that writes to `out`. `loss` makes the line that tells of dropped lines.
    pub(super) fn start(
        self: &Arc<Self>,
        out: impl Write + Send + 'static,
        loss: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<()> {
        let backlog = Arc::clone(self);
        thread::Builder::new().name("log".to_owned()).spawn(move || backlog.write_for_ever(out, loss)).map(drop)
    }

    fn write_for_ever(&self, mut out: impl Write, loss: impl Fn(u64) -> Vec<u8>) {
        loop {
            let (text, cost): (Box<[u8]>, _) = match self.next() {
                Work::Tell(lines) => (loss(lines).into(), 0),
                Work::Line(line) => {
                    let cost = line.len() + LINE_COST;
                    (line, cost)
                }
            };
            // Nobody is left to tell of a failure; a later line may say how many were lost.
            let failed = out.write_all(&text).and_then(|()| out.flush()).is_err();
            let mut state = self.lock();
            state.taken -= cost;
            state.writing = false;
            state.dropped += u64::from(failed && cost > 0);
            drop(state);
            self.written.notify_all();
        }
    }

    fn next(&self) -> Work {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.next() {
                state.writing = true;
                return work;
            }
            state = match state.tell_in() {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => self.arrived.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of at most [`LONGEST_LINE`] bytes, and a few that say how much is missing.
fn cut(line: &[u8]) -> Box<[u8]> {
    let Some(kept) = line.get(..LONGEST_LINE).filter(|kept| kept.len() < line.len()) else { return line.into() };
    // Not in the middle of a character.
    let whole = std::str::from_utf8(kept).err().filter(|error| error.error_len().is_none());
    let kept = whole.and_then(|error| kept.get(..error.valid_up_to())).unwrap_or(kept);
    let missing = line.len() - kept.len();
    [kept, format!(" [{missing} bytes cut]\n").as_bytes()].concat().into()
}

/// Puts what is logged into a backlog, one line per event.
#[derive(Debug, Clone)]
pub(super) struct ToBacklog(pub(super) Arc<Backlog>);

/// Takes one line.
#[derive(Debug)]
pub(super) struct Line<'b> {
    backlog: &'b Backlog,
    weight: Weight,
}

impl<'w> MakeWriter<'w> for ToBacklog {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line { backlog: &self.0, weight: Weight::Ordinary }
    }

    fn make_writer_for(&'w self, event: &Metadata<'_>) -> Line<'w> {
        let weight = if *event.level() == Level::ERROR { Weight::Error } else { Weight::Ordinary };
        Line { backlog: &self.0, weight }
    }
}

impl Write for Line<'_> {
    /// The formatting layer hands over each line whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.backlog.push(line, self.weight);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
