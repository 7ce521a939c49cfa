//! A stream that gathers what is written to it until its writer has nothing more to say for now, so that it leaves in one piece.
//!
//! The HTTP/2 library flushes as soon as it has a frame. A reply is two of them, its message and its trailers, which another task
//! hands over one after the other: each in a TLS record, a segment and a system call of its own, and each wakes the client. A flush
//! here lets all tasks run once that are ready before it writes, by when the second is there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered at most: as many as a TLS record holds (RFC 8446 section 5.1).
const MOST: usize = 16_384;

/// Gathers for `S`. What is gathered has left when a flush says so.
pub(super) struct Gathered<S> {
    stream: S,
    /// Empty between two flushes, so that a connection that is idle holds none.
    gathered: Vec<u8>,
    /// How much of it has left.
    left: usize,
    flush: Flush,
}

/// Where the next flush stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// It is the first one, of our SETTINGS, which the client does not wait for.
    First,
    /// These leave with the acknowledgement of the client's own, or when there is nothing to read.
    Held,
    /// It lets others run before it writes.
    Due,
    /// Others have run.
    Now,
}

impl<S> Gathered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, gathered: Vec::new(), left: 0, flush: Flush::First }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Writes what is gathered.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.left..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left += written;
        }
        (self.gathered, self.left) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Takes as much of `buf` as there is room for.
    fn gather(&mut self, buf: &[u8]) -> usize {
        let room = MOST.saturating_sub(self.gathered.len());
        let taken = buf.get(..room).unwrap_or(buf);
        self.gathered.extend_from_slice(taken);
        taken.len()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() && self.flush == Flush::Held {
            // The client may wait for them after all.
            self.flush = Flush::Now;
            if let Poll::Ready(Err(error)) = self.as_mut().poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() {
            match self.flush {
                Flush::First => {
                    self.flush = Flush::Held;
                    return Poll::Ready(Ok(()));
                }
                Flush::Held | Flush::Due => {
                    self.flush = Flush::Now;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Flush::Now => ready!(self.drain(cx))?,
            }
        }
        if self.flush == Flush::Now {
            self.flush = Flush::Due;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= MOST {
            ready!(self.drain(cx))?;
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| self.gather(buf)).sum()))
    }
}

#[cfg(test)]
#[path = "gathered_tests.rs"]
mod tests;
