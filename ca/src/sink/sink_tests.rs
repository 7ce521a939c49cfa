//! Each event once, in order, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::seams::store::AuditStore;
use signet_plugins::store::memory::MemoryStore;
use signet_runtime::metrics::Metrics;

use super::*;

struct World {
    store: Arc<MemoryStore>,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new()), directory: tempfile::tempdir().unwrap() }
    }

    async fn events(&self, number: usize) {
        let event = |n: usize| AuditEvent {
            at_micros: 1_700_000_000_000_000 + n as i64,
            request_id: format!("r-{n}"),
            kind: EventKind::Certificate,
            outcome: Outcome::Refused,
            reason: Some("not_entitled".into()),
            detail: None,
            who: Attributed::default(),
            what: None,
            repeated: None,
        };
        self.store.append((0..number).map(event).collect()).await.unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("record.jsonl")
    }

    fn follower(&self) -> Follower {
        let metrics = SinkMetrics::new(&Metrics::new()).unwrap();
        Follower::new(Arc::clone(&self.store) as _, self.path(), metrics)
    }

    /// Starts anew, and writes all there is.
    async fn follow(&self) -> Result<(), String> {
        let mut follower = self.follower();
        loop {
            match follower.step().await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(signet_runtime::output::error_chain(&error)),
            }
        }
    }
}

fn sequences(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line");
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap()).collect()
}

fn up_to(number: u64) -> Vec<u64> {
    (0..number).collect()
}

#[tokio::test]
async fn each_event_is_one_line_also_after_restarts() {
    let world = World::new();
    world.follow().await.unwrap();
    for (more, all) in [(3, 3), (1500, 1503), (0, 1503), (1, 1504)] {
        world.events(more).await;
        world.follow().await.unwrap();
        assert_eq!(sequences(&world.path()), up_to(all));
    }
    let text = fs::read_to_string(world.path()).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["reason"], &first["at"]), (&"not_entitled".into(), &"2023-11-14T22:13:20Z".into()));
    assert!(first["who"]["pod"].is_null(), "as `audit list -o json` shows it: {first}");
}

#[tokio::test]
async fn killed_at_any_byte_it_goes_on_with_the_event_that_is_not_there_whole() {
    let world = World::new();
    world.events(4).await;
    world.follow().await.unwrap();
    let (before, position) = (fs::read(world.path()).unwrap(), world.directory.path().join("record.jsonl.position"));
    let noted = fs::read(&position).unwrap();
    world.events(3).await;
    world.follow().await.unwrap();
    let whole = fs::read(world.path()).unwrap();
    // Before the position was written, as much of the lines was as you like.
    for length in before.len()..=whole.len() {
        fs::write(world.path(), &whole[..length]).unwrap();
        fs::write(&position, &noted).unwrap();
        world.follow().await.unwrap();
        assert_eq!(fs::read(world.path()).unwrap(), whole, "{length} bytes");
    }
}

#[tokio::test]
async fn a_file_that_was_rotated_is_gone_on_with_in_a_new_one() {
    let world = World::new();
    let mut follower = world.follower();
    world.events(3).await;
    assert!(!follower.step().await.unwrap());
    // Under its feet, and while nobody follows; moved away, and emptied in place.
    fs::rename(world.path(), world.directory.path().join("1")).unwrap();
    world.events(2).await;
    assert!(!follower.step().await.unwrap());
    assert_eq!(sequences(&world.path()), [3, 4]);
    fs::rename(world.path(), world.directory.path().join("2")).unwrap();
    world.events(2).await;
    world.follow().await.unwrap();
    assert_eq!(sequences(&world.path()), [5, 6]);
    fs::write(world.path(), "").unwrap();
    world.events(2).await;
    world.follow().await.unwrap();
    assert_eq!(sequences(&world.path()), [7, 8]);
    assert_eq!(sequences(&world.directory.path().join("1")), [0, 1, 2]);
}

#[tokio::test]
async fn what_is_not_its_own_is_left_as_it_is_and_told() {
    let world = World::new();
    world.events(2).await;
    world.follow().await.unwrap();
    let ours = fs::read_to_string(world.path()).unwrap();
    let mut follower = world.follower();
    world.events(1).await;
    for (added, words) in [("hello\n", "event 2 was to be at byte"), ("{\"sequence\":7}\n", "event 2 was to be")] {
        let foreign = format!("{ours}{added}");
        fs::write(world.path(), &foreign).unwrap();
        let told = world.follow().await.unwrap_err();
        assert!(told.contains(words) && told.contains("record.jsonl"), "{told}");
        assert_eq!(fs::read_to_string(world.path()).unwrap(), foreign);
    }
    // Written to by somebody else while it is followed into.
    fs::write(world.path(), &ours).unwrap();
    assert!(!follower.step().await.unwrap());
    fs::write(world.path(), format!("{}x", fs::read_to_string(world.path()).unwrap())).unwrap();
    world.events(1).await;
    let told = signet_runtime::output::error_chain(&follower.step().await.unwrap_err());
    assert!(told.contains("somebody else writes to it"), "{told}");
    // There before, or no file at all.
    for position in ["record.jsonl.position", "record.jsonl"] {
        fs::remove_file(world.directory.path().join(position)).unwrap();
        fs::write(world.path(), "notes").unwrap();
        let told = world.follow().await.unwrap_err();
        assert!(told.contains("it is not empty") || told.contains("is not the beginning"), "{told}");
        assert_eq!(fs::read_to_string(world.path()).unwrap(), "notes");
        fs::write(world.directory.path().join("record.jsonl.position"), "{\"next\":0,\"length\":0}").unwrap();
    }
    fs::remove_file(world.path()).unwrap();
    fs::create_dir(world.path()).unwrap();
    assert!(world.follow().await.unwrap_err().contains("no regular file"));
    fs::remove_dir(world.path()).unwrap();
    // Another position than any.
    fs::write(world.directory.path().join("record.jsonl.position"), "7").unwrap();
    assert!(world.follow().await.unwrap_err().contains("no position"));
}

#[tokio::test]
async fn a_record_that_is_not_the_one_that_is_written_is_told_for_good() {
    let world = World::new();
    world.events(5).await;
    world.follow().await.unwrap();
    let other = World { store: Arc::new(MemoryStore::new()), ..world };
    // It grows past what is written, with other events in its places.
    for number in [0, 3, 7] {
        other.events(number).await;
        let told = other.follow().await.unwrap_err();
        assert!(told.contains("the 5 events in it are not the first of the"), "{told}");
        assert_eq!(sequences(&other.path()), up_to(5));
    }
}
