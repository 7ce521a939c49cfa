//! Follows the frames of an HTTP/2 connection as they are written (RFC 9113 section 4.1), to see which certificate replies
//! were handed over in full: each begins with bytes that only it has, and ends with the frame that ends its stream. What
//! cannot be told for certain counts as handed over in part.

use super::replies::{Found, Replies, START};
use crate::reply_delivery::Ticket;

/// Bytes before the content of a frame.
const HEAD: usize = 9;

/// Streams with an answer on its way that are remembered; one more lets go of the oldest. There are no more calls at the
/// same time, but of those that the client ends nothing is written any more.
const MOST: usize = 128;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// What an answer on its way is, as far as its bytes tell.
enum Answer {
    /// Perhaps a reply: the first bytes of its content.
    Begun(Vec<u8>),
    /// A reply, of which so many bytes have not been written.
    Reply(Ticket, usize),
}

/// Where the writing stands.
#[derive(Default)]
pub struct Outgoing {
    head: [u8; HEAD],
    /// Bytes of the head that have been written.
    headed: usize,
    /// Bytes of the content that have not been written.
    rest: usize,
    /// Streams whose answers have begun and may be replies, oldest first.
    answers: Vec<(u32, Answer)>,
    /// Whether the block of headers that is being written ends its stream.
    ends: bool,
    /// Replies whose last byte was written but not flushed.
    written: Vec<Ticket>,
    /// Whether an answer is followed no more of which nothing but its headers was out: it may be any reply.
    lost: bool,
}

impl Outgoing {
    /// Follows bytes that were written.
    pub fn written(&mut self, mut bytes: &[u8], replies: &Replies) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let (now, later) = bytes.split_at(self.rest.min(bytes.len()));
                self.rest -= now.len();
                bytes = later;
                self.content(now, replies);
                if self.rest == 0 {
                    self.ended(replies);
                }
                continue;
            }
            let missing = self.head.get_mut(self.headed..).unwrap_or_default();
            let (now, later) = bytes.split_at(missing.len().min(bytes.len()));
            for (to, from) in missing.iter_mut().zip(now) {
                *to = *from;
            }
            self.headed += now.len();
            bytes = later;
            if self.headed == HEAD {
                self.headed = 0;
                self.begin(replies);
            }
        }
    }

    /// Everything that was written has left the process.
    pub fn flushed(&mut self, replies: &Replies) {
        self.written.drain(..).for_each(Ticket::whole);
        replies.flushed(begun(&self.answers, self.lost));
    }

    /// Nothing is written any more.
    pub fn close(&mut self, replies: &Replies) {
        replies.close(begun(&self.answers, self.lost));
        self.written.drain(..).for_each(Ticket::part);
        self.answers.drain(..).for_each(|(_, answer)| answer.part());
    }

    fn kind(&self) -> (u8, u8) {
        let [_, _, _, kind, flags, ..] = self.head;
        (kind, flags)
    }

    fn stream(&self) -> u32 {
        let [.., a, b, c, d] = self.head;
        u32::from_be_bytes([a & 0x7f, b, c, d])
    }

    /// A frame's head is complete.
    fn begin(&mut self, replies: &Replies) {
        let [a, b, c, ..] = self.head;
        self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let ((kind, flags), stream) = (self.kind(), self.stream());
        match kind {
            // The library never pads; if it did, the content could not be told from that.
            DATA if flags & PADDED != 0 => {
                if let Some((_, answer)) = self.find(stream).map(|index| self.answers.remove(index)) {
                    match answer {
                        Answer::Begun(bytes) => replies.spoil(&bytes),
                        Answer::Reply(ticket, _) => ticket.part(),
                    }
                }
            }
            HEADERS => {
                self.ends = flags & END_STREAM != 0;
                if !self.ends && self.find(stream).is_none() {
                    self.answers.push((stream, Answer::Begun(Vec::new())));
                    if self.answers.len() > MOST {
                        let oldest = self.answers.remove(0).1;
                        self.lost |= matches!(&oldest, Answer::Begun(bytes) if bytes.is_empty());
                        oldest.let_go(replies);
                    }
                }
            }
            _ => {}
        }
        if self.rest == 0 {
            self.ended(replies);
        }
    }

    /// A part of a frame's content.
    fn content(&mut self, bytes: &[u8], replies: &Replies) {
        if self.kind().0 != DATA {
            return;
        }
        let Some(index) = self.find(self.stream()) else { return };
        let Some((_, answer)) = self.answers.get_mut(index) else { return };
        let left = match answer {
            Answer::Reply(_, left) => left.checked_sub(bytes.len()),
            Answer::Begun(begun) => {
                let before = begun.len();
                begun.extend(bytes.iter().take(START.saturating_sub(before)));
                match replies.find(begun) {
                    Found::Perhaps => return,
                    Found::Other => None,
                    Found::Reply(ticket, length) => {
                        let left = length.checked_sub(before.saturating_add(bytes.len()));
                        *answer = Answer::Reply(ticket, left.unwrap_or_default());
                        left
                    }
                }
            }
        };
        match (left, answer) {
            (Some(now), Answer::Reply(_, left)) => *left = now,
            // No reply, or something else than what was announced.
            _ => self.answers.remove(index).1.part(),
        }
    }

    /// A frame is complete.
    fn ended(&mut self, replies: &Replies) {
        let ((kind, flags), stream) = (self.kind(), self.stream());
        let ends = match kind {
            DATA => flags & END_STREAM != 0,
            HEADERS | CONTINUATION => self.ends && flags & END_HEADERS != 0,
            RST_STREAM => return self.let_go(stream, replies),
            _ => false,
        };
        if !ends {
            return;
        }
        self.ends = false;
        match self.find(stream).map(|index| self.answers.remove(index).1) {
            Some(Answer::Reply(ticket, 0)) => self.written.push(ticket),
            Some(answer) => answer.let_go(replies),
            None => {}
        }
    }

    fn find(&self, stream: u32) -> Option<usize> {
        self.answers.iter().position(|(one, _)| *one == stream)
    }

    /// What goes out on this stream is followed no more.
    fn let_go(&mut self, stream: u32, replies: &Replies) {
        if let Some(index) = self.find(stream) {
            self.answers.remove(index).1.let_go(replies);
        }
    }
}

impl Answer {
    fn part(self) {
        if let Self::Reply(ticket, _) = self {
            ticket.part();
        }
    }

    /// It is followed no more: had it not told yet which reply it is, it may have been any that begins like this.
    fn let_go(self, replies: &Replies) {
        match self {
            Self::Begun(bytes) if !bytes.is_empty() => replies.spoil(&bytes),
            answer => answer.part(),
        }
    }
}

/// The first bytes of what has begun to go out and may be replies.
fn begun(answers: &[(u32, Answer)], lost: bool) -> impl Iterator<Item = &[u8]> + Clone {
    let known = answers.iter().filter_map(|(_, answer)| match answer {
        Answer::Begun(bytes) if !bytes.is_empty() => Some(bytes.as_slice()),
        _ => None,
    });
    // Every reply begins with nothing.
    known.chain(lost.then_some(&[][..]))
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
