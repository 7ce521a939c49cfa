//! Names of the keys of authorities.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a key within its custody: 1 to 64 characters of `[a-z0-9-]`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// Accepts a well-formed name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((1..=64).contains(&name.len()) && name.bytes().all(allowed)).then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How the names of keys begin that were made elsewhere. They stay although no authority names them: whoever brought
    /// one goes by its being kept.
    pub const IMPORTED: &str = "files-";

    /// How the names of the keys begin that sign checkpoints of the record; a number follows, the newest has the largest. No
    /// authority names them, so they begin as those do that stay: also for a program that has never heard of them.
    pub const RECORD: &str = "files-record-";

    /// Whether the key was made elsewhere.
    #[must_use]
    pub fn is_imported(&self) -> bool {
        self.0.starts_with(Self::IMPORTED)
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name).ok_or("a key id is 1 to 64 characters of a-z, 0-9 and '-'")
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
