//! Checkpoints (C2SP tlog-checkpoint): how many events a log has, and the root of the tree over them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Hash;

/// Why a text is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no checkpoint of a log: {0}")]
pub struct CheckpointError(&'static str);

/// The text of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// Further lines, which mean nothing here and are signed all the same.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError("its last line does not end"))?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError("it has fewer than three lines"));
        };
        if origin.is_empty() {
            return Err(CheckpointError("it does not say of which log"));
        }
        let size = size.parse().ok().filter(|read: &u64| read.to_string() == size);
        let size = size.ok_or(CheckpointError("its second line is no number"))?;
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        let root = root.ok_or(CheckpointError("its third line is no hash of 32 bytes in base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError("it has an empty line"));
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_sample_of_the_specification_is_read_and_written_as_it_is() {
        let read = Checkpoint::parse(SAMPLE).unwrap();
        assert_eq!((read.origin.as_str(), read.size, read.root[0]), ("example.com/behind-the-sofa", 20_852_163, 0x0a));
        assert_eq!(read.to_string(), SAMPLE);
        let extended = format!("{SAMPLE}one\ntwo\n");
        assert_eq!(Checkpoint::parse(&extended).unwrap().to_string(), extended);
    }

    #[test]
    fn what_is_written_otherwise_is_refused() {
        let hash = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        for (text, words) in [
            (String::new(), "does not end"),
            ("a\n1\n".to_owned(), "three lines"),
            (format!("a\n1\n{hash}"), "does not end"),
            (format!("\n1\n{hash}\n"), "of which log"),
            (format!("a\n01\n{hash}\n"), "no number"),
            (format!("a\n+1\n{hash}\n"), "no number"),
            (format!("a\n-1\n{hash}\n"), "no number"),
            (format!("a\n \n{hash}\n"), "no number"),
            (format!("a\n18446744073709551616\n{hash}\n"), "no number"),
            (format!("a\n1\n{}\n", &hash[1..]), "no hash"),
            ("a\n1\nAAAA\n".to_owned(), "no hash"),
            (format!("a\n1\n{hash}\n\n"), "empty line"),
            (format!("a\n1\n{hash}\n\nb\n"), "empty line"),
        ] {
            let error = Checkpoint::parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_text_that_is_read_is_written_again_as_it_was(text in "(?s).{0,60}", size: u64) {
            for text in [text.clone(), format!("{text}\n{size}\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n{text}")] {
                if let Ok(read) = Checkpoint::parse(&text) {
                    prop_assert_eq!(read.to_string(), text);
                }
            }
        }
    }
}
