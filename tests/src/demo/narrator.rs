//! Tells what happens, with the time since the start.

use std::time::Instant;

use crate::tools::say;

/// Prints lines with the seconds since it was made.
pub struct Narrator {
    start: Instant,
}

impl Default for Narrator {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Narrator {
    /// A heading.
    pub fn chapter(&self, title: &str) {
        say(&format!("\n== {title}"));
    }

    /// A line of a table, without the time.
    pub fn row(&self, text: &str) {
        say(&format!("          {text}"));
    }

    /// One line.
    pub fn tell(&self, text: &str) {
        say(&format!("{:>6.1} s  {text}", self.start.elapsed().as_secs_f32()));
    }
}

/// A long hexadecimal number, short enough for a line.
#[must_use]
pub fn short(number: &str) -> &str {
    number.get(..12).unwrap_or(number)
}

/// A time of day in UTC from seconds since 1970.
#[must_use]
pub fn clock_time(seconds: i64) -> String {
    let of_day = seconds.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}
