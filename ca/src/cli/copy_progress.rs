//! How far a command is that copies much: told on standard error, in place on a terminal, now and then on a pipe.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often it is told on a pipe.
const LINE: Duration = Duration::from_secs(10);

/// How often at most it is told in place.
const BLINK: Duration = Duration::from_millis(100);

/// Tells how far it is.
pub(super) struct CopyProgress {
    terminal: bool,
    last: Cell<Option<Instant>>,
    start: Instant,
}

impl CopyProgress {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: Cell::new(None), start: Instant::now() }
    }

    pub(super) fn show(&self, text: &str) {
        let pause = if self.terminal { BLINK } else { LINE };
        if self.last.get().unwrap_or(self.start).elapsed() < pause {
            return;
        }
        write_error(&if self.terminal { format!("\r{text}\u{1b}[K") } else { format!("{text}\n") });
        self.last.set(Some(Instant::now()));
    }

    pub(super) fn end(&self) {
        if self.terminal && self.last.get().is_some() {
            write_error("\r\u{1b}[K");
        }
    }
}

/// Nothing depends on whether somebody reads it.
fn write_error(text: &str) {
    let mut err = std::io::stderr();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}
