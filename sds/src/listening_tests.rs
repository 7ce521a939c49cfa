//! What a service hears of its streams, and what all of them together say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use super::*;
use crate::snapshot::SecretContent;

const ACK: Aggregate = Aggregate::Answered(Answer::Ack);

fn nack(text: &str) -> Aggregate {
    Aggregate::Answered(Answer::Nack(text.to_owned()))
}

#[tokio::test]
async fn a_listener_hears_of_each_secret_by_the_versions_of_the_snapshot() {
    let world = World::start(10);
    world.publish(&[("default", "1"), ("ROOTCA", "1")]);
    let version = |name: &str| world.snapshots.borrow().secret(name).unwrap().version();
    let (leaf, roots) = (version("default"), version("ROOTCA"));
    let mut client = world.client().await;
    let both = ["default", "ROOTCA"];
    let mut talk = Conversation::open(&mut client, ask(&both)).await.unwrap();
    let first = talk.next().await;
    talk.answer(&both, &first, None).await;
    until(|| world.told.0.lock().unwrap().len() == 2).await;
    // The roots are pushed, then the leaf before the answer about the roots is there.
    world.publish(&[("default", "1"), ("ROOTCA", "2")]);
    let second = talk.next().await;
    let new_roots = version("ROOTCA");
    world.publish(&[("default", "2"), ("ROOTCA", "2")]);
    let third = talk.next().await;
    talk.answer(&both, &second, Some("bad\nroot")).await;
    talk.answer(&both, &third, None).await;
    until(|| world.told.0.lock().unwrap().len() == 4).await;
    drop(talk);
    until(|| world.ledger.views().is_empty()).await;
    let expected = [
        format!("ROOTCA applied {roots}"),
        format!("default applied {leaf}"),
        format!("ROOTCA refused {new_roots} bad root"),
        format!("default applied {}", version("default")),
        "closed".to_owned(),
    ];
    assert_eq!(*world.told.0.lock().unwrap(), expected);
    assert_eq!((world.counts.acked.load(Ordering::SeqCst), world.counts.nacked.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn content_is_acknowledged_once_every_stream_that_asks_for_it_has_applied_it() {
    let world = World::start(10);
    world.publish(&[("default", "1"), ("ROOTCA", "1")]);
    let mut changes = world.ledger.changes();
    let mut reached = async |expected: Aggregate| {
        let version = world.snapshots.borrow().secret("ROOTCA").unwrap().version();
        within(async {
            while world.ledger.aggregate("ROOTCA", version).0 != expected {
                changes.changed().await.unwrap();
            }
        })
        .await;
    };
    reached(ACK).await;
    let mut client = world.client().await;
    let mut other = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    let mut one = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let mut all = Conversation::open(&mut client, ask(&[])).await.unwrap();
    let (_, first, everything) = (other.next().await, one.next().await, all.next().await);
    reached(Aggregate::Pending(2)).await;
    one.answer(&["ROOTCA"], &first, None).await;
    reached(Aggregate::Pending(1)).await;
    all.answer(&[], &everything, Some("no")).await;
    reached(nack("no")).await;
    all.answer(&[], &everything, None).await;
    reached(ACK).await;
    // New content is pending from the moment it is published; a stream that ends is no longer waited for.
    world.publish(&[("default", "1"), ("ROOTCA", "2")]);
    reached(Aggregate::Pending(2)).await;
    let second = one.next().await;
    one.answer(&["ROOTCA"], &second, None).await;
    reached(Aggregate::Pending(1)).await;
    drop(all);
    reached(ACK).await;
    // Nor is one that asks for it no more, whatever it has applied.
    world.publish(&[("default", "1"), ("ROOTCA", "3")]);
    let third = one.next().await;
    reached(Aggregate::Pending(1)).await;
    one.answer(&[], &DiscoveryResponse { nonce: third.nonce, ..second }, None).await;
    reached(ACK).await;
    world.publish(&[("default", "1"), ("ROOTCA", "4")]);
    reached(ACK).await;
}

#[tokio::test]
async fn who_has_applied_a_content_is_heard_again_when_that_is_asked_for_and_nobody_else() {
    let world = World::start(10);
    world.publish(&[("default", "1"), ("ROOTCA", "1")]);
    let version = world.snapshots.borrow().secret("ROOTCA").unwrap().version();
    let mut client = world.client().await;
    let asked: [&[&str]; 4] = [&["ROOTCA"], &["ROOTCA"], &["ROOTCA"], &["default"]];
    let mut talks = Vec::new();
    for (names, error) in asked.into_iter().zip([Some(None), Some(Some("no")), None, Some(None)]) {
        let mut talk = Conversation::open(&mut client, ask(names)).await.unwrap();
        let first = talk.next().await;
        if let Some(error) = error {
            talk.answer(names, &first, error).await;
        }
        talks.push(talk);
    }
    until(|| world.told.0.lock().unwrap().len() == 3).await;
    world.told.0.lock().unwrap().clear();
    world.ledger.repeat(&"ROOTCA".into(), version);
    assert_eq!(*world.told.0.lock().unwrap(), [format!("ROOTCA applied {version}")]);
    // What it has applied before is over.
    world.publish(&[("default", "1"), ("ROOTCA", "2")]);
    let second = talks[0].next().await;
    talks[0].answer(&["ROOTCA"], &second, None).await;
    until(|| world.told.0.lock().unwrap().len() == 2).await;
    let newest = world.snapshots.borrow().secret("ROOTCA").unwrap().version();
    let repeated = || {
        world.told.0.lock().unwrap().clear();
        for version in [version, newest] {
            world.ledger.repeat(&"ROOTCA".into(), version);
        }
        world.told.0.lock().unwrap().clone()
    };
    assert_eq!(repeated(), [format!("ROOTCA applied {newest}")]);
    drop((talks, client));
    until(|| world.ledger.views().is_empty()).await;
    assert_eq!(repeated(), Vec::<String>::new(), "who has left");
}

#[tokio::test]
async fn a_client_without_a_stream_is_waited_for_like_any_other_until_it_leaves() {
    let world = World::start(10);
    world.publish(&[("ROOTCA", "1")]);
    let version = |content: &str| certificate(content, "private").version();
    let aggregate = |content: &str| world.ledger.aggregate("ROOTCA", version(content)).0;
    let mut changes = world.ledger.changes();
    let files = world.ledger.enter_local("files", "ROOTCA");
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!((aggregate("1"), world.ledger.aggregate("default", version("1")).0), (Aggregate::Pending(1), ACK));
    files.acknowledge(version("1"));
    assert!(changes.has_changed().unwrap());
    assert_eq!((aggregate("1"), aggregate("2")), (ACK, Aggregate::Pending(1)));
    let mut client = world.client().await;
    let mut talk = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    talk.next().await;
    assert_eq!((aggregate("1"), aggregate("2")), (Aggregate::Pending(1), Aggregate::Pending(2)));
    assert_eq!(world.ledger.views()[0].peer, "files");
    assert_eq!(world.counts.open.load(Ordering::SeqCst), 1, "it is no stream");
    drop(files);
    assert_eq!(aggregate("2"), Aggregate::Pending(1));
}

#[test]
fn who_leaves_without_a_content_is_waited_for_within_the_grace() {
    let (grace, version) = (Duration::from_secs(30), certificate("1", "private").version());
    let clock = Arc::new(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
    let ledger = Ledger::new(10, clock, Arc::new(())).with_grace(grace);
    let [stays, leaves] = ["stays", "leaves"].map(|who| ledger.enter_local(who, "ROOTCA"));
    stays.acknowledge(version);
    let left = Instant::now();
    drop(leaves);
    let (aggregate, again) = ledger.aggregate("ROOTCA", version);
    assert_eq!(aggregate, Aggregate::Pending(1));
    assert!(again.unwrap() >= left + grace, "not before the grace is over");
}

/// The text around the roots in a response.
fn trusted_ca(response: &DiscoveryResponse) -> String {
    use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
    let secret = Secret::decode(response.resources[0].value.as_slice()).unwrap();
    let Some(Type::ValidationContext(context)) = secret.r#type else { panic!("no roots") };
    let Some(Specifier::InlineBytes(bytes)) = context.trusted_ca.unwrap().specifier else { panic!("not inline") };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_proxy_that_refuses_roots_gets_those_before_back_and_goes_on_to_count_as_refusing() {
    let world = World::start(10);
    let contents = [1, 2, 3].map(|number| bundle(number, &[root("r")]));
    let publish = |at: usize| {
        world.snapshots.send_replace(Arc::new(Snapshot::new([("ROOTCA", contents[at].clone())])));
    };
    let aggregate = |at: usize| world.ledger.aggregate("ROOTCA", contents[at].version()).0;
    publish(0);
    let mut client = world.client().await;
    let mut talk = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let first = talk.next().await;
    talk.answer(&["ROOTCA"], &first, None).await;
    publish(1);
    let second = talk.next().await;
    talk.answer(&["ROOTCA"], &second, Some("no")).await;
    let back = talk.next().await;
    assert_eq!(back.version_info, first.version_info);
    // What opens a stream has a comment, so that no proxy takes it for what it has refused on another stream.
    assert_eq!(trusted_ca(&first).split_once('\n').unwrap(), ("# stream 0, 0", trusted_ca(&back).as_str()));
    assert!(trusted_ca(&second) != trusted_ca(&back) && !trusted_ca(&second).contains('#'));
    talk.answer(&["ROOTCA"], &back, None).await;
    until(|| world.counts.acked.load(Ordering::SeqCst) == 2).await;
    assert_eq!((aggregate(1), aggregate(0)), (nack("no"), ACK));
    let view = world.ledger.views().remove(0);
    assert_eq!((view.acked_version, view.nacks, view.last_nack.unwrap().0.as_str()), (first.version_info, 1, "no"));
    publish(2);
    let third = talk.next().await;
    talk.answer(&["ROOTCA"], &third, None).await;
    until(|| world.told.0.lock().unwrap().len() == 3).await;
    let [one, two, three] = contents.each_ref().map(SecretContent::version);
    let expected = [format!("applied {one}"), format!("refused {two} no"), format!("applied {three}")];
    assert_eq!(*world.told.0.lock().unwrap(), expected.map(|text| format!("ROOTCA {text}")));
    // Another stream of a client that has applied this, and of one that has not.
    for (version_info, comment) in
        [(third.version_info.as_str(), false), ("", true), (back.version_info.as_str(), true)]
    {
        let request = DiscoveryRequest { version_info: version_info.to_owned(), ..ask(&["ROOTCA"]) };
        let opening = Conversation::open(&mut client, request).await.unwrap().next().await;
        assert_eq!(trusted_ca(&opening).starts_with("# stream"), comment, "{version_info}");
        let plain = trusted_ca(client.fetch_secrets(ask(&["ROOTCA"])).await.unwrap().get_ref());
        assert!(trusted_ca(&opening).ends_with(&plain));
    }
}
