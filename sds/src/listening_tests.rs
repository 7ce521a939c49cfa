//! What a service hears of its streams, and when content counts as settled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use super::*;
use crate::snapshot::SecretContent;

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
    until(|| world.streams.views().is_empty()).await;
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
async fn content_is_settled_once_every_stream_that_asks_for_it_has_applied_it() {
    let world = World::start(10);
    world.publish(&[("default", "1"), ("ROOTCA", "1")]);
    let mut changes = world.streams.changes();
    let mut reached = async |expected: Settled| {
        let version = world.snapshots.borrow().secret("ROOTCA").unwrap().version();
        within(async {
            while world.streams.settled("ROOTCA", version).0 != expected {
                changes.changed().await.unwrap();
            }
        })
        .await;
    };
    reached(Settled::Yes).await;
    let mut client = world.client().await;
    let mut other = Conversation::open(&mut client, ask(&["default"])).await.unwrap();
    let mut one = Conversation::open(&mut client, ask(&["ROOTCA"])).await.unwrap();
    let mut all = Conversation::open(&mut client, ask(&[])).await.unwrap();
    let (_, first, everything) = (other.next().await, one.next().await, all.next().await);
    reached(Settled::Waiting(2)).await;
    one.answer(&["ROOTCA"], &first, None).await;
    reached(Settled::Waiting(1)).await;
    all.answer(&[], &everything, Some("no")).await;
    reached(Settled::Refused("no".into())).await;
    all.answer(&[], &everything, None).await;
    reached(Settled::Yes).await;
    // New content is unsettled from the moment it is published; a stream that ends is no longer waited for.
    world.publish(&[("default", "1"), ("ROOTCA", "2")]);
    reached(Settled::Waiting(2)).await;
    let second = one.next().await;
    one.answer(&["ROOTCA"], &second, None).await;
    reached(Settled::Waiting(1)).await;
    drop(all);
    reached(Settled::Yes).await;
    one.answer(&[], &second, None).await;
    until(|| world.streams.views().iter().all(|view| !view.names.contains(&"ROOTCA".into()))).await;
    world.publish(&[("default", "1"), ("ROOTCA", "3")]);
    reached(Settled::Yes).await;
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
    let settled = |at: usize| world.streams.settled("ROOTCA", contents[at].version()).0;
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
    // What opens a stream bears a mark, so that no proxy takes it for what it has refused on another stream.
    assert_eq!(trusted_ca(&first).split_once('\n').unwrap(), ("# stream 0, 0", trusted_ca(&back).as_str()));
    assert!(trusted_ca(&second) != trusted_ca(&back) && !trusted_ca(&second).contains('#'));
    talk.answer(&["ROOTCA"], &back, None).await;
    until(|| world.counts.acked.load(Ordering::SeqCst) == 2).await;
    assert_eq!((settled(1), settled(0)), (Settled::Refused("no".into()), Settled::Yes));
    let view = world.streams.views().remove(0);
    assert_eq!((view.acked_version, view.nacks, view.last_nack.unwrap().0.as_str()), (first.version_info, 1, "no"));
    publish(2);
    let third = talk.next().await;
    talk.answer(&["ROOTCA"], &third, None).await;
    until(|| world.told.0.lock().unwrap().len() == 3).await;
    let [one, two, three] = contents.each_ref().map(SecretContent::version);
    let expected = [format!("applied {one}"), format!("refused {two} no"), format!("applied {three}")];
    assert_eq!(*world.told.0.lock().unwrap(), expected.map(|text| format!("ROOTCA {text}")));
    // Another stream of a client that has applied this, and of one that has not.
    for (version_info, mark) in [(third.version_info.as_str(), false), ("", true), (back.version_info.as_str(), true)] {
        let request = DiscoveryRequest { version_info: version_info.to_owned(), ..ask(&["ROOTCA"]) };
        let opening = Conversation::open(&mut client, request).await.unwrap().next().await;
        assert_eq!(trusted_ca(&opening).starts_with("# stream"), mark, "{version_info}");
        let plain = trusted_ca(client.fetch_secrets(ask(&["ROOTCA"])).await.unwrap().get_ref());
        assert!(trusted_ca(&opening).ends_with(&plain));
    }
}
