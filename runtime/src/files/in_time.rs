//! Touches files off the threads that must never wait, with a deadline. A file system that hangs, such as a dead mount,
//! cannot be told to stop, so the thread that touches it is lost while it does: one thread for each file, however often it
//! is asked for.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{FileError, read};

/// How long a file may take to answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// What is being done with files at this moment, at most one thing for each.
static UNDER_WAY: LazyLock<Mutex<HashMap<PathBuf, UnderWay>>> = LazyLock::new(Mutex::default);

struct UnderWay {
    since: Instant,
    done: CancellationToken,
}

/// A file that has not answered for longer than [`DEADLINE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hanging {
    /// Which.
    pub path: PathBuf,
    /// Since when.
    pub hanging: Duration,
}

/// The files that hang now, the one that does so longest first.
#[must_use]
pub fn hanging() -> Vec<Hanging> {
    let under_way = lock();
    let all = under_way.iter().map(|(path, one)| Hanging { path: path.clone(), hanging: one.since.elapsed() });
    let mut hanging: Vec<Hanging> = all.filter(|one| one.hanging > DEADLINE).collect();
    hanging.sort_by_key(|one| std::cmp::Reverse(one.hanging));
    hanging
}

/// As [`read`], but waits no longer than [`DEADLINE`].
///
/// # Errors
/// As [`read`], and as [`in_time`].
pub async fn read_in_time(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    in_time(path, move |path| read(path, limit)).await
}

/// Does something with a file on a thread of its own and waits for it, no longer than [`DEADLINE`].
///
/// In the whole process only one such thing is done with one path at a time. The next one waits for its turn, within the
/// same deadline; when the file answers again, it does its own work, so that nobody gets what was read long ago.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// What `work` says; [`FileError::Hangs`], and then `work` is either never done or still being done;
/// [`FileError::Abandoned`].
pub async fn in_time<T, E>(path: &Path, work: impl FnOnce(&Path) -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<FileError> + Send + 'static,
{
    let deadline = Instant::now() + DEADLINE;
    let turn = loop {
        let before = match Turn::take(path) {
            Ok(turn) => break turn,
            Err(before) => before,
        };
        if timeout_at(deadline, before.done.cancelled()).await.is_err() {
            return Err(FileError::Hangs { path: path.to_owned(), hanging: before.since.elapsed() }.into());
        }
    };
    let since = turn.since;
    let working = tokio::task::spawn_blocking(move || {
        let result = work(&turn.path);
        // Before anybody learns the result, so that who asks next finds the way free.
        drop(turn);
        result
    });
    match timeout_at(deadline, working).await {
        Ok(Ok(result)) => result,
        Ok(Err(_ended)) => Err(FileError::Abandoned { path: path.to_owned() }.into()),
        Err(_late) => Err(FileError::Hangs { path: path.to_owned(), hanging: since.elapsed() }.into()),
    }
}

/// The right to touch a file. Given back when dropped, also by a panic or a runtime that ends.
struct Turn {
    path: PathBuf,
    since: Instant,
}

impl Turn {
    /// The turn, or what is under way.
    fn take(path: &Path) -> Result<Self, UnderWay> {
        let mut under_way = lock();
        if let Some(before) = under_way.get(path) {
            return Err(UnderWay { since: before.since, done: before.done.clone() });
        }
        let since = Instant::now();
        under_way.insert(path.to_owned(), UnderWay { since, done: CancellationToken::new() });
        Ok(Self { path: path.to_owned(), since })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(one) = lock().remove(&self.path) {
            one.done.cancel();
        }
    }
}

fn lock() -> MutexGuard<'static, HashMap<PathBuf, UnderWay>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    /// A file that hangs until told to answer, and counts the threads that wait for it.
    #[derive(Clone)]
    struct DeadMount {
        path: PathBuf,
        threads: Arc<AtomicUsize>,
        answer: Arc<Mutex<mpsc::Receiver<()>>>,
    }

    impl DeadMount {
        fn new(name: &str) -> (Self, mpsc::Sender<()>) {
            let (revive, answer) = mpsc::channel();
            let mount = Self {
                path: Path::new("/dead").join(name),
                threads: Arc::default(),
                answer: Arc::new(Mutex::new(answer)),
            };
            (mount, revive)
        }

        async fn read(&self) -> Result<&'static str, FileError> {
            let mount = self.clone();
            in_time(&self.path, move |_| {
                mount.threads.fetch_add(1, Ordering::SeqCst);
                // Fails when the test has ended, which ends the wait as well.
                let _revived = mount.answer.lock().unwrap().recv().is_ok();
                mount.threads.fetch_sub(1, Ordering::SeqCst);
                Ok("content")
            })
            .await
        }
    }

    fn hanging_for(result: Result<&'static str, FileError>) -> Duration {
        match result {
            Err(FileError::Hangs { hanging, .. }) => hanging,
            other => unreachable!("{other:?}"),
        }
    }

    /// Paused time does not move by itself while a blocking thread is at work.
    async fn read_in_paused_time(mount: &DeadMount) -> Result<&'static str, FileError> {
        let (read, ()) = tokio::join!(mount.read(), tokio::time::advance(DEADLINE + Duration::from_millis(1)));
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_hangs_costs_one_thread_however_often_it_is_asked_for_and_is_used_again_when_it_is_back() {
        let (mount, revive) = DeadMount::new("jwks");
        for round in 1..=20 {
            let hanging = hanging_for(read_in_paused_time(&mount).await);
            assert!(hanging.as_secs() >= 5 * round, "{hanging:?} in round {round}");
            assert!(mount.threads.load(Ordering::SeqCst) <= 1);
        }
        let told = hanging().into_iter().find(|one| one.path == mount.path).unwrap();
        assert!(told.hanging >= 20 * DEADLINE, "{told:?}");
        let (other, revive_other) = DeadMount::new("other");
        revive_other.send(()).unwrap();
        assert_eq!(other.read().await.unwrap(), "content", "another file is not affected");
        // Two turns: the one that hung, and a new one.
        revive.send(()).unwrap();
        revive.send(()).unwrap();
        assert_eq!(mount.read().await.unwrap(), "content");
        assert!(!hanging().iter().any(|one| one.path == mount.path));
    }

    #[tokio::test]
    async fn a_panic_gives_the_turn_back() {
        let path = Path::new("/dead/panic");
        let failed: Result<(), FileError> = in_time(path, |_| std::panic::resume_unwind(Box::new(()))).await;
        assert!(matches!(failed, Err(FileError::Abandoned { .. })));
        let fine: Result<u8, FileError> = in_time(path, |_| Ok(1)).await;
        assert_eq!(fine.unwrap(), 1);
    }

    #[tokio::test]
    async fn many_at_once_all_get_their_turn() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let path = path.clone();
            all.spawn(async move { read_in_time(&path, 10).await.unwrap() });
        }
        assert!(all.join_all().await.iter().all(|content| content == b"x"));
    }
}
