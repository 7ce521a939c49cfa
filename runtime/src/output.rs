//! What commands print: a table for people or JSON for programs, on any writer, quiet when the reader went away.

mod table;
mod width;

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Stdout, Write},
};

use clap::{Args, ValueEnum};
use serde_json::Value;
use thiserror::Error;

pub use table::Table;
pub use width::{Size, Width};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people: columns that fit the terminal, times as distances from now, the beginnings of ids
    #[default]
    Table,
    /// For people who want all of it: more columns, times as they are, the whole ids of rows
    Wide,
    /// For programs: one JSON document
    Json,
    /// For programs: a JSON object on a line of its own for each entry of a list
    Jsonl,
}

impl OutputFormat {
    /// Whether programs read it.
    #[must_use]
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// Chooses the form of the answer; one option for all commands that answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArg {
    /// How the answer is printed
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
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

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// The entries, as programs read them.
    pub entries: Vec<Value>,
    /// What continues it, if there is more.
    pub next: Option<String>,
}

/// What tells that a list goes on.
#[must_use]
pub fn more(next: &str) -> String {
    format!("more: the same with --page {next}\n")
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

    /// Prints a result: `value` for programs, or `text` for people.
    ///
    /// # Errors
    /// [`OutputError`]; a reader that went away is none.
    pub fn show(&mut self, value: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> Result<(), OutputError> {
        match self.format {
            OutputFormat::Json => self.json(&value()),
            OutputFormat::Jsonl => self.line(&value().to_string()),
            OutputFormat::Table | OutputFormat::Wide => self.raw(&text()),
        }
    }

    /// Prints a list: as [`Output::show`], but with an entry of `page` on each line for whoever wants lines. Those hold
    /// entries only; that there is more is said beside them, on standard error.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn show_list(
        &mut self,
        page: Page,
        value: impl FnOnce(Page) -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), OutputError> {
        if self.format != OutputFormat::Jsonl {
            return self.show(|| value(page), text);
        }
        self.raw(&page.entries.iter().map(|entry| format!("{entry}\n")).collect::<String>())?;
        match page.next {
            Some(next) => Ok(io::stderr().write_all(more(&next).as_bytes())?),
            None => Ok(()),
        }
    }

    /// Prints `value` as indented JSON whatever the format.
    ///
    /// # Errors
    /// As [`Output::show`].
    pub fn json(&mut self, value: &Value) -> Result<(), OutputError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        format: OutputArg,
    }

    fn format(line: &str) -> Result<OutputFormat, clap::Error> {
        Line::try_parse_from(std::iter::once("list").chain(line.split_whitespace())).map(|line| line.format.output)
    }

    fn printed(format: OutputFormat) -> String {
        let mut bytes = Vec::new();
        let page = Page { entries: vec![json!({"id": "abc"}), json!({"id": "def"})], next: None };
        let whole = |page: Page| json!({"things": page.entries});
        Output::new(format, &mut bytes).show_list(page, whole, || "a table\n".to_owned()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_same_list_is_printed_for_people_as_a_document_or_as_lines() {
        assert_eq!(printed(OutputFormat::Table), "a table\n");
        assert_eq!(printed(OutputFormat::Wide), "a table\n");
        assert_eq!(printed(OutputFormat::Jsonl), "{\"id\":\"abc\"}\n{\"id\":\"def\"}\n");
        let document: Value = serde_json::from_str(&printed(OutputFormat::Json)).unwrap();
        assert_eq!(document, json!({"things": [{"id": "abc"}, {"id": "def"}]}));
    }

    #[test]
    fn what_is_no_list_is_one_line_for_whoever_wants_lines() {
        let mut bytes = Vec::new();
        Output::new(OutputFormat::Jsonl, &mut bytes).show(|| json!({"a": [1, 2]}), String::new).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "{\"a\":[1,2]}\n");
    }

    #[test]
    fn formats_are_read_by_name() {
        for (line, expected) in [
            ("", OutputFormat::Table),
            ("-o table", OutputFormat::Table),
            ("-o wide", OutputFormat::Wide),
            ("--output json", OutputFormat::Json),
            ("--output=jsonl", OutputFormat::Jsonl),
        ] {
            assert_eq!(format(line).unwrap(), expected, "{line}");
        }
        let refused = format("-o yaml").unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("table, wide, json, jsonl"), "{refused}");
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
