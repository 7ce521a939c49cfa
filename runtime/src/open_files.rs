//! How many files a process may have open: connections are files too.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and returns what holds then. The soft limit is often 1,024 for the
/// sake of old programs that call `select`, which this one does not.
#[must_use]
pub fn raise() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, limit = before, "the limit of open files could not be raised");
            limit.current = before;
        }
    }
    // Without a limit the kernel's own is far beyond what memory allows.
    limit.current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let raised = raise();
        assert_eq!(Some(raised), hard.map_or(Some(usize::MAX), |hard| usize::try_from(hard).ok()));
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
