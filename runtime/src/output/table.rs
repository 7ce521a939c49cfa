//! Rows under headings, as wide as the reader has room. Nothing is ever cut off: where a row does not fit, its cells are
//! wrapped, and where not even that is readable, each row becomes a block of lines.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width as Columns, presets};

use super::width::Width;

/// Columns between two cells.
const GAP: usize = 2;

/// The longest word that a column is made wide enough for; longer ones are broken.
const WORD: usize = 20;

/// The longest URI that is not broken although it consists of parts.
const URI: usize = 24;

/// The longest cell that is not broken although it consists of words: times and numbers.
const SHORT: usize = 10;

/// The longest cell that the others of its column are padded to on a pipe; what is longer moves the rest of its row only.
const PADDED: usize = 48;

/// Where a cell may be broken: nothing that can be seen, and never part of a cell.
const BREAK: char = '\u{200b}';

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings, which are shown in capitals.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self::with(headings)
    }

    /// As [`Table::new`], where the number of columns depends.
    #[must_use]
    pub fn with<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        Self { headings: headings.into_iter().map(str::to_uppercase).collect(), rows: Vec::new() }
    }

    /// Adds a row. Control characters are escaped: a name from outside must not steer the terminal.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) -> &mut Self {
        self.rows.push(cells.into_iter().map(|cell| escaped(cell.as_ref())).collect());
        self
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text with a closing newline.
    #[must_use]
    pub fn render(&self, width: Width) -> String {
        let Width::Columns(columns) = width else { return self.lines() };
        let count = self.headings.len();
        let least: Vec<usize> = (0..count).map(|column| self.least(column)).collect();
        let room = columns.saturating_sub(GAP * count.saturating_sub(1));
        match room.checked_sub(least.iter().sum()) {
            None => self.blocks(columns),
            Some(spare) => {
                let wanted: Vec<usize> = (0..count).map(|column| self.longest(column, length)).collect();
                wrapped(Some(&self.headings), &self.rows, &shared(&least, &wanted, spare))
            }
        }
    }

    /// The columns that a column needs to be readable.
    fn least(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let heading = self.headings.get(column).map(|heading| longest_word(heading));
        cells.map(|cell| least(cell)).chain(heading).max().unwrap_or_default()
    }

    fn longest(&self, column: usize, length: fn(&str) -> usize) -> usize {
        let cells = std::iter::once(&self.headings).chain(&self.rows).filter_map(|row| row.get(column));
        cells.map(|cell| length(cell)).max().unwrap_or_default()
    }

    /// A line for each row.
    fn lines(&self) -> String {
        let padded = |cell: &str| Some(length(cell)).filter(|length| *length <= PADDED).unwrap_or_default();
        let widths: Vec<usize> = (0..self.headings.len()).map(|column| self.longest(column, padded)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}{:GAP$}", ""));
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        std::iter::once(&self.headings).chain(&self.rows).map(line).collect()
    }

    /// A block of lines for each row, each with the heading of its column; without what there is nothing of.
    fn blocks(&self, columns: usize) -> String {
        let block = |row: &Vec<String>| {
            let told = self.headings.iter().zip(row).filter(|(_, cell)| !matches!(cell.as_str(), "" | "-"));
            told.map(|(heading, cell)| vec![heading.clone(), cell.clone()]).collect::<Vec<_>>()
        };
        let names = self.headings.iter().map(|heading| length(heading)).max().unwrap_or_default();
        let widths = [names, columns.saturating_sub(names + GAP).max(SHORT)];
        self.rows.iter().map(|row| wrapped(None, &block(row), &widths)).collect::<Vec<_>>().join("\n")
    }
}

/// The widths of columns that need at least so much and have a use for so much, with so much to spare: who has a use for
/// little gets it, and the others get as much as each other.
fn shared(least: &[usize], wanted: &[usize], mut spare: usize) -> Vec<usize> {
    let mut widths: Vec<(usize, usize)> = least.iter().copied().zip(wanted.iter().copied()).collect();
    let mut open: Vec<&mut (usize, usize)> = widths.iter_mut().collect();
    open.sort_by_key(|(width, wanted)| wanted.saturating_sub(*width));
    let count = open.len();
    for (done, (width, wanted)) in open.into_iter().enumerate() {
        let more = wanted.saturating_sub(*width).min(spare / (count - done));
        *width += more;
        spare -= more;
    }
    widths.into_iter().map(|(width, _)| width).collect()
}

/// Rows in columns of these widths.
fn wrapped(headings: Option<&Vec<String>>, rows: &[Vec<String>], widths: &[usize]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_delimiter(BREAK);
    if let Some(headings) = headings {
        table.set_header(headings.iter().map(|heading| breakable(heading)));
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| breakable(cell)));
    }
    let narrow = |columns: usize| u16::try_from(columns).unwrap_or(u16::MAX);
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_padding((0, narrow(GAP))).set_cell_alignment(CellAlignment::Left);
        column.set_constraint(ColumnConstraint::Absolute(Columns::Fixed(narrow(width + GAP))));
    }
    table.lines().fold(String::new(), |text, line| text + line.replace(BREAK, "").trim_end() + "\n")
}

/// The cell with the places where it may be broken: behind words, and behind the parts of paths, SPIFFE IDs and JSON.
fn breakable(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    let mut rest = cell.chars().peekable();
    while let Some(c) = rest.next() {
        text.push(c);
        let here = match c {
            ' ' => true,
            '/' => rest.peek() != Some(&'/'),
            ',' => rest.peek() != Some(&' '),
            _ => false,
        };
        if here {
            text.push(BREAK);
        }
    }
    text
}

fn longest_word(cell: &str) -> usize {
    let words = breakable(cell).split(BREAK).map(|word| length(word.trim_end())).max().unwrap_or_default();
    words.min(WORD)
}

/// The columns that a cell needs. A URI may be broken, but into two pieces rather than many.
fn least(cell: &str) -> usize {
    let scheme = cell.split_once("://").map(|(scheme, _)| scheme);
    let whole =
        if scheme.is_some_and(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) { URI } else { SHORT };
    longest_word(cell).max(length(cell).min(whole))
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// What steers a terminal, or cannot be seen, is written out.
fn escaped(text: &str) -> String {
    let unsafe_to_print = |c: char| {
        let invisible = matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}');
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || invisible || turns
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
#[path = "table_tests.rs"]
mod tests;
