//! Roots that a client refuses, on the wire: with bytes that it must look at, and what it gets after it has come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret;

use super::*;
use crate::snapshot::SecretContent;

const BOTH: [&str; 2] = ["ROOTCA", "default"];

/// What a client does with roots as Envoy does it: it looks at no bytes that it has already, and says yes.
#[derive(Default)]
struct Looking {
    held: BTreeMap<String, Vec<u8>>,
    looked: Vec<Vec<u8>>,
}

impl Looking {
    /// The bytes of the roots of each name in a response; gives whether they are new.
    fn takes(&mut self, response: &DiscoveryResponse) -> bool {
        let mut new = false;
        for (name, bytes) in roots_in(response) {
            if self.held.insert(name, bytes.clone()).as_ref() != Some(&bytes) {
                self.looked.push(bytes);
                new = true;
            }
        }
        new
    }
}

fn roots_in(response: &DiscoveryResponse) -> Vec<(String, Vec<u8>)> {
    let secrets = response.resources.iter().map(|any| Secret::decode(any.value.as_slice()).unwrap());
    let roots = |secret: Secret| match secret.r#type {
        Some(secret::Type::ValidationContext(context)) => match context.trusted_ca.unwrap().specifier.unwrap() {
            Specifier::InlineBytes(bytes) => Some((secret.name, bytes)),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    secrets.filter_map(roots).collect()
}

/// Whether the roots in the response are those of `content`.
fn holds(response: &DiscoveryResponse, content: &SecretContent) -> bool {
    let SecretContent::Validation(validation) = content else { panic!("no roots") };
    let pem = validation.bundle.pem().as_bytes().to_vec();
    let roots = roots_in(response);
    !roots.is_empty() && roots.iter().all(|(_, bytes)| bytes.ends_with(&pem))
}

fn publish(world: &World, roots: &SecretContent) {
    let secrets = [("default", certificate("1", "private")), ("ROOTCA", roots.clone())];
    world.snapshots.send_replace(Arc::new(Snapshot::new(secrets)));
}

fn two() -> [SecretContent; 2] {
    [bundle(1, &[root("old")]), bundle(2, &[root("odd")])]
}

#[tokio::test]
async fn a_client_that_comes_back_and_still_refuses_the_roots_gets_those_that_any_stream_has_applied_last() {
    let world = World::start(10);
    let [old, odd] = two();
    publish(&world, &old);
    let mut client = world.client().await;
    let mut talk = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let first = talk.next().await;
    talk.answer(&["ROOTCA"], &first, None).await;
    until(|| world.counts.acked.load(Ordering::SeqCst) == 1).await;
    publish(&world, &odd);
    let second = talk.next().await;
    assert!(holds(&second, &odd));
    drop(talk);
    // Twice: what it was given back once is not lost by its going away again.
    for _ in 0..2 {
        let mut again = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
        let opening = again.next().await;
        assert!(holds(&opening, &odd), "the newest first");
        again.answer(&["ROOTCA"], &opening, Some("no")).await;
        let back = again.next().await;
        assert!(holds(&back, &old));
        again.answer(&["ROOTCA"], &back, None).await;
        until(|| world.streams.views().last().is_some_and(|view| view.acks == 1)).await;
        let version = world.snapshots.borrow().secret("ROOTCA").unwrap().version();
        assert!(matches!(world.streams.settled("ROOTCA", version).0, Settled::Refused(_)), "on record");
    }
    // Who listens hears of the refusals, and of nothing that would take one back.
    until(|| world.streams.views().is_empty()).await;
    let told = world.told.0.lock().unwrap().clone();
    let words = |word: &str| told.iter().filter(|line| line.contains(word)).count();
    assert_eq!((words("applied"), words("refused"), words("closed")), (1, 2, 3), "{told:?}");
}

#[tokio::test]
async fn what_a_program_applies_is_no_roots_to_go_back_to_for_a_proxy() {
    let world = World::start(10);
    let [old, odd] = two();
    let publish = |roots: &SecretContent| {
        let word = SecretContent::Generic(b"word".as_slice().into());
        world.snapshots.send_replace(Arc::new(Snapshot::new([("word", word), ("ROOTCA", roots.clone())])));
    };
    publish(&old);
    let mut client = world.client().await;
    let mut program = Conversation::open(&mut client, ask(&["ROOTCA", "word"])).await.unwrap();
    let first = program.next().await;
    program.answer(&["ROOTCA", "word"], &first, None).await;
    until(|| world.counts.acked.load(Ordering::SeqCst) == 1).await;
    publish(&odd);
    let mut proxy = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let opening = proxy.next().await;
    proxy.answer(&["ROOTCA"], &opening, Some("no")).await;
    until(|| world.counts.nacked.load(Ordering::SeqCst) == 1).await;
    publish(&bundle(3, &[root("next")]));
    assert!(!holds(&proxy.next().await, &old), "the next content, and nothing before it");
}

#[tokio::test]
async fn refused_roots_are_never_sent_again_in_bytes_that_the_client_need_not_look_at() {
    let world = World::start(10);
    let [_, odd] = two();
    publish(&world, &odd);
    let mut client = world.client().await;
    let mut looking = Looking::default();
    let mut talk = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let first = talk.next().await;
    assert!(looking.takes(&first));
    talk.answer(&["ROOTCA"], &first, Some("no")).await;
    // The name leaves and comes back on the same stream.
    talk.answer(&[], &first, Some("no")).await;
    talk.answer(&["ROOTCA"], &first, Some("no")).await;
    let again = talk.next().await;
    assert!(holds(&again, &odd) && looking.takes(&again));
    drop(talk);
    // On the next stream it comes after the certificate.
    let mut talk = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    let leaf = talk.next().await;
    talk.answer(&BOTH, &leaf, None).await;
    let roots = talk.next().await;
    assert!(holds(&roots, &odd) && looking.takes(&roots));
    assert_eq!(looking.looked.len(), 3);
    drop(talk);
    // And once more, so that marks of different streams are seen to differ where they are not the first.
    let mut talk = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    let leaf = talk.next().await;
    talk.answer(&BOTH, &leaf, None).await;
    assert!(looking.takes(&talk.next().await));
}

#[tokio::test]
async fn roots_that_a_client_has_applied_are_sent_again_in_the_same_bytes() {
    let world = World::start(10);
    let [old, _] = two();
    publish(&world, &old);
    let mut client = world.client().await;
    let mut talk = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let first = talk.next().await;
    talk.answer(&["ROOTCA"], &first, None).await;
    talk.answer(&["ROOTCA"], &first, None).await;
    let again = talk.next().await;
    drop(talk);
    let held = DiscoveryRequest { version_info: first.version_info.clone(), ..ask(&["ROOTCA"]) };
    let mut talk = Conversation::open(&mut client, held).await.unwrap();
    assert_eq!(talk.next().await.resources, again.resources);
    assert_ne!(first.resources, again.resources, "for it did not know them at first");
}
