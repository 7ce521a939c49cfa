//! Logs on standard error, for people or as flat JSON lines; and panics as log lines.
//!
//! A JSON line holds `timestamp`, `level`, `target`, `message`, then the fields of the event and of every span around
//! it, all at the top level; where names collide the inner one wins.

use std::{fmt, io, io::IsTerminal, str::FromStr};

use serde::ser::{SerializeMap, Serializer as _};
use serde_json::{Map, Value};
use thiserror::Error;
use tracing::{Event, Subscriber, field::Field, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::Visit,
    fmt::{
        FmtContext, FormatEvent, FormattedFields, MakeWriter,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

/// The names every line begins with; a field of the same name gets an underscore behind it.
const FIXED: [&str; 4] = ["timestamp", "level", "target", "message"];

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
/// # Errors
/// [`TelemetryError`].
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let subscriber = subscriber(format, filter, io::stderr, io::stderr().is_terminal())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_set| TelemetryError::AlreadySet)?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(panic.message = message, panic.location = location, %backtrace, "panic, which is a bug");
    }));
    Ok(())
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
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
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

/// Writes an event as one flat JSON object.
struct FlatJson;

impl<S> FormatEvent<S, JsonFields> for FlatJson
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<JsonFields>>();
            let parsed = formatted.map(|formatted| serde_json::from_str::<Map<String, Value>>(&formatted.fields));
            for (name, value) in parsed.and_then(Result::ok).unwrap_or_default() {
                fields.insert(&name, value);
            }
        }
        event.record(&mut fields);
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Vec::with_capacity(256);
        write_line(&mut line, &timestamp, event, &fields).map_err(|_error| fmt::Error)?;
        writer.write_str(std::str::from_utf8(&line).map_err(|_error| fmt::Error)?)?;
        writer.write_char('\n')
    }
}

fn write_line(line: &mut Vec<u8>, timestamp: &str, event: &Event<'_>, fields: &Fields) -> serde_json::Result<()> {
    let metadata = event.metadata();
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", timestamp)?;
    map.serialize_entry("level", metadata.level().as_str())?;
    map.serialize_entry("target", metadata.target())?;
    map.serialize_entry("message", &fields.message)?;
    for (name, value) in &fields.others {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, name: &str, value: Value) {
        let name = if FIXED.contains(&name) { format!("{name}_") } else { name.to_owned() };
        self.others.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.insert(field.name(), value.into());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
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
    fn formats_are_read_by_name() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("human".parse(), Ok(LogFormat::Human));
        assert!("text".parse::<LogFormat>().is_err());
    }
}
