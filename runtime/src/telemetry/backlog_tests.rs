//! A log whose reader is stuck, too slow or gone: order, bounds, and what is told of the loss.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc;

use super::*;

const WITHIN: Duration = Duration::from_secs(20);

/// A reader that is stuck until it gets leave, line by line.
struct Stuck {
    leave: mpsc::Receiver<()>,
    seen: mpsc::Sender<String>,
}

impl Write for Stuck {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Whoever gives leave has gone: everything may pass.
        let _gone = self.leave.recv().is_err();
        self.seen.send(String::from_utf8_lossy(line).into_owned()).map_err(io::Error::other)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stuck() -> (Arc<Backlog>, mpsc::Sender<()>, mpsc::Receiver<String>) {
    let backlog = Arc::new(Backlog::default());
    let (leave, wait) = mpsc::channel();
    let (seen, lines) = mpsc::channel();
    let out = Stuck { leave: wait, seen };
    backlog.start(out, |lines| format!("{lines} lost\n").into_bytes()).unwrap();
    (backlog, leave, lines)
}

fn fill(backlog: &Backlog, line: &[u8], weight: Weight) -> u64 {
    let before = backlog.dropped();
    let mut taken = 0;
    while backlog.dropped() == before {
        backlog.push(line, weight);
        taken += 1;
    }
    taken - 1
}

#[test]
fn lines_come_out_in_order_and_a_flush_waits_for_them() {
    let (backlog, leave, seen) = stuck();
    for line in ["one\n", "two\n", "three\n"] {
        backlog.push(line.as_bytes(), Weight::Ordinary);
    }
    assert!(!backlog.flush(Duration::from_millis(20)), "nobody reads");
    drop(leave);
    assert!(backlog.flush(WITHIN));
    assert_eq!(seen.try_iter().collect::<String>(), "one\ntwo\nthree\n");
    assert_eq!((backlog.dropped(), backlog.lock().taken), (0, 0));
}

#[test]
fn what_finds_no_room_is_dropped_counted_and_told_as_soon_as_somebody_reads() {
    let (backlog, leave, seen) = stuck();
    let line = [b'x'; 1000];
    backlog.push(&line, Weight::Ordinary);
    while !backlog.lock().writing {
        thread::yield_now();
    }
    let taken = fill(&backlog, &line, Weight::Ordinary);
    assert_eq!(taken, u64::try_from(ROOM / (line.len() + LINE_COST) - 1).unwrap());
    for _ in 0..9 {
        backlog.push(&line, Weight::Ordinary);
    }
    assert_eq!(backlog.dropped(), 10);
    // Two lines pass: the one that was stuck, and then the news.
    leave.send(()).unwrap();
    leave.send(()).unwrap();
    assert_eq!(seen.recv_timeout(WITHIN).unwrap().len(), line.len());
    assert_eq!(seen.recv_timeout(WITHIN).unwrap(), "10 lost\n");
    // Within the minute nothing is told again, unless it is the end.
    fill(&backlog, &line, Weight::Ordinary);
    leave.send(()).unwrap();
    assert_eq!(seen.recv_timeout(WITHIN).unwrap().len(), line.len());
    drop(leave);
    assert!(backlog.flush(WITHIN));
    let rest: Vec<String> = seen.try_iter().filter(|line| line.ends_with("lost\n")).collect();
    assert_eq!(rest, ["1 lost\n"]);
}

#[test]
fn errors_find_room_when_others_do_not_and_the_whole_is_bounded() {
    let (backlog, leave, seen) = stuck();
    fill(&backlog, &[b'x'; 1000], Weight::Ordinary);
    backlog.push(b"panic\n", Weight::Error);
    assert_eq!(backlog.dropped(), 1);
    fill(&backlog, &[b'x'; 1000], Weight::Error);
    assert!(backlog.lock().taken <= ROOM + ROOM_FOR_ERRORS);
    drop(leave);
    assert!(backlog.flush(WITHIN));
    assert!(seen.try_iter().any(|line| line == "panic\n"));
}

#[test]
fn a_long_line_is_cut_between_characters_and_says_so() {
    for (fill, kept) in [("x", LONGEST_LINE), ("\u{e9}", LONGEST_LINE), ("xx\u{4e16}", LONGEST_LINE - 1)] {
        let line = fill.repeat(LONGEST_LINE) + "\n";
        let cut = String::from_utf8(cut(line.as_bytes()).into()).unwrap();
        let missing = line.len() - kept;
        assert!(cut.ends_with(&format!(" [{missing} bytes cut]\n")), "{fill}: {}", &cut[cut.len() - 40..]);
        assert!(cut.len() <= LONGEST_LINE + 40);
    }
    assert_eq!(&*cut(b"short\n"), b"short\n");
}

#[test]
fn a_line_that_cannot_be_written_counts_as_dropped() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let backlog = Arc::new(Backlog::default());
    backlog.push(b"x\n", Weight::Ordinary);
    backlog.start(Broken, |_| Vec::new()).unwrap();
    assert!(backlog.flush(WITHIN));
    assert_eq!(backlog.dropped(), 1);
}
