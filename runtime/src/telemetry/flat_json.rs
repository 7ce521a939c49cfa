//! A log line as one flat JSON object.

use std::fmt;

use serde::ser::{SerializeMap, Serializer as _};
use serde_json::{Map, Value};
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    field::Visit,
    fmt::{
        FmtContext, FormatEvent, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::backlog::LONGEST_LINE;

/// The longest text of a field in a line that would be too long as a whole, in characters.
const SHORT: usize = 1024;

/// The names every line begins with; a field of the same name gets an underscore behind it.
const FIXED: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Writes an event as one flat JSON object.
pub(super) struct FlatJson;

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
        if line.len() >= LONGEST_LINE {
            // Cut here, where it can remain JSON.
            line.clear();
            write_line(&mut line, &timestamp, event, &fields.shortened()).map_err(|_error| fmt::Error)?;
        }
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

    /// The same with no long text. Fields are named in the code, so there are never many.
    fn shortened(self) -> Self {
        let short = |text: String| match text.char_indices().nth(SHORT) {
            None => text,
            Some((end, _)) => format!("{} [cut]", text.get(..end).unwrap_or_default()),
        };
        let others = self.others.into_iter().map(|(name, value)| match value {
            Value::String(text) => (name, short(text).into()),
            other => (name, other),
        });
        Self { message: short(self.message), others: others.collect() }
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
