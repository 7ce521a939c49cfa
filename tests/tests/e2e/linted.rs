//! Everything the CA signs, judged by a linter of RFC 5280: leaves, serving certificate, issuing CA, root, lists.

use rustls::version::TLS13;
use signet_core::key_type::KeyType;
use signet_core::pem::pem;
use signet_tests::client::ask::Ask;
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::certify::Client;
use signet_tests::client::csr::{self, Made};
use signet_tests::client::{keys, tls};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::linter;
use signet_tests::stage::CLIENT_ID;

fn requests() -> Outcome<[Made; 2]> {
    Ok([csr::like_ztunnel(Some(CLIENT_ID))?, csr::like_istio_agent(CLIENT_ID)?])
}

/// The certificates that the CA shows to whoever connects.
async fn serving(dev: &Dev) -> Outcome<String> {
    let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
    let stream = tls::connect(dev.listen, config).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    ensure(!shown.is_empty(), || "the CA shows no certificate".to_owned())?;
    Ok(shown.iter().map(|der| pem(der)).collect())
}

#[tokio::test]
async fn what_authorities_of_each_kind_of_key_sign_passes_the_linter() -> Outcome {
    // RSA-4096 differs from RSA-2048 in nothing that a linter reads, and is slow to make.
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let dev = Dev::plain()?;
        dev.forget_authority()?;
        dev.set_ca("authority.key_type", key_type.as_str())?;
        let mut ca = dev.start_ca().await?;
        let (client, token) = (Client::connect(&dev).await?, dev.token("client")?);
        let mut stream = BundleStream::with_token(&dev, &token).await.map_err(Failure::while_doing("open"))?;
        let mut serials = Vec::new();
        for made in requests()? {
            let reply = client.issued(&Ask::new(&made.csr, &token)).await?;
            serials.push(keys::serial(&keys::facts(&reply[0])?));
            // Leaf, issuing CA, and the root as the last element.
            ensure(reply.len() == 3, || format!("{reply:?}"))?;
            linter::certificates(&reply.concat())?;
        }
        linter::certificates(&serving(&dev).await?)?;
        ca.operator().revoke_certificate(&serials[0], "key_compromise")?;
        let lists = loop {
            let update = stream.next().await?;
            if !update.lists.is_empty() {
                break update.lists;
            }
            stream.acknowledge(&update).await?;
        };
        // One of the root, one of the issuing CA.
        ensure(lists.matches("BEGIN X509 CRL").count() == 2, || lists.clone())?;
        linter::lists(&lists)?;
        ca.process.stop().await?;
    }
    Ok(())
}
