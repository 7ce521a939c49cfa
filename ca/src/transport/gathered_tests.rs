//! What leaves in one piece, and that nothing stays behind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::VecDeque;
use std::task::Waker;

use super::*;

/// Takes what it is given as `answers` say, and has nothing to read.
#[derive(Default)]
struct Sink {
    /// Each piece that was taken.
    pieces: Vec<Vec<u8>>,
    /// How much is taken of each piece; all of it when there is none.
    answers: VecDeque<Poll<io::Result<usize>>>,
    flushes: usize,
}

impl AsyncRead for Sink {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(self.answers.pop_front().unwrap_or(Poll::Ready(Ok(buf.len()))))?;
        self.pieces.push(buf[..taken].to_vec());
        Poll::Ready(Ok(taken))
    }
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes += 1;
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Ends(Gathered<Sink>);

impl Ends {
    /// After the first flush, which is another one.
    fn new() -> Self {
        let mut ends = Self(Gathered::new(Sink::default()));
        ends.write(b"settings");
        assert!(ends.flush().is_ready());
        assert!(ends.flush().is_pending() && ends.flush().is_ready());
        ends.0.stream = Sink::default();
        ends
    }

    fn write(&mut self, bytes: &[u8]) {
        assert!(matches!(self.offer(bytes), Poll::Ready(Ok(taken)) if taken == bytes.len()));
    }

    fn offer(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    fn flush(&mut self) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(&mut Context::from_waker(Waker::noop()))
    }

    fn read(&mut self) -> Poll<io::Result<()>> {
        let mut bytes = [0; 8];
        Pin::new(&mut self.0).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut bytes))
    }

    fn pieces(&self) -> Vec<&[u8]> {
        self.0.stream.pieces.iter().map(Vec::as_slice).collect()
    }
}

#[test]
fn what_is_written_while_others_run_leaves_with_what_was_there() {
    let mut ends = Ends::new();
    ends.write(b"message ");
    assert!(ends.flush().is_pending());
    assert!(ends.pieces().is_empty());
    ends.write(b"trailers");
    assert!(matches!(ends.flush(), Poll::Ready(Ok(()))));
    assert_eq!((ends.pieces(), ends.0.stream.flushes), (vec![&b"message trailers"[..]], 1));
    assert_eq!(ends.0.gathered.capacity(), 0, "an idle connection holds nothing");
    // The next one waits again, and one without anything to write does not.
    assert!(ends.flush().is_ready());
    ends.write(b"x");
    assert!(ends.flush().is_pending() && ends.flush().is_ready());
}

#[test]
fn a_flush_asks_to_be_polled_again() {
    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let mut ends = Ends::new();
    ends.write(b"x");
    let count = std::sync::Arc::new(Count(0.into()));
    let waker = Waker::from(std::sync::Arc::clone(&count));
    assert!(Pin::new(&mut ends.0).poll_flush(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(count.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn the_first_flush_waits_for_the_second_or_for_a_client_that_says_nothing() {
    let mut ends = Ends(Gathered::new(Sink::default()));
    ends.write(b"settings ");
    assert!(ends.flush().is_ready() && ends.pieces().is_empty());
    ends.write(b"acknowledged");
    assert!(ends.flush().is_pending() && ends.flush().is_ready());
    assert_eq!(ends.pieces(), [b"settings acknowledged"]);

    let mut ends = Ends(Gathered::new(Sink::default()));
    ends.write(b"settings");
    assert!(ends.flush().is_ready() && ends.pieces().is_empty());
    assert!(ends.read().is_pending());
    assert_eq!((ends.pieces(), ends.0.stream.flushes), (vec![&b"settings"[..]], 1));
}

#[test]
fn a_stream_without_room_gets_the_rest_later_and_holds_the_writer_up() {
    let mut ends = Ends::new();
    ends.0.stream.answers = [Poll::Ready(Ok(2)), Poll::Pending].into();
    ends.write(b"abcdef");
    assert!(ends.flush().is_pending());
    assert!(ends.flush().is_pending(), "no room");
    assert_eq!(ends.pieces(), [b"ab"]);
    assert!(ends.flush().is_ready());
    assert_eq!(ends.pieces(), [&b"ab"[..], b"cdef"]);

    let mut ends = Ends::new();
    ends.0.stream.answers = [Poll::Pending].into();
    let much = vec![7; MOST + 5];
    assert!(matches!(ends.offer(&much), Poll::Ready(Ok(MOST))));
    assert!(ends.offer(&much[MOST..]).is_pending(), "no room");
    assert!(matches!(ends.offer(&much[MOST..]), Poll::Ready(Ok(5))));
    assert!(ends.flush().is_pending() && ends.flush().is_ready());
    assert_eq!(ends.pieces().concat(), much);
}

#[test]
fn an_error_is_told_and_a_shutdown_leaves_nothing_behind() {
    let mut ends = Ends::new();
    ends.0.stream.answers = [Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))].into();
    ends.write(b"x");
    assert!(ends.flush().is_pending());
    assert!(matches!(ends.flush(), Poll::Ready(Err(_))));

    let mut ends = Ends::new();
    ends.0.stream.answers = [Poll::Ready(Ok(0))].into();
    ends.write(b"x");
    assert!(ends.flush().is_pending());
    assert!(matches!(ends.flush(), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WriteZero));

    let mut ends = Ends::new();
    ends.write(b"bye");
    let shut = Pin::new(&mut ends.0).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    assert!(shut.is_ready());
    assert_eq!(ends.pieces(), [b"bye"]);
}
