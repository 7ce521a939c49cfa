//! Roots that a client refuses, and the ones before them: what is sent, and what is on record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::snapshot::tests::{bundle, certificate, root};
use crate::snapshot::{SecretContent, Snapshot};

/// A client, and contents by number: the roots of `ROOTCA`, the leaf of `default`, the bytes of `word`.
struct Talk {
    session: Sotw,
    names: Vec<String>,
    snapshot: Snapshot,
    roots: Vec<SecretContent>,
    now: Duration,
}

impl Talk {
    fn new(names: &[&str]) -> Self {
        let roots = (1..=4).map(|number| bundle(number, &[root("r")])).collect();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let now = Duration::ZERO;
        Self { session: Sotw::new("s"), names, snapshot: Snapshot::empty(), roots, now }
    }

    fn set(&mut self, contents: &[(&str, usize)]) {
        let content = |name: &str, number: usize| match name {
            "ROOTCA" => self.roots[number].clone(),
            "word" => SecretContent::Generic(vec![u8::try_from(number).unwrap()].into()),
            _ => certificate(&number.to_string(), "key"),
        };
        self.snapshot = Snapshot::new(contents.iter().map(|(name, number)| (*name, content(name, *number))));
    }

    fn push(&mut self, contents: &[(&str, usize)]) -> Response {
        self.set(contents);
        self.session.on_snapshot(&self.snapshot).expect("a response")
    }

    fn request(&mut self, nonce: &str, version: &str, error: Option<&str>) -> Outcome {
        let request = Request { type_url: "", names: &self.names, nonce, version, error };
        self.session.on_request(&request, &self.snapshot, self.now).unwrap()
    }

    /// The stream's first request, for these contents.
    fn open(&mut self, contents: &[(&str, usize)], held: &str) -> Response {
        self.set(contents);
        self.request("", held, None).response.expect("an answer")
    }

    fn ack(&mut self, response: &Response) -> (Option<Response>, Vec<Acknowledgement>) {
        let response = self.request(&response.nonce, &response.version.to_string(), None).response;
        (response, self.session.take_acknowledgements())
    }

    fn nack(&mut self, response: &Response, text: &str) -> (Option<Response>, Vec<Acknowledgement>) {
        let response = self.request(&response.nonce, "", Some(text)).response;
        (response, self.session.take_acknowledgements())
    }

    /// A stream that has applied the first roots and refused the second ones; gives what it got then.
    fn refusing(names: &[&str], others: &[(&str, usize)]) -> (Self, Response, Option<Response>) {
        let mut talk = Self::new(names);
        let with = |number| [&[("ROOTCA", number)], others].concat();
        let first = talk.open(&with(0), "");
        assert_eq!(talk.ack(&first).0, None);
        let second = talk.push(&with(1));
        let (back, news) = talk.nack(&second, "no");
        assert_eq!(news, [talk.answer(1, Some("no"))]);
        (talk, first, back)
    }

    fn answer(&self, number: usize, refused: Option<&str>) -> Acknowledgement {
        let answer = refused.map_or(Answer::Ack, |text| Answer::Nack(text.to_owned()));
        Acknowledgement { name: "ROOTCA".into(), version: self.roots[number].version(), answer }
    }

    /// The number of the roots in a response.
    fn roots_in(&self, response: &Response) -> usize {
        let content = response.content("ROOTCA", &self.snapshot).expect("roots");
        self.roots.iter().position(|roots| roots.version() == content.version()).unwrap()
    }

    /// Which roots are on record as applied, and which as refused.
    fn record(&self) -> (Option<usize>, Option<usize>) {
        let last = self.session.last_answers().get("ROOTCA").cloned().unwrap_or_default();
        let number = |version| self.roots.iter().position(|roots| roots.version() == version).unwrap();
        (last.acked.map(number), last.nacked.map(|(version, _)| number(version)))
    }
}

#[test]
fn refused_roots_are_followed_by_those_applied_before_and_the_refusal_stays_on_record() {
    let (mut talk, first, back) = Talk::refusing(&["ROOTCA"], &[]);
    let back = back.expect("the roots before");
    assert_eq!((talk.roots_in(&back), &back.names), (0, &vec!["ROOTCA".into()]));
    assert_eq!(back.version, first.version, "rule 10: of the same set");
    assert!(back.nonce != first.nonce && !back.is_new_to_client);
    assert_eq!(talk.ack(&back), (None, vec![]), "no news: applied before, and nothing else");
    assert_eq!(talk.record(), (Some(0), Some(1)));
    assert_eq!(talk.session.on_snapshot(&talk.snapshot), None, "rule 21");
    // The next ones are sent as ever.
    let third = talk.push(&[("ROOTCA", 2)]);
    assert_eq!(talk.roots_in(&third), 2);
    assert_eq!(talk.ack(&third), (None, vec![talk.answer(2, None)]));
    assert_eq!(talk.record(), (Some(2), None));
    // And it goes back to these if it must.
    let fourth = talk.push(&[("ROOTCA", 3)]);
    let back = talk.nack(&fourth, "no").0.unwrap();
    assert_eq!(talk.roots_in(&back), 2);
}

#[test]
fn roots_are_gone_back_to_once_whatever_the_client_says_then() {
    let (mut talk, _, back) = Talk::refusing(&["ROOTCA"], &[]);
    let back = back.unwrap();
    for text in ["no", "not this either", "no"] {
        assert_eq!(talk.nack(&back, text), (None, vec![]));
        assert_eq!(talk.record(), (Some(0), Some(1)), "it is the first refusal that counts");
        assert_eq!(talk.session.on_snapshot(&talk.snapshot), None);
    }
    assert_eq!(talk.ack(&back), (None, vec![]));
    // A client that asks for everything again has lost what it had: it gets what it can use.
    talk.now = REFETCH_PAUSE;
    let again = talk.ack(&back).0.unwrap();
    assert_eq!(talk.roots_in(&again), 0);
    assert_eq!((talk.ack(&again), talk.record()), ((None, vec![]), (Some(0), Some(1))));
}

#[test]
fn without_roots_applied_on_this_stream_there_is_nothing_to_go_back_to() {
    let mut talk = Talk::new(&["ROOTCA"]);
    let first = talk.open(&[("ROOTCA", 0)], "");
    assert_eq!(talk.nack(&first, "no"), (None, vec![talk.answer(0, Some("no"))]));
    let second = talk.push(&[("ROOTCA", 1)]);
    assert_eq!(talk.nack(&second, "no").0, None);
    // Nor if it has changed its mind about them.
    let third = talk.push(&[("ROOTCA", 2)]);
    talk.ack(&third);
    assert_eq!(talk.nack(&third, "no").0, None);
    let fourth = talk.push(&[("ROOTCA", 3)]);
    assert_eq!(talk.nack(&fourth, "no").0, None);
    // Nor if the name has left in between.
    let (mut talk, _, back) = Talk::refusing(&["ROOTCA", "default"], &[("default", 1)]);
    let back = back.unwrap();
    talk.ack(&back);
    let nonce = back.nonce;
    talk.names = vec!["default".into()];
    assert_eq!(talk.request(&nonce, "", None).response, None);
    talk.names = vec!["ROOTCA".into()];
    let anew = talk.request(&nonce, "", None).response.unwrap();
    assert_eq!(talk.roots_in(&anew), 1);
    assert_eq!(talk.nack(&anew, "no").0, None);
}

#[test]
fn roots_that_become_the_newest_again_are_sent_as_such_and_clear_the_refusal() {
    let (mut talk, first, back) = Talk::refusing(&["ROOTCA"], &[]);
    talk.ack(&back.unwrap());
    let again = talk.push(&[("ROOTCA", 0)]);
    assert_eq!((again.version, again.older.len()), (first.version, 0));
    assert_eq!(talk.ack(&again), (None, vec![talk.answer(0, None)]));
    assert_eq!(talk.record(), (Some(0), None));
    // Refused now, they are nothing to go back to any more.
    let second = talk.push(&[("ROOTCA", 1)]);
    talk.ack(&second);
    let again = talk.push(&[("ROOTCA", 0)]);
    let back = talk.nack(&again, "no").0.unwrap();
    assert_eq!(talk.roots_in(&back), 1);
}

#[test]
fn of_several_responses_under_way_the_newest_decides() {
    let mut talk = Talk::new(&["ROOTCA"]);
    let first = talk.open(&[("ROOTCA", 0)], "");
    talk.ack(&first);
    let second = talk.push(&[("ROOTCA", 1)]);
    let third = talk.push(&[("ROOTCA", 2)]);
    assert_eq!(talk.nack(&second, "no").0, None, "newer ones are under way");
    let back = talk.nack(&third, "no").0.unwrap();
    assert_eq!((talk.roots_in(&back), talk.record()), (0, (Some(0), Some(2))));
    // A newer one overtakes the older roots.
    let fourth = talk.push(&[("ROOTCA", 3)]);
    assert_eq!(talk.ack(&back), (None, vec![]));
    assert_eq!(talk.ack(&fourth), (None, vec![talk.answer(3, None)]));
    assert_eq!(talk.record(), (Some(3), None));
}

#[test]
fn a_client_that_takes_refused_roots_after_all_gets_them_again_after_the_older_ones() {
    let mut talk = Talk::new(&["ROOTCA"]);
    let first = talk.open(&[("ROOTCA", 0)], "");
    talk.ack(&first);
    let second = talk.push(&[("ROOTCA", 1)]);
    let back = talk.nack(&second, "no").0.unwrap();
    assert_eq!(talk.ack(&second), (None, vec![talk.answer(1, None)]), "believed, though not replied to");
    let (again, news) = talk.ack(&back);
    assert_eq!((talk.roots_in(&again.clone().unwrap()), news), (1, vec![talk.answer(0, None)]), "it went back");
    assert_eq!(talk.ack(&again.unwrap()), (None, vec![talk.answer(1, None)]));
    assert_eq!(talk.record(), (Some(1), None));
}

#[test]
fn other_secrets_go_on_beside_refused_roots_and_certificates_are_never_gone_back_to() {
    let (mut talk, _, back) = Talk::refusing(&["ROOTCA", "default"], &[("default", 1)]);
    let back = back.unwrap();
    assert_eq!(back.names, ["ROOTCA".into()]);
    assert_eq!(talk.ack(&back), (None, vec![]));
    let leaf = talk.push(&[("ROOTCA", 1), ("default", 2)]);
    assert_eq!((&leaf.names, leaf.older.len()), (&vec!["default".into()], 0));
    assert_eq!(talk.nack(&leaf, "no").0, None);
    assert_eq!(talk.record(), (Some(0), Some(1)));
    let next = talk.push(&[("ROOTCA", 1), ("default", 3)]);
    assert_eq!(talk.ack(&next).1.len(), 1);
}

#[test]
fn a_program_that_asks_for_more_than_proxies_do_keeps_its_roots_by_itself() {
    let (talk, _, back) = Talk::refusing(&["ROOTCA", "word"], &[("word", 1)]);
    assert_eq!((back, talk.record()), (None, (Some(0), Some(1))));
    let opening = Talk::new(&["ROOTCA", "word"]).open(&[("ROOTCA", 0), ("word", 1)], "");
    assert!(!opening.is_new_to_client, "and it looks at what it gets");
    let (_, _, back) = Talk::refusing(&[], &[("word", 1)]);
    assert_eq!(back, None, "everything is more");
    let (talk, _, back) = Talk::refusing(&[], &[("default", 1)]);
    assert_eq!(talk.roots_in(&back.unwrap()), 0);
}

#[test]
fn what_opens_a_stream_has_a_comment_unless_the_client_has_applied_it_by_its_own_word() {
    let first = |held: &str| Talk::new(&["ROOTCA"]).open(&[("ROOTCA", 0)], held).is_new_to_client;
    assert!(first("") && first("another"));
    let mut talk = Talk::new(&["ROOTCA"]);
    let opening = talk.open(&[("ROOTCA", 0)], "");
    talk.ack(&opening);
    assert!(!talk.push(&[("ROOTCA", 1)]).is_new_to_client, "it differs from what this stream has brought");
    talk.session = Sotw::new("t");
    assert!(talk.request("", &opening.version.to_string(), None).response.unwrap().is_new_to_client);
    talk.session = Sotw::new("u");
    talk.set(&[("ROOTCA", 0)]);
    assert!(!talk.request("", &opening.version.to_string(), None).response.unwrap().is_new_to_client);
    // Also when there was nothing to send at first.
    talk.session = Sotw::new("v");
    talk.set(&[]);
    assert_eq!(talk.request("", "another", None).response, None);
    assert!(talk.push(&[("ROOTCA", 0)]).is_new_to_client);
}
