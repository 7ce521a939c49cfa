//! How files of credentials are read: as whoever puts the process together says, who knows what to do about files that hang.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

/// A file that is being read.
type Reading = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>>;

/// Reads a file, within a time and up to a size.
pub type ReadFile = dyn Fn(PathBuf) -> Reading + Send + Sync;

/// The way to files.
#[derive(Clone)]
pub struct Files(Arc<ReadFile>);

impl Files {
    /// Reads by `read`, whose errors name the file.
    pub fn read_by(read: impl Fn(PathBuf) -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) async fn read(&self, file: &Path) -> Result<Vec<u8>, String> {
        (self.0)(file.to_owned()).await
    }

    /// For tests, whose files do not hang.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self::read_by(|file| {
            Box::pin(async move { std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display())) })
        })
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}
