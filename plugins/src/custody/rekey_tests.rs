//! Sealing keys that change under replicas at work.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signet_core::authority::KeyId;
use signet_core::key_type::KeyType;
use signet_core::seams::custody::{CustodyError, KeyCustody};
use signet_core::seams::store::SealedKeys;

use super::keyring::{Keyring, SealingKeySource, TestSource};
use super::{KeyEncryptionKey, Rekeyed, SealedCustody, sealed_by};
use crate::store::memory::MemoryStore;

fn line(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

fn file(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| line(*byte) + "\n").collect()
}

fn sealing(byte: u8) -> super::SealingKeyId {
    KeyEncryptionKey::from_file_bytes(line(byte).as_bytes()).unwrap().id()
}

fn id(name: &str) -> KeyId {
    KeyId::parse(name).unwrap()
}

/// One storage, one key file, and any number of processes on them.
struct World {
    store: Arc<MemoryStore>,
    source: TestSource,
}

impl World {
    fn new(bytes: &[u8]) -> Self {
        Self { store: Arc::new(MemoryStore::new()), source: TestSource(Arc::new(Mutex::new(file(bytes)))) }
    }

    fn set(&self, bytes: &[u8]) {
        *self.source.0.lock().unwrap() = file(bytes);
    }

    async fn process(&self) -> SealedCustody {
        let known = self.source.read().await.unwrap();
        SealedCustody::new(Arc::clone(&self.store) as _, Arc::new(Keyring::new(self.source.clone(), known)))
    }

    async fn counts(&self) -> Vec<(Option<super::SealingKeyId>, u64)> {
        sealed_by(&*self.store).await.unwrap().into_iter().collect()
    }
}

#[tokio::test]
async fn replicas_open_and_make_keys_at_every_moment_of_a_change() {
    let world = World::new(&[1]);
    let running = world.process().await;
    for name in ["a", "b", "c"] {
        running.create(&id(name), KeyType::EcP256).await.unwrap();
    }
    // The new key is put in front; nothing is sealed with it yet.
    world.set(&[2, 1]);
    running.open(&id("a")).await.unwrap();
    // One that is made now is sealed with the new one, by a process that knew only the old one.
    running.create(&id("d"), KeyType::EcP256).await.unwrap();
    assert_eq!(world.counts().await.iter().map(|(_, count)| count).sum::<u64>(), 4);
    assert!(world.counts().await.contains(&(Some(sealing(2)), 1)));
    // Half of it is done when it is cut off.
    let (other, rekeying) = (world.process().await, world.process().await);
    let sealed = world.store.fetch(&id("a")).await.unwrap().unwrap();
    let anew = rekeying.plain(&id("a"), &sealed).await.unwrap();
    let anew = rekeying.keys.known().newest().seal(&id("a"), &anew).unwrap();
    assert!(world.store.reseal(&id("a"), &sealed, &anew).await.unwrap());
    for name in ["a", "b", "c", "d"] {
        for process in [&running, &other] {
            process.open(&id(name)).await.unwrap();
        }
    }
    let done = rekeying.rekey().await.unwrap();
    assert_eq!(done, Rekeyed { key: sealing(2), resealed: 2, all: 4 });
    assert_eq!(world.counts().await, [(Some(sealing(2)), 4)]);
    assert_eq!(rekeying.rekey().await.unwrap().resealed, 0, "again: nothing to do");
    // The former one may go.
    world.set(&[2]);
    let fresh = world.process().await;
    for name in ["a", "b", "c", "d"] {
        assert!(running.open(&id(name)).await.is_ok() && fresh.open(&id(name)).await.is_ok());
    }
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_with_the_key_that_it_needs_and_everything_else_is_done() {
    let world = World::new(&[1]);
    world.process().await.create(&id("lost"), KeyType::EcP256).await.unwrap();
    world.set(&[2]);
    world.process().await.create(&id("kept"), KeyType::EcP256).await.unwrap();
    world.set(&[3, 2]);
    let error = world.process().await.rekey().await.unwrap_err();
    let CustodyError::Locked { id: locked, needs, looked_in } = &error else { panic!("{error}") };
    assert_eq!((locked, needs), (&id("lost"), &sealing(1).to_string()));
    assert!(looked_in.contains(&sealing(3).to_string()), "{looked_in}");
    assert!(world.counts().await.contains(&(Some(sealing(3)), 1)));
    // As soon as that key is back, it goes on.
    world.set(&[3, 2, 1]);
    assert_eq!(world.process().await.rekey().await.unwrap().resealed, 1);
}

#[tokio::test]
async fn two_at_once_do_it_once() {
    let world = World::new(&[1]);
    let process = world.process().await;
    for n in 0..20 {
        process.create(&id(&format!("k{n}")), KeyType::EcP256).await.unwrap();
    }
    world.set(&[2, 1]);
    let (one, other) = (world.process().await, world.process().await);
    let (one, other) = tokio::join!(one.rekey(), other.rekey());
    assert_eq!(one.unwrap().resealed + other.unwrap().resealed, 20);
    assert_eq!(world.counts().await, [(Some(sealing(2)), 20)]);
}

#[tokio::test]
async fn a_key_of_another_name_does_not_open_under_this_one() {
    let world = World::new(&[1, 2]);
    let process = world.process().await;
    process.create(&id("a"), KeyType::EcP256).await.unwrap();
    let sealed = world.store.fetch(&id("a")).await.unwrap().unwrap();
    let mut renamed = sealed.clone();
    renamed[1..9].copy_from_slice(&hex(&sealing(2).to_string()));
    assert!(world.store.reseal(&id("a"), &sealed, &renamed).await.unwrap());
    assert_eq!(process.open(&id("a")).await.err(), Some(CustodyError::Unreadable(id("a"))));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}
