//! Errors of libraries in words.

use std::error::Error;

/// What an error says, and what those below it say.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        below = error.source();
    }
    text
}
