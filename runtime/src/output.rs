//! What commands print: a table for people or JSON for programs, on any writer, quiet when the reader went away.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Stdout, Write},
    str::FromStr,
};

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serialize;
use thiserror::Error;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// The words accepted for an [`OutputFormat`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an output format; choose table or json")]
pub struct UnknownFormat(String);

impl FromStr for OutputFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// Why nothing, or not all, was printed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Writing failed for another reason than a reader that went away.
    #[error("cannot write the output")]
    Write(#[from] io::Error),
    /// The value has no JSON form, which is a bug.
    #[error("cannot turn the result into JSON, which is a bug")]
    Json(#[from] serde_json::Error),
}

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    inner: comfy_table::Table,
    rows: usize,
}

impl Table {
    /// A table with these headings, which are shown in capitals.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner.set_header(headings.map(str::to_uppercase));
        for column in inner.column_iter_mut() {
            column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
        }
        Self { inner, rows: 0 }
    }

    /// Adds a row. Control characters are escaped: a name from outside must not steer the terminal.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) -> &mut Self {
        self.inner.add_row(cells.into_iter().map(|cell| escaped(cell.as_ref())));
        self.rows += 1;
        self
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The table as text with a closing newline.
    #[must_use]
    pub fn render(&self) -> String {
        self.inner.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n")
    }
}

/// A place to print results to, in one format.
#[derive(Debug)]
pub struct Output<W = Stdout> {
    format: OutputFormat,
    writer: W,
}

impl Output {
    /// Prints to standard output.
    #[must_use]
    pub fn stdout(format: OutputFormat) -> Self {
        Self::new(format, io::stdout())
    }
}

impl<W: Write> Output<W> {
    /// Prints to `writer`.
    pub fn new(format: OutputFormat, writer: W) -> Self {
        Self { format, writer }
    }

    /// The format results are printed in.
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    /// Prints a result: `value` as JSON, or what `table` makes of it.
    ///
    /// # Errors
    /// [`OutputError`]; a reader that went away is none.
    pub fn show<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        table: impl FnOnce(&T) -> Table,
    ) -> Result<(), OutputError> {
        match self.format {
            OutputFormat::Json => self.json(value),
            OutputFormat::Table => self.raw(&table(value).render()),
        }
    }

    /// Prints `value` as indented JSON whatever the format.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), OutputError> {
        let text = serde_json::to_string_pretty(value)?;
        self.line(&text)
    }

    /// Prints one line whatever the format.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn line(&mut self, text: &str) -> Result<(), OutputError> {
        self.raw(&format!("{text}\n"))
    }

    /// Prints `text` as it is.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn raw(&mut self, text: &str) -> Result<(), OutputError> {
        match self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }
}

/// An error and everything that caused it, from the outside in, separated by `: `.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Foreign errors often print their cause and give it as source too.
        if !text.ends_with(&inner_text) {
            let _infallible = write!(text, ": {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn escaped(text: &str) -> String {
    let unsafe_to_print = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        if unsafe_to_print(c) {
            safe.extend(c.escape_default())
        } else {
            safe.push(c)
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["id", "state"]);
        table.row(["abc", "active"]).row(["evil\u{1b}[2J\n\u{202e}", ""]);
        table
    }

    fn printed(format: OutputFormat) -> String {
        let mut bytes = Vec::new();
        Output::new(format, &mut bytes).show(&json!([{"id": "abc"}]), |_| sample()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_same_result_prints_as_table_or_as_json() {
        assert_eq!(printed(OutputFormat::Json), "[\n  {\n    \"id\": \"abc\"\n  }\n]\n");
        let table = printed(OutputFormat::Table);
        let lines: Vec<&str> = table.lines().collect();
        let width = r"evil\u{1b}[2J\n\u{202e}".len() + 2;
        assert_eq!(
            lines,
            [format!("{:width$}STATE", "ID"), format!("{:width$}active", "abc"), r"evil\u{1b}[2J\n\u{202e}".to_owned()]
        );
        assert!(!sample().is_empty() && Table::new(["a"]).is_empty());
    }

    #[test]
    fn formats_are_read_by_name() {
        assert_eq!("json".parse(), Ok(OutputFormat::Json));
        assert_eq!("table".parse(), Ok(OutputFormat::Table));
        assert!("yaml".parse::<OutputFormat>().unwrap_err().to_string().contains("choose table or json"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_but_a_full_disk_is() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(Output::new(OutputFormat::Table, Fails(io::ErrorKind::BrokenPipe)).line("x").is_ok());
        assert!(Output::new(OutputFormat::Table, Fails(io::ErrorKind::StorageFull)).line("x").is_err());
    }

    #[test]
    fn an_error_chain_names_each_cause_once() {
        #[derive(Debug, Error)]
        #[error("outer")]
        struct Outer(#[source] Middle);
        #[derive(Debug, Error)]
        #[error("middle: inner")]
        struct Middle(#[source] io::Error);
        let error = Outer(Middle(io::Error::other("inner")));
        assert_eq!(error_chain(&error), "outer: middle: inner");
    }
}
