//! A witness in memory, which verifies what it is sent as the specification says, and lies when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use signet_core::digest::{hex, sha256};
use signet_core::seams::witness::{Witness, WitnessReply, WitnessUnreachable};
use signet_core::transparency::{Checkpoint, Hash, Note, Signature, VerifierKey, empty_root, verify_consistency};

use super::Watcher;

/// What it says instead of what it should.
#[derive(Debug, Clone)]
pub(super) enum Lie {
    Down,
    Says(u16, String),
    /// Cosigns with another key of the same name.
    OtherKey,
    /// Cosigns another text with its own key.
    OtherText,
    /// Cosigns, beside lines of people whom nobody knows.
    Strangers,
}

#[derive(Default)]
struct Seen {
    stands: Option<(u64, Hash)>,
    lies: VecDeque<Lie>,
    requests: Vec<(u64, u64)>,
}

pub(super) struct TestWitness {
    name: String,
    pair: Ed25519KeyPair,
    other: Ed25519KeyPair,
    log: VerifierKey,
    seen: Mutex<Seen>,
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref()).unwrap()
}

fn verifier(name: &str, pair: &Ed25519KeyPair) -> VerifierKey {
    let key = [&[4], pair.public_key().as_ref()].concat();
    let id = hex(&sha256(&[name.as_bytes(), b"\n", &key].concat())[..4]);
    VerifierKey::parse(&format!("{name}+{id}+{}", STANDARD.encode(key))).unwrap()
}

/// The time that they all say.
pub(super) const AT: i64 = 1_700_000_000;

impl TestWitness {
    pub(super) fn new(name: &str, log: &VerifierKey) -> Arc<Self> {
        let seen = Mutex::default();
        Arc::new(Self { name: name.to_owned(), pair: pair(), other: pair(), log: log.clone(), seen })
    }

    pub(super) fn key(&self) -> VerifierKey {
        verifier(&self.name, &self.pair)
    }

    pub(super) fn watcher(self: &Arc<Self>) -> Watcher {
        Watcher { name: self.name.clone(), key: self.key(), way: Arc::clone(self) as _ }
    }

    pub(super) fn lies(&self, lies: impl IntoIterator<Item = Lie>) {
        self.seen.lock().unwrap().lies.extend(lies);
    }

    /// Old and new sizes that it was asked with, since the last time.
    pub(super) fn requests(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.seen.lock().unwrap().requests)
    }

    pub(super) fn stands(&self) -> u64 {
        self.seen.lock().unwrap().stands.map_or(0, |(size, _)| size)
    }

    fn line(&self, text: &str, pair: &Ed25519KeyPair) -> Signature {
        let signed = pair.sign(format!("cosignature/v1\ntime {AT}\n{text}").as_bytes());
        let bytes = [&AT.to_be_bytes()[..], signed.as_ref()].concat();
        Signature { name: self.name.clone(), id: verifier(&self.name, &self.pair).id(), bytes }
    }

    fn answer(&self, submission: &str) -> (u16, String) {
        let (head, note) = submission.split_once("\n\n").expect("an empty line");
        let mut lines = head.split('\n');
        let old: u64 = lines.next().and_then(|line| line.strip_prefix("old ")).unwrap().parse().unwrap();
        let path: Vec<Hash> = lines.map(|line| STANDARD.decode(line).unwrap().try_into().unwrap()).collect();
        let note = Note::parse(note.as_bytes()).unwrap();
        let checkpoint = Checkpoint::parse(&note.text).unwrap();
        let mut seen = self.seen.lock().unwrap();
        seen.requests.push((old, checkpoint.size));
        let lie = seen.lies.pop_front();
        if let Some(Lie::Says(status, body)) = lie {
            return (status, body);
        }
        if checkpoint.origin != self.log.name {
            return (404, String::new());
        }
        if note.verify(std::slice::from_ref(&self.log)).is_err() {
            return (403, String::new());
        }
        if old > checkpoint.size {
            return (400, String::new());
        }
        let (stands, root) = seen.stands.unwrap_or((0, empty_root()));
        if stands != old {
            return (409, format!("{stands}\n"));
        }
        if !verify_consistency((old, &root), (checkpoint.size, &checkpoint.root), &path) {
            return (422, String::new());
        }
        seen.stands = Some((checkpoint.size, checkpoint.root));
        let line = match lie {
            Some(Lie::OtherKey) => self.line(&note.text, &self.other),
            Some(Lie::OtherText) => self.line("log\n1\nroot\n", &self.pair),
            _ => self.line(&note.text, &self.pair),
        };
        let strangers = Signature { name: "stranger".to_owned(), id: 7, bytes: vec![1; 72] };
        let more = if matches!(lie, Some(Lie::Strangers)) { format!("{strangers}\n") } else { String::new() };
        (200, format!("{more}{line}\n"))
    }
}

#[async_trait]
impl Witness for TestWitness {
    async fn add_checkpoint(&self, submission: String) -> Result<WitnessReply, WitnessUnreachable> {
        let mut is_down = false;
        if let Some(Lie::Down) = self.seen.lock().unwrap().lies.front() {
            is_down = true;
        }
        if is_down {
            self.seen.lock().unwrap().lies.pop_front();
            return Err(WitnessUnreachable("nobody is there".to_owned()));
        }
        let (status, body) = self.answer(&submission);
        Ok(WitnessReply { status, body: body.into_bytes() })
    }
}
