//! Replies of one connection whose way out is to be seen, from when the HTTP/2 library gets their bytes until it writes
//! them. The library tells nobody which stream a reply goes out on; its first bytes, which hold a serial number, do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::reply_delivery::Ticket;

/// Bytes of a reply that tell it from all others: what comes before its first certificate's serial number is 60 bytes.
pub const START: usize = 128;

/// Replies that may wait. There are no more calls on a connection at the same time (see [`http2`](crate::transport::http2));
/// those whose calls were given up may wait for longer, and make room.
const MOST: usize = 64;

struct Waiting {
    id: u64,
    start: Box<[u8]>,
    length: usize,
    ticket: Ticket,
    /// Whether its call has ended, so that nothing is written but what the library has in its hands.
    given_up: bool,
}

#[derive(Default)]
struct All {
    next: u64,
    waiting: Vec<Waiting>,
    closed: bool,
}

/// The replies of one connection that have not been seen on their way out.
#[derive(Default)]
pub struct Replies {
    all: Mutex<All>,
    /// Whether one of them was given up.
    given_up: AtomicBool,
}

/// What some first bytes of a stream say.
pub enum Found {
    /// This is the reply, of so many bytes.
    Reply(Ticket, usize),
    /// It may be one; more bytes will tell.
    Perhaps,
    /// It is none.
    Other,
}

impl Replies {
    /// Called with the whole reply before the library gets it. Gives a name for [`give_up`](Self::give_up).
    pub fn expect(&self, reply: &[u8], ticket: Ticket) -> u64 {
        let mut all = self.lock();
        let id = all.next;
        all.next = id.wrapping_add(1);
        // Of a connection that is closed nothing is written any more, and the ticket says so.
        if all.closed {
            return id;
        }
        if all.waiting.len() >= MOST {
            all.waiting.remove(0).ticket.part();
        }
        let start = reply.get(..START).unwrap_or(reply).into();
        all.waiting.push(Waiting { id, start, length: reply.len(), ticket, given_up: false });
        id
    }

    /// The call has ended before the library had taken all of its reply.
    pub fn give_up(&self, id: u64) {
        let mut all = self.lock();
        if let Some(waiting) = all.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.given_up = true;
            self.given_up.store(true, Ordering::Release);
        }
    }

    /// Which reply begins with these bytes, all that were written of it or as many as it takes to tell.
    pub(super) fn find(&self, bytes: &[u8]) -> Found {
        let mut all = self.lock();
        match all.waiting.iter().position(|one| bytes.starts_with(&one.start)) {
            Some(index) => {
                let found = all.waiting.remove(index);
                Found::Reply(found.ticket, found.length)
            }
            None if all.waiting.iter().any(|one| one.start.starts_with(bytes)) => Found::Perhaps,
            None => Found::Other,
        }
    }

    /// A stream that began with these bytes is over, or is followed no more: any of the replies may have been it.
    pub(super) fn spoil(&self, bytes: &[u8]) {
        let mut all = self.lock();
        let may = |one: &mut Waiting| one.start.starts_with(bytes);
        all.waiting.extract_if(.., may).for_each(|one| one.ticket.part());
    }

    /// Everything that the library had in its hands was written, and `begun` are the first bytes of streams that may carry
    /// replies. What was given up and has not begun never will.
    pub(super) fn flushed<'a>(&self, begun: impl Iterator<Item = &'a [u8]> + Clone) {
        if !self.given_up.load(Ordering::Acquire) {
            return;
        }
        let mut all = self.lock();
        self.given_up.store(false, Ordering::Release);
        all.waiting.extract_if(.., |one| one.given_up).for_each(|one| end(one, begun.clone()));
    }

    /// Nothing is written any more.
    pub(super) fn close<'a>(&self, begun: impl Iterator<Item = &'a [u8]> + Clone) {
        let mut all = self.lock();
        all.closed = true;
        all.waiting.drain(..).for_each(|one| end(one, begun.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing more of this one is written: its ticket says that nothing was, unless it is one of those that have begun.
fn end<'a>(one: Waiting, mut begun: impl Iterator<Item = &'a [u8]>) {
    if begun.any(|bytes| one.start.starts_with(bytes)) {
        one.ticket.part();
    }
}
