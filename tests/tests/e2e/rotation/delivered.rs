//! A reply counts when it was handed over, not when its record was kept.

use signet_proto::admin::v1alpha1::next::Step;
use signet_tests::client::admin::{active_root, is_root};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::raw::{Answering, Raw, framed, head};
use signet_tests::client::{csr, tls};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};

use super::coverage::{TWO, holds};
use super::{SOON, active, holder, installation, now_at, prepared, settled, until};

/// A call whose answer has room for so many bytes.
async fn call(dev: &Dev, workload: &str, room: u32) -> Outcome<(Raw, Answering)> {
    let config = tls::config(&dev.text("root-cert.pem")?, &[&rustls::version::TLS13], &["h2"])?;
    let mut connection = Raw::narrow(dev.listen, config, room).await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, "").request()?.into_inner();
    let authorization = format!("Bearer {}", dev.token(workload)?);
    let begun = connection.begin(head(&[("authorization", &authorization)])?).await?;
    let answer = begun.answer(framed(&prost::Message::encode_to_vec(&ask))).await?;
    Ok((connection, answer))
}

/// A holder that learns by replies and knows one root, and the next root on its way: what signs, and what is to.
async fn rotating(dev: &Dev, ca: &Ca) -> Outcome<(String, String)> {
    let admin = ca.admin()?;
    Client::connect(dev).await?.certificate(dev, "client").await?;
    let old = settled(&admin, 1).await?;
    ca.operator().rotate()?;
    Ok((old, prepared(&admin).await?))
}

#[tokio::test]
async fn a_reply_that_has_no_room_is_waited_for_until_it_has() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let (old, new) = rotating(&dev, &ca).await?;
    let admin = ca.admin()?;
    let (mut connection, mut answer) = call(&dev, "client", 1).await?;
    assert_eq!(answer.read().await?, 1);
    holds(&admin, &old).await?;
    assert_eq!(ca.operator().behind()?, [CLIENT_ID]);
    connection.widen();
    answer.ended().await?;
    active(&admin, &new).await
}

#[tokio::test]
async fn a_rotation_with_a_lost_reply_is_not_activated_without_force() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let (old, new) = rotating(&dev, &ca).await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    // One is lost before its first byte, one after it; both are on record as issued, once.
    for room in [0, 1] {
        let (connection, mut answer) = call(&dev, "client", room).await?;
        if room > 0 {
            answer.read().await?;
        }
        drop((answer, connection));
    }
    holds(&admin, &old).await?;
    assert_eq!(ca.audit(&["--outcome", "issued"])?.iter().filter(|one| one["kind"] == "certificate").count(), 3);
    assert_eq!(operator.behind()?, [CLIENT_ID]);
    let told = operator.refused(&["authority", "activate", &new])?;
    ensure(told.contains(CLIENT_ID), || format!("the laggard is not named: {told}"))?;
    operator.done(&["authority", "activate", &new, "--force", "--reason", "it cannot ask again"])?;
    active(&admin, &new).await
}

#[tokio::test]
async fn whoever_has_got_nothing_is_no_holder_and_whoever_has_got_all_is_one_whatever_comes_after() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let (connection, answer) = call(&dev, "server", 0).await?;
    let listed = holder(&admin, SERVER_ID).await?;
    assert_eq!(listed.bundle_sequence, 0, "it waits");
    drop((answer, connection));
    let gone = async || holder(&admin, SERVER_ID).await.is_err().then_some(());
    eventually("the holder to go", SOON, gone).await?;
    // Its certificate counts for as long as it lasts all the same.
    let root = now_at(&admin).await?.authorities.into_iter().find(is_root);
    let needed = root.and_then(|root| root.needed_until).map_or(0, |at| at.seconds);
    let ends = listed.not_after.map_or(0, |at| at.seconds);
    ensure(needed >= ends, || format!("needed until {needed}, not {ends}"))?;
    // All of it, and then a reset.
    let (mut connection, mut answer) = call(&dev, "client", 65_535).await?;
    answer.ended().await?;
    drop(answer);
    connection.ping().await?;
    let counted = async || {
        let (found, now) = (holder(&admin, CLIENT_ID).await.ok()?, now_at(&admin).await.ok()?);
        (found.bundle_sequence == now.bundle_sequence).then_some(())
    };
    eventually("the reply to count", SOON, counted).await
}

#[tokio::test]
async fn a_rotation_says_until_when_it_waits_after_the_last_holder_was_counted() -> Outcome {
    let dev = installation("1h", &TWO)?;
    dev.set_ca(signet_tests::harness::rotation::keys::PROPAGATION, "10s")?;
    let ca = dev.start_ca().await?;
    let (old, new) = rotating(&dev, &ca).await?;
    let admin = ca.admin()?;
    let before = signet_tests::client::token::now();
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let told = until(&admin, "the time of activation", SOON, |rotation| {
        let next = rotation.next.as_ref().filter(|next| next.step() == Step::Activate && next.holders == 0)?;
        // The end of all of it is later: the former root drains.
        next.at.filter(|at| rotation.expected_at.is_some_and(|end| end.seconds > at.seconds)).map(|at| at.seconds)
    });
    let at = told.await?;
    ensure(at >= before + 10, || format!("{} s after the holder was counted", at - before))?;
    assert_eq!(active_root(&now_at(&admin).await?), old);
    active(&admin, &new).await?;
    let now = signet_tests::client::token::now();
    ensure(now + 1 >= at, || format!("activated {} s too early", at - now))
}
