//! The server itself: it does what tests ask, and nothing of it outlives the process that started it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signet_test_servers::{Options, Postgres, Stop};

/// Waits for something that has no event: the end of a process that is not our child.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes that work in a directory or were started for it.
fn processes_of(directory: &Path) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let here = |id: &u32| std::fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    numbers.filter(here).collect()
}

#[test]
fn what_was_committed_survives_either_way_of_stopping() {
    let server = Postgres::start(&Options::default()).unwrap();
    let database = server.create_database().unwrap();
    server.sql(&database, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").unwrap();
    for how in [Stop::Fast, Stop::Immediate] {
        server.stop(how).unwrap();
        assert_eq!(server.process(), None);
        assert!(server.sql(&database, "SELECT 1").is_err(), "{how:?}");
        server.start_again().unwrap();
        assert_eq!(server.sql(&database, "SELECT n FROM kept").unwrap(), "1", "{how:?}");
    }
    let directory = server.directory().to_path_buf();
    drop(server);
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<u32>::new());
}

#[test]
fn databases_of_the_shared_server_are_apart_and_copies_have_what_their_template_has() {
    let server = Postgres::shared().unwrap();
    let first = server.create_database().unwrap();
    server.sql(&first, "CREATE TABLE only_here (n int); INSERT INTO only_here VALUES (7)").unwrap();
    let copies: Vec<String> = std::thread::scope(|scope| {
        let made: Vec<_> = (0..4).map(|_| scope.spawn(|| server.create_database_like(&first).unwrap())).collect();
        made.into_iter().map(|made| made.join().unwrap()).collect()
    });
    for copy in &copies {
        assert_eq!(server.sql(copy, "SELECT n FROM only_here").unwrap(), "7");
    }
    let other = server.create_database().unwrap();
    assert!(server.sql(&other, "SELECT n FROM only_here").unwrap_err().to_string().contains("only_here"));
    assert!(server.url(&other).ends_with(&format!("@127.0.0.1:{}/{other}", server.port())));
}

#[test]
fn every_commit_is_on_disk_unless_a_test_says_otherwise() {
    let server = Postgres::start(&Options::default()).unwrap();
    assert_eq!(server.sql("postgres", "SHOW fsync").unwrap(), "on");
    assert_eq!(server.sql("postgres", "SHOW server_encoding").unwrap(), "UTF8");
    server.start_with(&Options::default().setting("fsync", "off")).unwrap();
    assert_eq!(server.sql("postgres", "SHOW fsync").unwrap(), "off");
}

#[test]
fn sessions_can_be_ended_and_a_server_that_cannot_start_says_why() {
    let server = Postgres::start(&Options::default()).unwrap();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| server.sql("postgres", "SELECT pg_sleep(600)"));
        until("the session", || server.kill_backends().unwrap() == 1);
        assert!(held.join().unwrap().is_err());
    });
    let refused = server.start_with(&Options::default().setting("no_such_setting", "1")).unwrap_err().to_string();
    assert!(refused.contains("unrecognized configuration parameter \"no_such_setting\""), "{refused}");
    server.start_with(&Options::default().file("only_ours", b"text")).unwrap();
    assert_eq!(server.sql("postgres", "SELECT pg_read_file('only_ours')").unwrap(), "text");
}

/// Set for the process that is to be killed.
const VICTIM: &str = "SIGNET_TEST_VICTIM";

/// Not a test of its own: what the process does that is killed by the next one.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let server = Postgres::start(&Options::default()).unwrap();
    println!("\nserver {} {}", server.process().unwrap(), server.directory().display());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn nothing_is_left_of_a_server_whose_test_was_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("server ")).unwrap();
    let mut words = line.split(' ').skip(1);
    let process: i32 = words.next().unwrap().parse().unwrap();
    let directory = PathBuf::from(words.next().unwrap());
    assert!(!processes_of(&directory).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the end of the directory", || !directory.exists());
    until("the end of its processes", || processes_of(&directory).is_empty());
    assert!(kill_process(Pid::from_raw(process).unwrap(), Signal::CONT).is_err());
}

#[test]
fn a_server_ends_with_the_shell_that_keeps_it() {
    let server = Postgres::start(&Options::default()).unwrap();
    let process = server.process().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(parent).unwrap(), Signal::KILL).unwrap();
    until("the end of its processes", || processes_of(server.directory()).is_empty());
    // Nobody is left to remove it.
    std::fs::remove_dir_all(server.directory()).unwrap();
}
