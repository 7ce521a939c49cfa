//! The server itself: it does what tests ask, and nothing of it outlives the process that started it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signet_test_servers::{Options, Postgres, Stop, ended};

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A session that does nothing, once the server is ready for its queries (message `Z` of the protocol, version 3.0).
fn session(server: &Postgres) -> TcpStream {
    let parameters = b"\x00\x03\x00\x00user\0signet\0database\0postgres\0\0";
    let length = u32::try_from(parameters.len() + 4).unwrap().to_be_bytes();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(&[&length[..], parameters].concat()).unwrap();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let [kind, length @ ..] = head;
        let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut rest).unwrap();
        if kind == b'Z' {
            return stream;
        }
    }
}

/// The process that has started this one.
fn parent(process: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
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
    let mut session = session(&server);
    assert_eq!(server.kill_backends().unwrap(), 1);
    session.read_to_end(&mut Vec::new()).unwrap();
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
    loop {
        std::thread::park();
    }
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
    let process: u32 = words.next().unwrap().parse().unwrap();
    let keeper = parent(process);
    let directory = PathBuf::from(words.next().unwrap());
    assert!(!processes_of(&directory).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    // It ends when everything is removed.
    assert!(ended(keeper, SOON).unwrap());
    assert!(!directory.exists() && processes_of(&directory).is_empty());
    assert!(ended(process, Duration::ZERO).unwrap());
}

#[test]
fn a_server_ends_with_the_shell_that_keeps_it() {
    let server = Postgres::start(&Options::default()).unwrap();
    let process = server.process().unwrap();
    let keeper = i32::try_from(parent(process)).unwrap();
    kill_process(Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
    // It waits for the processes that it has started.
    assert!(ended(process, SOON).unwrap());
    assert_eq!(processes_of(server.directory()), Vec::<u32>::new());
    // Nobody is left to remove it.
    std::fs::remove_dir_all(server.directory()).unwrap();
}
