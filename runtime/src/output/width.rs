//! How wide what is printed may be: as the terminal is, or as somebody says who reads it elsewhere.

use std::io::{self, IsTerminal};

/// How wide tables may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// That many columns.
    Columns(usize),
    /// A pipe or a file: a row is a line, however long.
    Unlimited,
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// A terminal that does not tell its size.
const USUAL: Size = Size { columns: 80, rows: 24 };

impl Size {
    /// The size of the terminal on standard output, or a usual one.
    #[must_use]
    pub fn of_stdout() -> Self {
        let (columns, rows) = told();
        Self { columns: columns.unwrap_or(USUAL.columns), rows: rows.unwrap_or(USUAL.rows) }
    }
}

impl Width {
    /// What fits standard output: its terminal; where it is none, the columns that `COLUMNS` in the environment says, which
    /// shells set for themselves only, so that it is there when somebody means it.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "not configuration: the environment describes the reader of the output"
    )]
    pub fn of_stdout() -> Self {
        let said = std::env::var("COLUMNS").ok();
        Self::chosen(io::stdout().is_terminal(), told().0, said.as_deref())
    }

    fn chosen(terminal: bool, told: Option<usize>, said: Option<&str>) -> Self {
        let said = said.and_then(|text| text.parse().ok()).filter(|columns| *columns > 0);
        match (terminal, told, said) {
            (true, told, said) => Self::Columns(told.or(said).unwrap_or(USUAL.columns)),
            (false, _, Some(columns)) => Self::Columns(columns),
            (false, _, None) => Self::Unlimited,
        }
    }
}

/// What the terminal on standard output says of its columns and rows.
fn told() -> (Option<usize>, Option<usize>) {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let some = |number: u16| Some(usize::from(number)).filter(|number| *number > 0);
    (size.and_then(|size| some(size.ws_col)), size.and_then(|size| some(size.ws_row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_tells_its_width_and_a_pipe_has_none_unless_somebody_says_so() {
        for (terminal, told, said, expected) in [
            (true, Some(60), Some("200"), Width::Columns(60)),
            (true, None, Some("200"), Width::Columns(200)),
            (true, None, None, Width::Columns(80)),
            (true, None, Some("wide"), Width::Columns(80)),
            (false, None, Some("60"), Width::Columns(60)),
            (false, None, Some("0"), Width::Unlimited),
            (false, None, Some(""), Width::Unlimited),
            (false, None, None, Width::Unlimited),
        ] {
            assert_eq!(Width::chosen(terminal, told, said), expected, "{terminal} {told:?} {said:?}");
        }
    }
}
