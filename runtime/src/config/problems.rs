//! What is wrong with a configuration: all of it, one line per field.

use std::fmt;

use super::yaml::Lines;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted path, such as `clusters[0].tokens.kind`; empty for the document as a whole.
    pub path: String,
    /// The line it stands on, from 1; that of the section around it when the field is missing.
    pub line: Option<u64>,
    /// What is wrong and what to write instead.
    pub text: String,
    /// Whether it is a key that nobody asks for.
    pub(super) unknown_key: bool,
}

impl Problem {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, text: text.into(), unknown_key: false }
    }

    /// The same with the line of its field, or of the nearest one around it.
    fn located(self, lines: &Lines) -> Self {
        let mut place = format!(".{}", self.path);
        let line = loop {
            if let Some(line) = lines.get(&place) {
                break Some(*line);
            }
            let Some(end) = place.rfind(['.', '[']) else { break None };
            place.truncate(end);
        };
        Self { line, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

/// Where the fields of an accepted file stand, for what is found wrong with one of them later on.
#[derive(Debug, Clone, Default)]
pub struct Places {
    file: String,
    lines: Lines,
}

impl Places {
    pub(super) fn new(file: &str, lines: Lines) -> Self {
        Self { file: file.to_owned(), lines }
    }

    /// `problem`, which begins with the path of a field and a colon, after the name of the file and the line of the field,
    /// or of the nearest one around it.
    #[must_use]
    pub fn named(&self, problem: &str) -> String {
        let is_path = |path: &str| path.chars().all(|c| c.is_ascii_alphanumeric() || "_.[]".contains(c));
        let path = problem.split_once(':').map(|(path, _)| path).filter(|path| is_path(path));
        let line = path.and_then(|path| Problem::new(path, "").located(&self.lines).line);
        match line {
            Some(line) => format!("{}:{line}: {problem}", self.file),
            None => format!("{}: {problem}", self.file),
        }
    }
}

/// Everything that is wrong with one configuration file. Displays one line per problem, each after the file's name and
/// its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: String,
    found: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str, lines: &Lines, found: Vec<Problem>) -> Self {
        let mut found: Vec<Problem> = found.into_iter().map(|problem| problem.located(lines)).collect();
        found.sort_by_key(|problem| problem.line);
        Self { file: file.to_owned(), found }
    }

    /// The problems in the order of their lines, those without a line first; never empty.
    #[must_use]
    pub fn found(&self) -> &[Problem] {
        &self.found
    }

    /// Whether at least two of these keys stand in the file and nobody knows them: it is meant for who knows them.
    #[must_use]
    pub fn knows_not(&self, keys: &[&str]) -> bool {
        let unknown = |problem: &&Problem| problem.unknown_key && keys.contains(&problem.path.as_str());
        self.found.iter().filter(unknown).count() >= 2
    }

    /// The name of the file.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The problems, one for each line that is told.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let told = |problem: &Problem| match problem.line {
            Some(line) => format!("{}:{line}: {problem}", self.file),
            None => format!("{}: {problem}", self.file),
        };
        self.found.iter().map(told).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl std::error::Error for Problems {}
