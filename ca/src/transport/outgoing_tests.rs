//! Which replies were handed over, by the frames that were written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use signet_core::holder::Handover::{self, Nothing, Whole};

use super::*;
use crate::reply_delivery::tests::Tickets;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// A reply that differs from others in its 100th byte.
fn reply(name: u8, length: usize) -> Vec<u8> {
    (0..length).map(|index| if index == 100 { name } else { index as u8 }).collect()
}

/// One connection, and what became of the replies `a`, `b` and so on.
struct Stage {
    outgoing: Outgoing,
    replies: Replies,
    tickets: Tickets,
}

impl Stage {
    fn expecting(all: &[(&str, &[u8])]) -> Self {
        let stage = Self { outgoing: Outgoing::default(), replies: Replies::default(), tickets: Tickets::new() };
        for (name, reply) in all {
            stage.replies.expect(reply, stage.tickets.ticket(name));
        }
        stage
    }

    fn write(&mut self, bytes: &[u8]) {
        self.outgoing.written(bytes, &self.replies);
    }

    fn flush(&mut self) -> Vec<(String, Handover)> {
        self.outgoing.flushed(&self.replies);
        self.tickets.said()
    }

    fn close(&mut self) -> Vec<(String, Handover)> {
        self.outgoing.close(&self.replies);
        self.tickets.said()
    }
}

fn said(all: &[(&str, Handover)]) -> Vec<(String, Handover)> {
    all.iter().map(|(name, handover)| ((*name).to_owned(), *handover)).collect()
}

const TRAILERS: u8 = END_STREAM | END_HEADERS;

#[test]
fn a_reply_counts_when_all_of_it_and_the_end_of_its_stream_were_written_and_flushed_however_they_were_cut() {
    let a = reply(b'a', 3000);
    let head = frame(HEADERS, END_HEADERS, 1, &[0x88]);
    let other = frame(HEADERS, END_HEADERS, 3, &[0x88]);
    let ping = frame(6, 0, 0, &[0; 8]);
    let in_one = [&frame(DATA, 0, 1, &a)[..], &frame(HEADERS, TRAILERS, 1, &[1, 2])].concat();
    let by_bytes: Vec<u8> = a.iter().flat_map(|byte| frame(DATA, 0, 1, &[*byte])).collect();
    let by_bytes = [by_bytes, frame(DATA, END_STREAM, 1, &[])].concat();
    let long_trailers = [
        frame(DATA, 0, 1, &a[..130]),
        frame(DATA, 0, 3, b"something else"),
        ping.clone(),
        frame(DATA, 0, 1, &a[130..]),
        frame(HEADERS, END_STREAM, 1, &[1]),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, &[2, 3]),
    ];
    let with_end = [frame(DATA, 0, 1, &a[..1]), frame(DATA, END_STREAM, 1, &a[1..])].concat();
    for body in [in_one, by_bytes, long_trailers.concat(), with_end] {
        let all = [&other[..], &head, &ping, &body].concat();
        for step in [1, 7, 100, 10_000_000] {
            let mut stage = Stage::expecting(&[("a", &a), ("b", &reply(b'b', 3000))]);
            let (last, before) = all.split_last().unwrap();
            for part in before.chunks(step) {
                stage.write(part);
                assert_eq!(stage.flush(), [], "step {step}");
            }
            stage.write(&[*last]);
            assert_eq!(stage.tickets.said(), [], "not flushed");
            assert_eq!(stage.flush(), said(&[("a", Whole)]), "step {step}");
            assert_eq!(stage.close(), said(&[("b", Nothing)]));
        }
    }
}

#[test]
fn what_was_written_in_part_or_cannot_be_told_says_nothing() {
    let (a, b) = (reply(b'a', 300), reply(b'b', 300));
    let head = |stream| frame(HEADERS, END_HEADERS, stream, &[]);
    let end = |stream| frame(HEADERS, TRAILERS, stream, &[]);
    let data = |stream, bytes: &[u8]| frame(DATA, 0, stream, bytes);
    let whole = [data(1, &a), end(1)].concat();
    for (what, written, flushed, closed) in [
        ("nothing", vec![], &[][..], &[("a", Nothing), ("b", Nothing)][..]),
        ("headers only", head(1), &[], &[("a", Nothing), ("b", Nothing)]),
        ("headers and their end", [head(1), end(1)].concat(), &[], &[("a", Nothing), ("b", Nothing)]),
        ("reset before", [head(1), frame(RST_STREAM, 0, 1, &[0; 4])].concat(), &[], &[("a", Nothing), ("b", Nothing)]),
        ("one byte, which both have", [head(1), data(1, &a[..1])].concat(), &[], &[]),
        ("one byte, then reset", [head(1), data(1, &a[..1]), frame(RST_STREAM, 0, 1, &[0; 4])].concat(), &[], &[]),
        ("up to where they differ", [head(1), data(1, &a[..100])].concat(), &[], &[]),
        ("a little more", [head(1), data(1, &a[..101])].concat(), &[], &[("b", Nothing)]),
        ("all but a byte, and the end", [head(1), data(1, &a[..299]), end(1)].concat(), &[], &[("b", Nothing)]),
        ("a byte too many", [head(1), data(1, &a), data(1, &[0]), end(1)].concat(), &[], &[("b", Nothing)]),
        ("all, and a reset", [head(1), data(1, &a), frame(RST_STREAM, 0, 1, &[0; 4])].concat(), &[], &[("b", Nothing)]),
        ("all, and half of the end", [head(1), data(1, &a), end(1)[..5].to_vec()].concat(), &[], &[("b", Nothing)]),
        ("padded", [head(1), frame(DATA, PADDED, 1, &[&[0], &a[..]].concat()), end(1)].concat(), &[], &[]),
        ("without headers before", whole.clone(), &[], &[("a", Nothing), ("b", Nothing)]),
        ("both at once", [head(1), head(3), data(3, &b), whole, end(3)].concat(), &[("a", Whole), ("b", Whole)], &[]),
        (
            "the same stream again",
            [head(1), data(1, &a), end(1), data(1, &b), end(1)].concat(),
            &[("a", Whole)],
            &[("b", Nothing)],
        ),
    ] {
        let mut stage = Stage::expecting(&[("a", &a), ("b", &b)]);
        stage.write(&written);
        assert_eq!(stage.flush(), said(flushed), "{what}");
        assert_eq!(stage.close(), said(closed), "{what}");
        stage.replies.expect(&a, stage.tickets.ticket("late"));
        assert_eq!(stage.tickets.said(), said(&[("late", Nothing)]), "{what}");
    }
    // Written, but never flushed.
    let mut stage = Stage::expecting(&[("a", &a)]);
    stage.write(&[head(1), data(1, &a), end(1)].concat());
    assert_eq!(stage.close(), []);
}

#[test]
fn of_more_answers_than_are_followed_none_is_said_to_have_been_written_not_at_all() {
    let (a, head) = (reply(b'a', 300), |stream| frame(HEADERS, END_HEADERS, stream, &[]));
    let mut stage = Stage::expecting(&[("a", &a)]);
    let streams = (0..=u32::try_from(MOST).unwrap()).map(|index| head(1 + 2 * index));
    stage.write(&streams.collect::<Vec<_>>().concat());
    stage.write(&[frame(DATA, 0, 1, &a), frame(HEADERS, TRAILERS, 1, &[])].concat());
    assert_eq!(stage.flush(), []);
    assert_eq!(stage.close(), []);
}

#[test]
fn a_call_that_was_given_up_is_over_with_the_next_flush_unless_it_has_begun() {
    let (a, b) = (reply(b'a', 300), reply(b'b', 300));
    for (written, expected) in [
        (vec![], &[("a", Nothing)][..]),
        ([frame(HEADERS, END_HEADERS, 1, &[]), frame(DATA, 0, 1, &a[..1])].concat(), &[]),
        ([frame(HEADERS, END_HEADERS, 1, &[]), frame(DATA, 0, 1, &b[..101])].concat(), &[("a", Nothing)]),
    ] {
        let mut stage = Stage::expecting(&[("b", &b)]);
        let id = stage.replies.expect(&a, stage.tickets.ticket("a"));
        assert_eq!(stage.flush(), []);
        stage.replies.give_up(id);
        // What the library has in its hands.
        stage.write(&written);
        assert_eq!(stage.flush(), said(expected));
        assert_eq!(stage.flush(), []);
    }
    // What was seen already needs no giving up.
    let mut stage = Stage::expecting(&[]);
    let id = stage.replies.expect(&a, stage.tickets.ticket("a"));
    stage.write(&[frame(HEADERS, END_HEADERS, 1, &[]), frame(DATA, 0, 1, &a)].concat());
    stage.replies.give_up(id);
    assert_eq!(stage.flush(), []);
    stage.write(&frame(HEADERS, TRAILERS, 1, &[]));
    assert_eq!(stage.flush(), said(&[("a", Whole)]));
}

#[test]
fn what_a_connection_remembers_is_bounded_and_what_it_forgets_says_nothing() {
    let all: Vec<Vec<u8>> = (0..=255).map(|name| reply(name, 300)).collect();
    let mut stage = Stage::expecting(&[]);
    for (number, reply) in all.iter().enumerate() {
        stage.replies.expect(reply, stage.tickets.ticket(&number.to_string()));
    }
    assert_eq!(stage.tickets.said(), [], "what makes room may still be written");
    for stream in 0..1000 {
        stage.write(&frame(HEADERS, END_HEADERS, 2 * stream + 1, &[]));
    }
    assert_eq!(stage.outgoing.answers.len(), MOST);
    assert_eq!(stage.close(), [], "any of the replies may be on a stream that is forgotten");
    // The oldest stream is forgotten with what it has begun to tell.
    let mut stage = Stage::expecting(&[("5", &all[5])]);
    stage.write(&[frame(HEADERS, END_HEADERS, 1, &[]), frame(DATA, 0, 1, &all[5][..1])].concat());
    for stream in 1..=MOST as u32 {
        stage.write(&frame(HEADERS, END_HEADERS, 2 * stream + 1, &[]));
    }
    assert_eq!(stage.close(), []);
}
