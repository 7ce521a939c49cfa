//! Many at once, callers that go, backends that are slow, away or changed.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use signet_core::certificate::Facts;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::SignError;
use tokio::time::{Instant, timeout};

use super::{Member, TTL, eventually, issue, root};

pub(super) async fn hundred(member: &impl Member) {
    const MANY: usize = 100;
    let root = root(member).await;
    let all = join_all((0..MANY).map(|_| issue(member, &root))).await;
    let mut found = BTreeSet::new();
    for made in all {
        let made = made.unwrap();
        found.insert((Facts::read(&made.issuing.certificate).unwrap().serial, made.key.spki_der().to_vec()));
    }
    // What is given is the same for everybody.
    let is_given = member.authority().offer().await.unwrap().is_some_and(|offer| offer.given().is_some());
    assert_eq!(found.len(), if is_given { 1 } else { MANY });
}

pub(super) async fn cancelled(member: &impl Member) {
    let root = root(member).await;
    for step in 0..40 {
        drop(timeout(Duration::from_micros(step * 250), issue(member, &root)).await);
    }
    // The places that there are, each taken by somebody who goes.
    let gone = (0..20).map(|_| timeout(Duration::from_millis(2), issue(member, &root)));
    drop(join_all(gone).await);
    drop(timeout(Duration::from_millis(1), member.authority().offer()).await);
    issue(member, &root).await.expect("who has gone holds up nobody");
    member.authority().offer().await.unwrap();
}

pub(super) async fn deadline(member: &impl Member) {
    let root = root(member).await;
    issue(member, &root).await.unwrap();
    member.silent(true).await;
    let begun = Instant::now();
    let refused = issue(member, &root).await.err().expect("nobody answers");
    let took = begun.elapsed();
    assert!(matches!(refused, SignError::Unavailable(_)), "{refused:?}");
    // A busy machine is slow, too.
    assert!(took < member.deadline() * 4 + Duration::from_secs(5), "{took:?}: {refused}");
    // What signs asks for the offer, and does not wait for it.
    let begun = Instant::now();
    drop(member.authority().offer().await);
    assert!(begun.elapsed() < member.deadline() * 2 + Duration::from_secs(10), "{:?}", begun.elapsed());
    member.silent(false).await;
    member.rested().await;
    // An answer that comes now is to nobody's question.
    eventually("answer", async || issue(member, &root).await).await;
}

pub(super) async fn slow(member: &impl Member) {
    let root = root(member).await;
    member.silent(true).await;
    let spoken = async {
        tokio::time::sleep(member.deadline() / 5).await;
        member.silent(false).await;
    };
    let (made, ()) = tokio::join!(issue(member, &root), spoken);
    made.expect("an answer within the time is an answer");
    issue(member, &root).await.unwrap();
}

pub(super) async fn outage(member: &impl Member) {
    let root = root(member).await;
    issue(member, &root).await.unwrap();
    for _ in 0..2 {
        member.away(true).await;
        let refused = issue(member, &root).await.err().expect("it is away");
        assert!(!matches!(refused, SignError::WrongIssuer | SignError::Failed(_)), "{refused:?}");
        member.away(false).await;
        member.rested().await;
        eventually("end of the outage", async || issue(member, &root).await).await;
        eventually("offer", async || member.authority().offer().await).await;
    }
}

pub(super) async fn rotation(member: &impl Member) {
    let before = root(member).await;
    issue(member, &before).await.unwrap();
    let is_followed = member.authority().offer().await.unwrap().is_some();
    member.rotate().await;
    if !is_followed {
        // Who makes roots on demand has both, for as long as the journal wants.
        let after = member.authority().prepare_root(2, member.now()).await.unwrap();
        assert_ne!(after.id, before.id);
        for root in [&before, &after] {
            member.issue(root, KeyType::EcP256, TTL).await.unwrap();
        }
        return;
    }
    let after = eventually("other root", async || {
        // What waits for another root may have been refused before that was seen.
        member.rested().await;
        let offer = member.authority().offer().await.map_err(|error| error.to_string())?.unwrap();
        let signer = offer.roots.iter().find(|root| root.id == offer.signer).unwrap();
        if signer.id == before.id { Err("it is still the one before".to_owned()) } else { Ok(signer.clone()) }
    })
    .await;
    eventually("issuing CA under the other root", async || {
        member.rested().await;
        issue(member, &after).await
    })
    .await;
    let (key, _) = crate::custody::LocalKey::generate(KeyType::EcP256).await.unwrap();
    let made = member.authority().certify(&before, &key, TTL, member.now()).await;
    assert!(made.is_err(), "certified under a root that is not its own any more");
}

pub(super) async fn credentials(member: &impl Member) {
    let root = root(member).await;
    issue(member, &root).await.unwrap();
    member.replace_credentials().await;
    eventually("issuing CA with the new credentials", async || {
        member.rested().await;
        issue(member, &root).await
    })
    .await;
}
