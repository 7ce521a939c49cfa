//! Each rule of the protocol by its number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::resources::SECRET_TYPE_URL;
use crate::snapshot::Snapshot;
use crate::snapshot::tests::certificate;

/// A client of good will at the other end of a session.
struct Client {
    session: Sotw,
    snapshot: Snapshot,
    now: Duration,
    names: Vec<String>,
    nonce: String,
    version: String,
}

fn world(secrets: &[(&str, &str)]) -> Snapshot {
    Snapshot::new(secrets.iter().map(|(name, content)| (*name, certificate(content, "key"))))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Client {
    fn new(snapshot: Snapshot) -> Self {
        let (nonce, version) = (String::new(), String::new());
        Self { session: Sotw::new("s"), snapshot, now: Duration::ZERO, names: vec![], nonce, version }
    }

    fn send(&mut self, names: &[&str], error: Option<&str>) -> Outcome {
        self.names = owned(names);
        let request = Request {
            type_url: SECRET_TYPE_URL,
            names: &self.names,
            nonce: &self.nonce,
            version: &self.version,
            error,
        };
        self.session.on_request(&request, &self.snapshot, self.now).unwrap()
    }

    /// Sends and takes over the nonce of the response, without acknowledging it yet.
    fn ask(&mut self, names: &[&str]) -> Option<Response> {
        let response = self.send(names, None).response;
        self.take(response)
    }

    fn take(&mut self, response: Option<Response>) -> Option<Response> {
        if let Some(response) = &response {
            self.nonce.clone_from(&response.nonce);
        }
        response
    }

    fn ack(&mut self, response: &Response) -> Outcome {
        self.nonce.clone_from(&response.nonce);
        self.version = response.version.to_string();
        let names = self.names.clone();
        self.send(&names.iter().map(String::as_str).collect::<Vec<_>>(), None)
    }

    /// Asks and acknowledges.
    fn hold(&mut self, names: &[&str]) -> Response {
        let response = self.ask(names).expect("an answer");
        assert_eq!(self.ack(&response).response, None, "an ACK is not answered");
        response
    }

    fn push(&mut self, snapshot: Snapshot) -> Option<Response> {
        self.snapshot = snapshot;
        let response = self.session.on_snapshot(&self.snapshot);
        self.take(response)
    }
}

fn sent(response: Option<&Response>) -> Vec<&str> {
    response.map(|response| response.names.iter().map(|name| &**name).collect()).unwrap_or_default()
}

#[test]
fn rule_01_the_first_request_is_answered_whatever_it_brings_along() {
    let mut client = Client::new(world(&[("default", "1")]));
    let outcome = client.send(&["default"], None);
    assert_eq!(outcome.event, Event::Opened);
    assert_eq!(sent(outcome.response.as_ref()), ["default"]);
    // A nonce, a version and an error of another stream say nothing about this one.
    let mut client = Client::new(world(&[("default", "1")]));
    (client.nonce, client.version) = ("x-9".into(), "old".into());
    let outcome = client.send(&["default"], Some("other stream"));
    assert_eq!((outcome.event, sent(outcome.response.as_ref())), (Event::Opened, vec!["default"]));
}

#[test]
fn rule_02_every_response_has_a_new_nonce_of_its_stream() {
    let mut client = Client::new(world(&[("a", "1")]));
    let mut nonces = vec![client.hold(&["a"]).nonce];
    for content in ["2", "3", "2"] {
        nonces.push(client.push(world(&[("a", content)])).unwrap().nonce);
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4);
    let mut other = Sotw::new("other");
    let names = owned(&["a"]);
    let request = Request { names: &names, ..Request::default() };
    let response = other.on_request(&request, &client.snapshot, Duration::ZERO).unwrap().response.unwrap();
    assert!(!nonces.contains(&response.nonce));
}

#[test]
fn rule_03_a_nack_is_known_by_its_error_and_an_ack_by_its_version() {
    let mut client = Client::new(world(&[("a", "1"), ("b", "1")]));
    let first = client.hold(&["a"]);
    let second = client.push(world(&[("a", "2"), ("b", "1")])).unwrap();
    // The version is still the first one: a changed subscription, not a NACK.
    assert_eq!(client.version, first.version.to_string());
    let outcome = client.send(&["a", "b"], None);
    assert_eq!((outcome.event, sent(outcome.response.as_ref())), (Event::Subscription, vec!["b"]));
    client.take(outcome.response);
    assert_eq!(client.send(&["a", "b"], Some("bad key")).event, Event::Answered(Answer::Nack("bad key".into())));
    assert_ne!(second.version, first.version);
    let third = client.push(world(&[("a", "3"), ("b", "1")])).unwrap();
    assert_eq!(client.ack(&third).event, Event::Answered(Answer::Ack));
}

#[test]
fn rule_04_a_stale_nonce_is_ignored() {
    let mut client = Client::new(world(&[("a", "1"), ("b", "1")]));
    let first = client.ask(&["a"]).unwrap();
    let second = client.push(world(&[("a", "2"), ("b", "1")])).unwrap();
    // The client acknowledges the first and asks for more before it has seen the second.
    client.names = owned(&["a", "b"]);
    assert_eq!(client.ack(&first), Outcome { event: Event::StaleNonce, response: None });
    assert_eq!(client.session.names().count(), 1);
    // It will say so again with the newest nonce.
    let outcome = client.ack(&second);
    assert_eq!((outcome.event, sent(outcome.response.as_ref())), (Event::Answered(Answer::Ack), vec!["b"]));
}

#[test]
fn rule_05_nothing_is_sent_without_a_change() {
    let mut client = Client::new(world(&[("a", "1")]));
    client.hold(&["a"]);
    assert_eq!(client.push(world(&[("a", "1")])), None, "identical material");
    let changed = client.push(world(&[("a", "2")])).unwrap();
    assert_eq!(client.ack(&changed).response, None);
    client.push(world(&[("a", "3")])).unwrap();
    assert_eq!(client.send(&["a"], Some("no")).response, None, "a NACK is not answered");
    assert_eq!(client.push(world(&[("a", "3")])), None);
}

#[test]
fn rule_06_added_names_are_sent_even_if_they_were_sent_before() {
    let mut client = Client::new(world(&[("a", "1"), ("b", "1")]));
    client.hold(&["a", "b"]);
    assert_eq!(client.ask(&["a"]), None);
    assert_eq!(sent(client.ask(&["a", "b"]).as_ref()), ["b"]);
    // Only what changed is pushed, and a secret that is gone is neither deleted nor named.
    assert_eq!(sent(client.push(world(&[("a", "2"), ("b", "1")])).as_ref()), ["a"]);
    assert_eq!(client.push(world(&[("b", "1")])), None);
    assert_eq!(client.push(world(&[])), None);
}

#[test]
fn rule_07_a_name_that_does_not_exist_yet_is_sent_when_it_appears() {
    let mut client = Client::new(world(&[]));
    assert_eq!(client.ask(&["a", "b"]), None);
    assert_eq!(sent(client.push(world(&[("a", "1")])).as_ref()), ["a"]);
    assert_eq!(sent(client.push(world(&[("a", "1"), ("b", "1")])).as_ref()), ["b"]);
}

#[test]
fn rule_08_no_names_mean_everything_at_first_and_nothing_later() {
    let mut everything = Client::new(world(&[("a", "1"), ("b", "1")]));
    assert_eq!(sent(Some(&everything.hold(&[]))), ["a", "b"]);
    assert_eq!(sent(everything.push(world(&[("a", "1"), ("b", "1"), ("c", "1")])).as_ref()), ["c"]);
    let mut client = Client::new(world(&[("a", "1")]));
    client.hold(&["a"]);
    assert_eq!(client.send(&[], None).response, None);
    assert_eq!(client.send(&[], None).response, None, "repeated, too");
    assert_eq!(client.push(world(&[("a", "2")])), None);
    assert_eq!(sent(client.ask(&["a"]).as_ref()), ["a"]);
}

#[test]
fn rule_08_who_wants_everything_is_sent_again_what_was_gone_and_comes_back() {
    let mut client = Client::new(world(&[("a", "1"), ("b", "1")]));
    client.hold(&[]);
    assert_eq!(sent(client.push(world(&[("b", "2")])).as_ref()), ["b"]);
    // What was said of it is forgotten, and nobody would say it once more.
    assert_eq!(sent(client.push(world(&[("a", "1"), ("b", "2")])).as_ref()), ["a"]);
}

#[test]
fn rule_09_a_name_asked_for_twice_is_sent_once() {
    let mut client = Client::new(world(&[("a", "1")]));
    assert_eq!(sent(client.ask(&["a", "a", "a"]).as_ref()), ["a"]);
}

#[test]
fn rule_10_the_version_belongs_to_the_resources() {
    let mut one = Client::new(world(&[("a", "1"), ("b", "1")]));
    let before = one.hold(&["a", "b"]);
    // A new stream, which tells the version it holds: the same version under another nonce.
    let mut two = Client::new(world(&[("b", "1"), ("a", "1")]));
    two.version = before.version.to_string();
    two.session = Sotw::new("t");
    let after = two.ask(&["b", "a"]).unwrap();
    assert_eq!(before.version, after.version);
    assert_ne!(before.nonce, after.nonce);
    // The version stands for the whole set, also when only a part of it is sent.
    let part = one.push(world(&[("a", "2"), ("b", "1")])).unwrap();
    let whole = Client::new(world(&[("a", "2"), ("b", "1")])).hold(&["a", "b"]);
    assert_eq!(part.version, whole.version);
}

#[test]
fn rule_11_another_resource_type_is_refused_and_streams_do_not_share_state() {
    let mut session = Sotw::new("s");
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let request = Request { type_url, ..Request::default() };
    assert_eq!(session.on_request(&request, &world(&[]), Duration::ZERO), Err(InvalidRequest::WrongType));
    let (mut one, mut two) = (Client::new(world(&[("a", "1")])), Client::new(world(&[("a", "1")])));
    one.hold(&["a"]);
    assert_eq!(sent(two.ask(&["a"]).as_ref()), ["a"]);
}

#[test]
fn rule_18_and_19_an_unknown_name_is_passed_over_in_silence_and_harms_no_other() {
    let mut client = Client::new(world(&[("a", "1")]));
    assert_eq!(sent(Some(&client.hold(&["a", "no-such", ""]))), ["a"]);
    assert_eq!(sent(client.push(world(&[("a", "2")])).as_ref()), ["a"]);
    let mut only_unknown = Client::new(world(&[("a", "1")]));
    assert_eq!(only_unknown.ask(&["no-such"]), None);
    assert_eq!(sent(only_unknown.ask(&["no-such", "a"]).as_ref()), ["a"]);
}

#[test]
fn rule_20_several_names_of_one_content_are_each_answered() {
    let same = [("default", "1"), ("spiffe://td/ns/a/sa/b", "1"), ("ROOTCA", "r"), ("ALL", "r"), ("spiffe://td", "r")];
    let mut client = Client::new(world(&same));
    let names: Vec<&str> = same.iter().map(|(name, _)| *name).collect();
    let mut expected = names.clone();
    expected.sort_unstable();
    assert_eq!(sent(Some(&client.hold(&names))), expected);
}

#[test]
fn rule_21_refused_content_is_not_sent_again_until_it_changes() {
    let mut client = Client::new(world(&[("a", "1"), ("b", "1")]));
    client.hold(&["a"]);
    client.push(world(&[("a", "2"), ("b", "1")])).unwrap();
    for _ in 0..3 {
        assert_eq!(client.send(&["a"], Some("mismatch")).response, None);
        assert_eq!(client.push(world(&[("a", "2"), ("b", "1")])), None);
    }
    assert_eq!(sent(client.ask(&["a", "b"]).as_ref()), ["b"], "other names go on");
    assert_eq!(sent(client.push(world(&[("a", "3"), ("b", "1")])).as_ref()), ["a"]);
}

#[test]
fn rule_22_a_new_stream_gets_the_last_good_content_when_nothing_new_arrives() {
    let last_good = world(&[("default", "1"), ("ROOTCA", "r")]);
    let mut old = Client::new(last_good.clone());
    old.hold(&["default"]);
    assert_eq!(old.push(last_good.clone()), None);
    assert_eq!(sent(Client::new(last_good).ask(&["default", "ROOTCA"]).as_ref()), ["ROOTCA", "default"]);
}

#[test]
fn a_repeated_acknowledgement_is_answered_once() {
    let mut client = Client::new(world(&[("a", "1"), ("b", "1")]));
    let first = client.hold(&["a", "b"]);
    let outcome = client.send(&["a", "b"], None);
    assert_eq!(outcome.event, Event::Repeated);
    let again = outcome.response.unwrap();
    assert_eq!((sent(Some(&again)), again.version), (vec!["a", "b"], first.version));
    assert_ne!(again.nonce, first.nonce);
    assert_eq!(client.ack(&again), Outcome { event: Event::Answered(Answer::Ack), response: None });
    // Without a subscription there is nothing to repeat.
    assert_eq!(client.send(&[], None).response, None);
    assert_eq!((client.send(&[], None).response, client.session.wake_at()), (None, None));
}

#[test]
fn a_client_that_acknowledges_everything_twice_makes_nobody_spin() {
    let mut client = Client::new(world(&[("a", "1")]));
    client.hold(&["a"]);
    let mut answers = 0;
    for step in 0..10_000_u64 {
        client.now = Duration::from_millis(step);
        let outcome = client.send(&["a"], None);
        let woken = client.session.on_wake(&client.snapshot, client.now);
        assert!(outcome.response.is_none() || woken.is_none());
        if let Some(response) = outcome.response.or(woken) {
            answers += 1;
            client.ack(&response);
        }
    }
    // One per pause, and none is lost: the last request is answered when its time has come.
    assert_eq!(answers, 10);
    let at = client.session.wake_at().unwrap();
    assert_eq!(client.session.on_wake(&client.snapshot, at - Duration::from_millis(1)), None);
    assert_eq!(sent(client.session.on_wake(&client.snapshot, at).as_ref()), ["a"]);
    assert_eq!(client.session.wake_at(), None);
}

#[test]
fn a_version_that_is_none_of_ours_is_not_carried_about() {
    for (length, is_kept) in [(64, true), (65, false)] {
        let mut client = Client::new(world(&[]));
        client.version = "v".repeat(length);
        assert_eq!(client.ask(&["a"]), None);
        assert_eq!(format!("{:?}", client.session).contains(&client.version), is_kept, "{length}");
    }
}

#[test]
fn absurd_requests_are_refused() {
    let many = vec!["n".to_owned(); MAX_NAMES + 1];
    let long = vec!["n".repeat(MAX_NAME_BYTES + 1)];
    for (names, refusal) in
        [(&many, InvalidRequest::TooManyNames(MAX_NAMES + 1)), (&long, InvalidRequest::NameTooLong(MAX_NAME_BYTES + 1))]
    {
        let request = Request { names, ..Request::default() };
        assert_eq!(Sotw::new("s").on_request(&request, &world(&[]), Duration::ZERO), Err(refusal));
    }
    let full = vec!["n".repeat(MAX_NAME_BYTES); MAX_NAMES];
    assert_eq!(check(&Request { names: &full, ..Request::default() }), Ok(()));
}

#[test]
fn rule_08_a_star_among_the_names_means_everything_from_then_on() {
    let mut client = Client::new(world(&[("a", "1"), ("b", "1")]));
    let first = client.ask(&["a"]).unwrap();
    client.ack(&first);
    // What is new is sent, and nothing twice.
    let second = client.ask(&["*", "none"]).unwrap();
    assert_eq!((sent(Some(&second)), client.session.wants_everything()), (vec!["b"], true));
    assert_eq!(client.ack(&second).event, Event::Answered(Answer::Ack));
    let third = client.push(world(&[("a", "1"), ("b", "1"), ("c", "1")])).unwrap();
    assert_eq!(sent(Some(&third)), ["c"]);
    client.ack(&third);
    // Who has written it out takes it back by leaving it out.
    assert_eq!(client.ask(&[]), None);
    assert!(!client.session.wants_everything() && client.session.names().count() == 0);
    // Who began without names and writes it later asks for the same.
    let mut client = Client::new(world(&[("a", "1")]));
    let first = client.ask(&[]).unwrap();
    client.ack(&first);
    let outcome = client.send(&["*"], None);
    assert_eq!(outcome.event, Event::Repeated, "no change");
    assert!(client.session.wants_everything());
    client.take(outcome.response);
    assert_eq!(client.send(&[], None).response, None);
    assert!(!client.session.wants_everything(), "and takes it back in the same way");
}
