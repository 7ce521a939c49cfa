//! The bundle stream on the CA's port: who may open it, and what it says.

use rcgen::{CertificateParams, KeyPair, SanType};
use signet_proto::admin::v1alpha1::{
    ChangeAuthorityRequest, LearnsBy, PrepareAuthorityRequest, RollbackAuthorityRequest,
};
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::keys;
use signet_tests::client::sds::{self, subscribe};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::rotation::keys as config;
use signet_tests::stage::SERVER_ID;
use tonic::Code;

use super::{SOON, holder, installation, now_at, settled, streaming_holder};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

fn refused(opened: Result<BundleStream, tonic::Status>) -> Outcome<tonic::Status> {
    opened.err().ok_or_else(|| Failure::unexpected("the stream was opened"))
}

#[tokio::test]
async fn a_token_or_a_certificate_opens_it_and_nothing_else_does() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let _ca = dev.start_ca().await?;
    let bundle = dev.text("root-cert.pem")?;
    let (chain, key) = streaming_holder(&dev, "server").await?;
    let mut by_token =
        BundleStream::with_token(&dev, &dev.token("server")?).await.map_err(Failure::while_doing("open"))?;
    assert_eq!(by_token.next().await?.roots, bundle);
    let by_certificate = BundleStream::with_certificate(&dev, &chain, &key).await;
    let mut by_certificate = by_certificate.map_err(Failure::while_doing("open"))?;
    assert_eq!(by_certificate.next().await?.roots, bundle);
    // Nothing, a bad token, and an expired one.
    let client = signet_tests::client::certify::Client::connect(&dev).await?;
    let nothing = refused(BundleStream::over(client.channel.clone(), &[]).await)?;
    assert_eq!(nothing.code(), Code::Unauthenticated, "{nothing}");
    let bad = refused(BundleStream::with_token(&dev, "bad").await)?;
    assert_eq!(bad.code(), Code::Unauthenticated, "{bad}");
    // A certificate that the bundle does not vouch for: the handshake fails, or the call.
    let (own_key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
    params.subject_alt_names = vec![SanType::URI(SERVER_ID.try_into().unwrap())];
    let forged = params.self_signed(&own_key).unwrap().pem();
    refused(BundleStream::with_certificate(&dev, &forged, &own_key.serialize_pem()).await)?;
    // Secrets of others are not served here.
    let authorization = format!("Bearer {}", dev.token("server")?);
    let headers = [("authorization", authorization.as_str())];
    let mut other = sds::Stream::over(client.channel.clone(), subscribe("x", &["default", "ROOTCA"]), &headers)
        .await
        .map_err(Failure::while_doing("open"))?;
    let response = other.next().await.map_err(Failure::while_doing("read"))?;
    let names: Vec<String> = sds::secrets(&response)?.into_iter().map(|secret| secret.name).collect();
    assert_eq!(names, ["ROOTCA"]);
    Ok(())
}

#[tokio::test]
async fn acknowledgements_by_certificate_count_for_the_holder_of_that_certificate() -> Outcome {
    let dev = installation("1h", &TWO)?;
    dev.set_ca(config::PROPAGATION, "1h")?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let (chain, key) = streaming_holder(&dev, "server").await?;
    assert_eq!(holder(&admin, SERVER_ID).await?.bundle_sequence, 0, "the reply does not count for one that streams");
    let stream = BundleStream::with_certificate(&dev, &chain, &key).await;
    let mut stream = stream.map_err(Failure::while_doing("open"))?;
    let first = stream.next().await?;
    stream.acknowledge(&first).await?;
    settled(&admin, 1).await?;
    ca.operator().prepare()?;
    let second = stream.until(first.sequence + 1).await?;
    assert_eq!(keys::ids(&second.roots)?.len(), 2);
    assert_eq!(second.sequence, now_at(&admin).await?.bundle_sequence);
    stream.acknowledge(&second).await?;
    let counted = async || (holder(&admin, SERVER_ID).await.ok()?.bundle_sequence == second.sequence).then_some(());
    signet_tests::harness::process::eventually("the acknowledgement", SOON, counted).await?;
    assert_eq!(holder(&admin, SERVER_ID).await?.learns_by(), LearnsBy::Acknowledged);
    Ok(())
}

#[tokio::test]
async fn renewal_ends_no_stream_and_unchanged_content_is_not_sent_again() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let _ca = dev.start_ca().await?;
    streaming_holder(&dev, "server").await?;
    let stream = BundleStream::with_token(&dev, &dev.token("server")?).await;
    let mut stream = stream.map_err(Failure::while_doing("open"))?;
    let first = stream.next().await?;
    stream.acknowledge(&first).await?;
    // A new certificate of the same holder changes nothing in the bundle.
    streaming_holder(&dev, "server").await?;
    let more = tokio::time::timeout(std::time::Duration::from_secs(2), stream.next()).await;
    ensure(more.is_err(), || format!("unchanged content was sent again: {more:?}"))
}

/// Whoever has changed something looks at what became of it at once, and so do its scripts.
#[tokio::test]
async fn a_stream_opened_after_a_change_shows_it_at_once() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let root = settled(&admin, 0).await?;
    let client = signet_tests::client::certify::Client::connect(&dev).await?;
    let authorization = format!("Bearer {}", dev.token("server")?);
    let headers = [("authorization", authorization.as_str())];
    let mut operator = admin.0.clone();
    let shown = async || {
        let opened = BundleStream::over(client.channel.clone(), &headers).await;
        opened.map_err(Failure::while_doing("open"))?.next().await
    };
    // One upon the other, without a pause in which the CA could catch up by itself.
    for round in 0..5 {
        let prepared = operator.prepare_authority(PrepareAuthorityRequest::default()).await;
        let prepared = prepared.map_err(Failure::while_doing("prepare"))?.into_inner().bundle_sequence;
        assert_eq!(shown().await?.sequence, prepared, "round {round}");
        let taken_back = operator.rollback_authority(RollbackAuthorityRequest::default()).await;
        let taken_back = taken_back.map_err(Failure::while_doing("roll back"))?.into_inner().bundle_sequence;
        assert_eq!(shown().await?.sequence, taken_back, "round {round}");
    }
    // A change that the bundle does not show, and that goes on by itself: nobody holds a certificate.
    let taint = ChangeAuthorityRequest { id: root, force: true, reason: "test".to_owned() };
    operator.taint_authority(taint).await.map_err(Failure::while_doing("taint"))?;
    let update = shown().await?;
    ensure(update.renew.len() == 1, || format!("no order to renew: {:?}", update.renew))
}
