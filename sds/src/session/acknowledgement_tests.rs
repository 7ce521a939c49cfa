//! What is known of each secret from the answers, whichever response they speak of (SD-08 names what rests on it).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use super::sent::MAX_OPEN;
use super::*;
use crate::snapshot::tests::certificate;
use crate::snapshot::{Snapshot, Version};

struct Talk {
    session: Sotw,
    snapshot: Snapshot,
    names: Vec<String>,
    now: Duration,
}

fn world(secrets: &[(&str, &str)]) -> Snapshot {
    Snapshot::new(secrets.iter().map(|(name, content)| (*name, certificate(content, "key"))))
}

fn version(content: &str) -> Version {
    world(&[("x", content)]).secret("x").unwrap().version()
}

fn applied(name: &str, content: &str) -> Acknowledgement {
    Acknowledgement { name: name.into(), version: version(content), answer: Answer::Ack }
}

fn refused(name: &str, content: &str, text: &str) -> Acknowledgement {
    Acknowledgement { answer: Answer::Nack(text.to_owned()), ..applied(name, content) }
}

impl Talk {
    /// A stream that asks for `names` and gets the first response.
    fn open(names: &[&str], secrets: &[(&str, &str)]) -> (Self, Response) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut talk = Self { session: Sotw::new("s"), snapshot: world(secrets), names, now: Duration::ZERO };
        let first = talk.request("", "", None).response.expect("an answer");
        (talk, first)
    }

    fn request(&mut self, nonce: &str, version: &str, error: Option<&str>) -> Outcome {
        let request = Request { type_url: "", names: &self.names, nonce, version, error };
        self.session.on_request(&request, &self.snapshot, self.now).unwrap()
    }

    fn push(&mut self, secrets: &[(&str, &str)]) -> Response {
        self.snapshot = world(secrets);
        self.session.on_snapshot(&self.snapshot).expect("a response")
    }

    fn ack(&mut self, response: &Response) -> Vec<Acknowledgement> {
        self.request(&response.nonce, &response.version.to_string(), None);
        self.session.take_acknowledgements()
    }

    fn nack(&mut self, response: &Response, text: &str) -> Vec<Acknowledgement> {
        self.request(&response.nonce, "", Some(text));
        self.session.take_acknowledgements()
    }

    /// What it applied last of this secret, and why it refused what it has refused since.
    fn last(&self, name: &str) -> (Option<Version>, Option<String>) {
        let last = self.session.last_answers().get(name).cloned().unwrap_or_default();
        (last.acked, last.nacked.map(|(_, text)| text))
    }
}

#[test]
fn sd_08_an_answer_to_a_superseded_response_is_about_the_names_in_that_response() {
    let (mut talk, first) = Talk::open(&["ROOTCA", "default"], &[("ROOTCA", "r1"), ("default", "l1")]);
    assert_eq!(talk.ack(&first), [applied("ROOTCA", "r1"), applied("default", "l1")]);
    let roots = talk.push(&[("ROOTCA", "r2"), ("default", "l1")]);
    let leaf = talk.push(&[("ROOTCA", "r2"), ("default", "l2")]);
    assert_eq!(talk.last("ROOTCA").0, Some(version("r1")), "outstanding");
    // No reply (rule 4), yet it is heard.
    let outcome = talk.request(&roots.nonce, &roots.version.to_string(), None);
    assert_eq!(outcome, Outcome { event: Event::StaleNonce, response: None });
    assert_eq!(talk.session.take_acknowledgements(), [applied("ROOTCA", "r2")]);
    assert_eq!(talk.last("default").0, Some(version("l1")), "still outstanding");
    assert_eq!(talk.ack(&leaf), [applied("default", "l2")]);
}

#[test]
fn sd_08_a_refusal_of_a_superseded_response_stays_when_the_next_one_is_applied() {
    let (mut talk, first) = Talk::open(&["ROOTCA", "default"], &[("ROOTCA", "r1"), ("default", "l1")]);
    talk.ack(&first);
    let roots = talk.push(&[("ROOTCA", "r2"), ("default", "l1")]);
    let leaf = talk.push(&[("ROOTCA", "r2"), ("default", "l2")]);
    assert_eq!(talk.nack(&roots, "bad root"), [refused("ROOTCA", "r2", "bad root")]);
    assert_eq!(talk.ack(&leaf), [applied("default", "l2")]);
    assert_eq!(talk.last("ROOTCA"), (Some(version("r1")), Some("bad root".into())));
    // The content changes and is applied: nothing is left of the refusal.
    let fixed = talk.push(&[("ROOTCA", "r3"), ("default", "l2")]);
    assert_eq!(talk.ack(&fixed), [applied("ROOTCA", "r3")]);
    assert_eq!(talk.last("ROOTCA"), (Some(version("r3")), None));
}

#[test]
fn sd_03_an_ack_of_the_newest_response_covers_earlier_ones_that_were_not_answered() {
    let (mut talk, first) = Talk::open(&["a", "b"], &[("a", "1"), ("b", "1")]);
    talk.ack(&first);
    talk.push(&[("a", "2"), ("b", "1")]);
    let newest = talk.push(&[("a", "2"), ("b", "2")]);
    // Its version is that of the whole set.
    assert_eq!(talk.ack(&newest), [applied("a", "2"), applied("b", "2")]);
    assert_eq!(talk.ack(&newest), [], "nothing new");
    // A refusal speaks for its own response only.
    let older = talk.push(&[("a", "3"), ("b", "2")]);
    let newest = talk.push(&[("a", "3"), ("b", "3")]);
    assert_eq!(talk.nack(&newest, "no"), [refused("b", "3", "no")]);
    assert_eq!(talk.last("a"), (Some(version("2")), None));
    assert_eq!(talk.ack(&older), [applied("a", "3")]);
}

#[test]
fn sd_03_a_request_with_an_older_version_and_a_nonce_is_no_answer() {
    let (mut talk, first) = Talk::open(&["a"], &[("a", "1"), ("b", "1")]);
    talk.ack(&first);
    let second = talk.push(&[("a", "2"), ("b", "1")]);
    talk.names.push("b".to_owned());
    talk.request(&second.nonce, &first.version.to_string(), None);
    assert_eq!(talk.session.take_acknowledgements(), []);
    assert_eq!((talk.last("a").0, talk.last("b").0), (Some(version("1")), None));
}

#[test]
fn sd_21_a_client_that_recovers_is_believed_and_one_that_changes_its_mind_too() {
    let (mut talk, first) = Talk::open(&["a"], &[("a", "1")]);
    assert_eq!(talk.nack(&first, "x"), [refused("a", "1", "x")]);
    assert_eq!(talk.nack(&first, "x"), [], "said before");
    assert_eq!(talk.ack(&first), [applied("a", "1")]);
    assert_eq!(talk.nack(&first, "y\n"), [refused("a", "1", "y ")]);
    assert_eq!(talk.last("a"), (None, Some("y ".into())));
    assert_eq!(talk.ack(&first), [applied("a", "1")]);
    assert_eq!(talk.nack(&first, &"é".repeat(1000)), [refused("a", "1", &"é".repeat(512))]);
}

#[test]
fn sd_06_nothing_is_known_of_a_name_that_left_and_came_back() {
    let (mut talk, first) = Talk::open(&["a", "b"], &[("a", "1"), ("b", "1")]);
    talk.ack(&first);
    let pushed = talk.push(&[("a", "2"), ("b", "2")]);
    talk.names.pop();
    // The answer comes with the smaller subscription.
    assert_eq!(talk.ack(&pushed), [applied("a", "2"), applied("b", "2")]);
    assert_eq!(talk.session.last_answers().len(), 1);
    talk.names.push("b".to_owned());
    let version = pushed.version.to_string();
    let again = talk.request(&pushed.nonce, &version, None).response.unwrap();
    assert_eq!((talk.session.last_answers().len(), talk.session.take_acknowledgements()), (1, vec![]));
    assert_eq!(talk.ack(&again), [applied("b", "2")]);
}

#[test]
fn sd_08_a_client_that_never_answers_costs_little_and_nothing_is_lost_of_what_it_says_at_last() {
    let (mut talk, _) = Talk::open(&["a", "b"], &[("a", "0"), ("b", "0")]);
    let mut newest = None;
    for round in 1..1000 {
        newest = Some(talk.push(&[("a", &round.to_string()), ("b", "0")]));
    }
    assert_eq!(talk.session.last_answers().len(), 0);
    let answers = talk.ack(&newest.unwrap());
    assert!(answers.len() <= MAX_OPEN + 1, "{}", answers.len());
    assert_eq!(talk.last("a").0, Some(version("999")));
    assert_eq!(talk.last("b").0, Some(version("0")), "of a response long ago");
}

#[test]
fn sd_08_an_older_response_that_is_refused_late_changes_nothing_that_was_said_of_a_newer_one() {
    let (mut talk, first) = Talk::open(&["a", "b"], &[("a", "0"), ("b", "0")]);
    talk.ack(&first);
    let second = talk.push(&[("a", "1"), ("b", "0")]);
    let third = talk.push(&[("a", "2"), ("b", "0")]);
    assert_eq!(talk.nack(&third, "no"), [refused("a", "2", "no")]);
    assert_eq!(talk.nack(&second, "late"), []);
    assert_eq!(talk.last("a"), (Some(version("0")), Some("no".into())));
    // An ACK speaks for the responses before it, also for names that it does not carry, and ends what they may say.
    let fourth = talk.push(&[("a", "3"), ("b", "0")]);
    let fifth = talk.push(&[("a", "3"), ("b", "1")]);
    assert_eq!(talk.ack(&fifth), [applied("a", "3"), applied("b", "1")]);
    assert_eq!((talk.nack(&fourth, "late"), talk.last("a")), (vec![], (Some(version("3")), None)));
}

#[test]
fn sd_08_an_answer_is_heard_as_long_as_its_response_is_among_the_last_few() {
    let (mut talk, first) = Talk::open(&["a"], &[("a", "0")]);
    for round in 1..MAX_OPEN {
        talk.push(&[("a", &round.to_string())]);
    }
    assert_eq!(talk.nack(&first, "no"), [refused("a", "0", "no")]);
    talk.push(&[("a", "one more")]);
    assert_eq!((talk.nack(&first, "not"), talk.last("a")), (vec![], (None, Some("no".into()))));
}

#[test]
fn sd_08_what_was_refused_is_not_taken_for_applied_when_its_response_is_forgotten() {
    let (mut talk, first) = Talk::open(&["a", "b"], &[("a", "0"), ("b", "0")]);
    talk.nack(&first, "no");
    let mut newest = None;
    for round in 1..=MAX_OPEN {
        newest = Some(talk.push(&[("a", "0"), ("b", &round.to_string())]));
    }
    assert!(talk.ack(&newest.unwrap()).iter().all(|said| &*said.name == "b"));
    assert_eq!(talk.last("a"), (None, Some("no".into())));
}

#[test]
fn sd_08_a_stream_that_wants_everything_is_known_by_name_too() {
    let (mut talk, first) = Talk::open(&[], &[("a", "1")]);
    talk.ack(&first);
    let more = talk.push(&[("b", "1")]);
    assert_eq!(talk.ack(&more), [applied("b", "1")]);
    assert_eq!(talk.session.last_answers().keys().map(|name| &**name).collect::<Vec<_>>(), ["b"], "a is gone");
}
