//! Random histories against the independent [`test_model`](super::test_model).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::test_model::{Content, Entry, Model, NAMES, Wanted, World, content};
use super::*;
use crate::snapshot::{SecretContent, Snapshot, Version};

#[derive(Debug, Clone)]
enum Step {
    /// The client asks for these names with the newest nonce it has seen and the version it holds.
    Subscribe(Vec<usize>),
    /// The client reads all responses and acknowledges, or refuses, the newest.
    Answer(bool),
    /// A request about the response this many before the newest.
    Stale(usize, Vec<usize>),
    /// The last request once more.
    Repeat,
    /// The secret gets this content; 0 removes it.
    Rotate(usize, u8),
    /// The same world arrives once more.
    Identical,
    Reconnect(Vec<usize>),
    Wait(u64),
}

fn names() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..NAMES.len(), 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => names().prop_map(Step::Subscribe),
        5 => any::<bool>().prop_map(Step::Answer),
        1 => (1_usize..4, names()).prop_map(|(back, names)| Step::Stale(back, names)),
        2 => Just(Step::Repeat),
        4 => (0..NAMES.len(), 0_u8..4).prop_map(|(name, content)| Step::Rotate(name, content)),
        2 => (0_u8..4).prop_map(|content| Step::Rotate(1, content)),
        1 => Just(Step::Identical),
        1 => names().prop_map(Step::Reconnect),
        2 => (0_u64..1500).prop_map(Step::Wait),
    ]
}

/// What the client has said about single secrets: by nonces, in no way tied to which response was the newest.
#[derive(Debug, Default)]
struct Said {
    /// Nonce, version of the set, content by name; oldest first.
    responses: Vec<(String, String, Content)>,
    refused: BTreeSet<usize>,
    /// Everything that the client ever said it had applied, outright or by applying a later response.
    applied: BTreeSet<(&'static str, u8)>,
}

impl Said {
    fn request(&mut self, nonce: &str, version: &str, error: bool) {
        let Some(at) = self.responses.iter().position(|(known, ..)| known == nonce) else { return };
        if error {
            self.refused.insert(at);
        } else if self.responses[at].1 == version {
            self.refused.remove(&at);
            let counting = (0..=at).filter(|index| !self.refused.contains(index));
            let carried = counting.flat_map(|index| self.responses[index].2.clone());
            self.applied.extend(carried.map(|(name, (number, _))| (name, number)));
        }
    }

    /// Nothing is taken for applied that the client did not say; an ACK of the newest is believed for all it carried.
    fn check(&self, session: &Sotw, event: &Event) {
        let version = |name: &str, number: u8| content(name, number).version();
        for (name, last) in session.last_answers() {
            let known = |version_of: Version| {
                self.applied.iter().any(|(of, content)| **of == **name && version(of, *content) == version_of)
            };
            assert!(last.acked.is_none_or(known), "{name} {last:?} {self:?}");
        }
        if *event == Event::Answered(Answer::Ack) {
            for (name, (content, is_fallback)) in &self.responses.last().unwrap().2 {
                if let Some(last) = session.last_answers().get(*name) {
                    assert_eq!(last.acked, Some(version(name, *content)), "{name}");
                    assert!(last.nacked.is_none() || *is_fallback, "{name} {last:?}");
                }
            }
        }
    }
}

struct Play {
    session: Sotw,
    model: Model,
    said: Said,
    world: World,
    now: Duration,
    streams: usize,
    last_names: Vec<usize>,
    seen_nonces: BTreeSet<String>,
    versions: BTreeMap<Vec<(&'static str, u8)>, String>,
    applied: String,
}

impl Play {
    fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.world.iter().map(|(name, number)| (*name, content(name, *number))))
    }

    fn request(&mut self, picks: &[usize], nonce: &str, version: &str, error: bool) {
        let list: Vec<String> = picks.iter().map(|pick| NAMES[*pick].to_owned()).collect();
        let wanted: Wanted = picks.iter().map(|pick| NAMES[*pick]).collect();
        let request = Request { type_url: "", names: &list, nonce, version, error: error.then_some("error") };
        let outcome = self.session.on_request(&request, &self.snapshot(), self.now).unwrap();
        assert_eq!(outcome.event, self.model.request(&wanted, nonce, version, error, self.now));
        self.said.request(nonce, version, error);
        self.said.check(&self.session, &outcome.event);
        if outcome.event == Event::StaleNonce {
            assert_eq!(outcome.response, None);
        } else {
            self.last_names = picks.to_vec();
            self.compare(outcome.response);
        }
    }

    fn compare(&mut self, response: Option<Response>) {
        let pending = self.model.pending(&self.world);
        let sent: Vec<&str> = response.iter().flat_map(|response| &response.names).map(|name| &**name).collect();
        assert_eq!(sent, pending.iter().copied().collect::<Vec<_>>(), "{:?}", self.model.history);
        let Some(response) = response else { return };
        assert!(self.seen_nonces.insert(response.nonce.clone()), "nonces are never used twice");
        let wanted = self.model.wanted().unwrap();
        let in_set = |name: &&str| wanted.as_ref().is_none_or(|names| names.contains(name));
        let target = |name: &&'static str| self.model.target(name, self.world[name]);
        let set: Vec<_> = self.world.keys().filter(|name| in_set(name)).map(|name| (*name, target(name).0)).collect();
        let version = response.version.to_string();
        assert_eq!(self.versions.entry(set).or_insert_with(|| version.clone()), &version, "rule 10");
        let carried: Content = pending.iter().map(|name| (*name, target(name))).collect();
        for (name, (number, is_fallback)) in &carried {
            let sent = response.content(name, &self.snapshot()).map(SecretContent::version);
            assert_eq!(sent, Some(content(name, *number).version()), "{name}");
            assert_eq!(response.older.contains_key(*name), *is_fallback, "{name}");
        }
        self.model.all_versions.push(version.clone());
        self.said.responses.push((response.nonce.clone(), version.clone(), carried.clone()));
        self.model.history.push(Entry::Sent(carried));
        self.model.nonces.push(response.nonce);
        (self.model.newest_version, self.model.newest_acked) = (version, false);
    }

    fn newest_nonce(&self) -> String {
        self.model.nonces.last().cloned().unwrap_or_default()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Subscribe(picks) => self.request(&picks, &self.newest_nonce(), &self.applied.clone(), false),
            Step::Answer(good) => {
                if good {
                    self.applied.clone_from(&self.model.newest_version);
                }
                let picks = self.last_names.clone();
                self.request(&picks, &self.newest_nonce(), &self.applied.clone(), !good);
            }
            Step::Stale(back, picks) => {
                let at = self.model.nonces.len().checked_sub(1 + back);
                let Some(nonce) = at.and_then(|at| self.model.nonces.get(at)).cloned() else { return };
                self.request(&picks, &nonce, &self.applied.clone(), false);
            }
            Step::Repeat => {
                let picks = self.last_names.clone();
                self.request(&picks, &self.newest_nonce(), &self.applied.clone(), false);
            }
            Step::Rotate(name, content) => {
                if content == 0 {
                    // A secret that comes back after it was gone is outside of what the model speaks of.
                    return;
                }
                self.world.insert(NAMES[name], content);
                let response = self.session.on_snapshot(&self.snapshot());
                self.compare(response);
            }
            Step::Identical => {
                assert_eq!(self.session.on_snapshot(&self.snapshot()), None);
                assert_eq!(self.model.pending(&self.world), BTreeSet::new());
            }
            Step::Reconnect(picks) => {
                self.streams += 1;
                self.session = Sotw::new(format!("s{}", self.streams));
                self.model = Model::default();
                self.said = Said::default();
                self.request(&picks, "", &self.applied.clone(), false);
            }
            Step::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                let owed = self.model.owed;
                self.model.refetch_if_owed(self.now);
                assert_eq!(self.session.wake_at().is_some(), owed);
                let response = self.session.on_wake(&self.snapshot(), self.now);
                self.compare(response);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_answered_as_the_rules_say(first in names(), steps in prop::collection::vec(step(), 0..60)) {
        let mut play = Play {
            session: Sotw::new("s0"),
            model: Model::default(),
            said: Said::default(),
            world: World::from([("default", 1)]),
            now: Duration::ZERO,
            streams: 0,
            last_names: Vec::new(),
            seen_nonces: BTreeSet::new(),
            versions: BTreeMap::new(),
            applied: String::new(),
        };
        play.request(&first, "", "", false);
        for step in steps {
            play.step(step);
        }
    }
}
