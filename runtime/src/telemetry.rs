//! Logs on standard error, for people or as flat JSON lines; and panics as log lines.
//!
//! Logging never waits for whoever reads standard error: see [`dropped_lines`]. A JSON line holds `timestamp`, `level`, `target`, `message`, then the fields of the event and of every span around
//! it, all at the top level; where names collide the inner one wins.

mod backlog;
mod flat_json;

use std::{
    io::{self, IsTerminal, Write},
    str::FromStr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{MakeWriter, format::JsonFields},
    layer::SubscriberExt,
};

use self::{
    backlog::{Backlog, ToBacklog, Weight},
    flat_json::FlatJson,
};

/// The lines of this process, once logging is set up.
static LOG: OnceLock<Arc<Backlog>> = OnceLock::new();

/// How long the end of the process waits for whoever reads standard error.
const END: Duration = Duration::from_secs(2);

/// How long a panic waits for its line to be written: the process may be about to abort.
const PANIC: Duration = Duration::from_millis(200);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For reading, with colours on a terminal.
    Human,
}

/// Why logging could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The word is no format.
    #[error("{0:?} is not a log format; choose json or human")]
    Format(String),
    /// A part of the filter is neither a level nor `target=level`.
    #[error(
        "{0:?} is not a log filter; write a level (error, warn, info, debug, trace, off) or target=level, separated by commas"
    )]
    Filter(String),
    /// Logging was set up before in this process.
    #[error("logging is already set up")]
    AlreadySet,
    /// The thread that writes log lines could not be started.
    #[error("cannot start the thread that writes log lines: {cause}")]
    Thread {
        /// What the system said.
        cause: String,
    },
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "json" => Ok(Self::Json),
            "human" => Ok(Self::Human),
            other => Err(TelemetryError::Format(other.to_owned())),
        }
    }
}

/// Sets up logging for the process: to standard error, and every panic as an error line.
///
/// Lines wait in a backlog of at most about 2 MiB for a thread that writes them. Where there is no room, a line is dropped
/// and counted, and the log says how many were, at most once a minute and at the end.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let colour = io::stderr().is_terminal();
    let backlog = Arc::new(Backlog::default());
    let subscriber = subscriber(format, filter, ToBacklog(Arc::clone(&backlog)), colour)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_set| TelemetryError::AlreadySet)?;
    let started = backlog.start(io::stderr(), move |lines| loss(format, colour, lines));
    started.map_err(|error| TelemetryError::Thread { cause: error.to_string() })?;
    LOG.set(backlog).map_err(|_set| TelemetryError::AlreadySet)?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(panic.message = message, panic.location = location, %backtrace, "panic, which is a bug");
        flush_within(PANIC);
    }));
    Ok(())
}

/// How many log lines were dropped since the start, because nobody read standard error fast enough or it could not be
/// written.
#[must_use]
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |log| log.dropped())
}

/// Waits until all log lines are written, for the end of the process; gives up after two seconds, because whoever should
/// read them may be stuck.
pub fn flush() {
    flush_within(END);
}

fn flush_within(within: Duration) {
    if let Some(log) = LOG.get() {
        // What could not be written by then is lost; there is nobody to tell.
        let _written = log.flush(within);
    }
}

/// Prints `text` as the last line on standard error, after all log lines. Gives up as [`flush`] does.
pub fn last_words(text: &str) {
    let log = match LOG.get() {
        Some(log) => Arc::clone(log),
        None => {
            let log = Arc::new(Backlog::default());
            if log.start(io::stderr(), |_| Vec::new()).is_err() {
                return;
            }
            log
        }
    };
    log.push(format!("{text}\n").as_bytes(), Weight::Error);
    let _written = log.flush(END);
}

/// The line that tells of dropped ones. It looks like all others, but no filter holds it back.
fn loss(format: LogFormat, colour: bool, lines: u64) -> Vec<u8> {
    let line = Memory::default();
    let writer = line.clone();
    let Ok(subscriber) = subscriber(format, "warn", move || writer.clone(), colour) else { return Vec::new() };
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(
            lines,
            "{lines} log lines were dropped, because standard error was not read fast enough; their number is also a metric"
        );
    });
    let mut bytes = line.0.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut bytes)
}

/// A writer into memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks a filter such as `info` or `info,signet_ca::issuance=debug`, without setting anything up.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse_filter(filter).map(|_| ())
}

/// A subscriber that writes to `writer`, for [`init`] and for tests that look at log lines.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
    colour: bool,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse_filter(filter)?;
    // The library would print its own failures to standard error, and wait for whoever reads it.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => lines.fmt_fields(JsonFields::new()).event_format(FlatJson).boxed(),
        LogFormat::Human => lines.with_ansi(colour).boxed(),
    };
    Ok(Registry::default().with(filter).with(lines))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    // The library takes a lone word it does not know for a target, so `inof` would silence everything else.
    let parts: Vec<&str> = filter.split(',').map(str::trim).collect();
    for part in &parts {
        if !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err() || part.is_empty() {
            return Err(TelemetryError::Filter((*part).to_owned()));
        }
    }
    EnvFilter::builder().parse(parts.join(",")).map_err(|_why| TelemetryError::Filter(filter.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use serde_json::{Map, Value, json};

    use super::{backlog::LONGEST_LINE, *};

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let lines = Memory::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn log_within_two_spans() {
        let request = tracing::info_span!("request", request_id = "r-1", late = tracing::field::Empty, level = 9);
        request.record("late", true);
        let _request = request.entered();
        let _step = tracing::info_span!("step", n = 1).entered();
        tracing::info!(n = 2_u64, serial = "ab", error = %io::Error::other("x\ny"), "certificate {}", "issued");
        tracing::debug!("not shown");
    }

    #[test]
    fn a_json_line_is_flat_and_holds_the_fields_of_all_spans() {
        let text = logged(LogFormat::Json, "info", log_within_two_spans);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("{\"timestamp\":\"20"), "{text}");
        let mut line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert!(line.remove("timestamp").unwrap().as_str().unwrap().ends_with('Z'));
        assert_eq!(
            Value::Object(line),
            json!({"level": "INFO", "target": "signet_runtime::telemetry::tests", "message": "certificate issued",
                "n": 2, "serial": "ab", "error": "x\ny", "request_id": "r-1", "late": true, "level_": 9})
        );
    }

    #[test]
    fn a_line_for_people_is_one_line_with_the_same_facts() {
        let text = logged(LogFormat::Human, "info", log_within_two_spans);
        for part in ["INFO", "certificate issued", "request_id=\"r-1\"", "serial=\"ab\""] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("not shown") && !text.contains('\u{1b}'));
    }

    #[test]
    fn the_filter_selects_by_target() {
        let filter = "warn,signet_runtime::telemetry=debug";
        assert!(logged(LogFormat::Json, filter, || tracing::debug!("seen")).contains("seen"));
        assert_eq!(logged(LogFormat::Json, "warn", || tracing::info!("unseen")), "");
    }

    #[test]
    fn a_filter_that_would_silence_by_a_slip_is_refused() {
        for good in ["info", "off", "INFO", "warn,signet_ca=debug", "error, h2=off", "info,[request]=debug"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["", "inof", "info,", "info,signet_ca", "signet_ca=loud", "info,=x"] {
            assert!(matches!(check_filter(bad), Err(TelemetryError::Filter(_))), "{bad}");
        }
    }

    #[test]
    fn a_json_line_that_is_too_long_is_cut_and_stays_json() {
        let long = "\u{e9}\"".repeat(LONGEST_LINE);
        let text = logged(LogFormat::Json, "info", || tracing::info!(long, n = 7, "{long}"));
        assert!(text.len() < LONGEST_LINE, "{}", text.len());
        let line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(line["n"], 7);
        for name in ["long", "message"] {
            assert!(line[name].as_str().unwrap().ends_with("\" [cut]"), "{name}");
        }
    }

    #[test]
    fn the_line_about_dropped_ones_looks_like_all_others() {
        let line: Map<String, Value> = serde_json::from_slice(&loss(LogFormat::Json, false, 7)).unwrap();
        assert_eq!((&line["lines"], &line["level"]), (&json!(7), &json!("WARN")));
        assert!(line["message"].as_str().unwrap().starts_with("7 log lines were dropped"));
        let line = String::from_utf8(loss(LogFormat::Human, false, 1)).unwrap();
        assert!(line.contains("WARN") && line.ends_with("lines=1\n"), "{line}");
    }

    #[test]
    fn formats_are_read_by_name() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("human".parse(), Ok(LogFormat::Human));
        assert!("text".parse::<LogFormat>().is_err());
    }
}
