//! Every kind of bad CSR: a clear error, a record, and nothing else happens.

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr::{self, by_openssl};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::judge;
use signet_tests::stage::CLIENT_ID;
use tonic::Code;

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A request that another program made for the identity of the workload `client`.
macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../../../core/src/testdata/csr/", $name, ".csr"))
    };
}

fn openssl(key: &[&str], extensions: &[&str]) -> Outcome<String> {
    Ok(by_openssl(key, "/", extensions)?.csr)
}

fn bad_requests() -> Outcome<Vec<(&'static str, String, &'static str)>> {
    let good = csr::like_ztunnel(Some(CLIENT_ID))?.csr;
    let rsa_1024 = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"];
    let p224 = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"];
    let own = format!("subjectAltName=URI:{CLIENT_ID}");
    let two = format!("subjectAltName=URI:{CLIENT_ID},URI:spiffe://cluster.local/ns/default/sa/admin");
    let dns = format!("subjectAltName=URI:{CLIENT_ID},DNS:localhost");
    Ok(vec![
        ("empty", String::new(), "csr_not_pem"),
        ("not PEM", "hello".into(), "csr_not_pem"),
        ("another label", good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), "csr_not_pem"),
        ("two blocks", format!("{good}{good}"), "csr_not_pem"),
        ("no end", good.lines().take(3).collect::<Vec<_>>().join("\n"), "csr_not_pem"),
        ("truncated", csr::truncated(&good, 30)?, "csr_not_pkcs10"),
        ("broken signature", csr::with_broken_signature(&good)?, "csr_bad_signature"),
        ("ECDSA with SHA-512", sample!("go-p256-sha512").into(), "csr_unsupported_signature"),
        ("RSA-PSS with a long salt", sample!("openssl-pss-salt-max").into(), "csr_unsupported_signature"),
        ("P-521", sample!("go-p521").into(), "csr_weak_key"),
        ("RSA-1024", openssl(rsa_1024, &[&own])?, "csr_weak_key"),
        ("P-224", openssl(p224, &[&own])?, "csr_weak_key"),
        ("Ed25519", openssl(&["-algorithm", "ED25519"], &[&own])?, "csr_weak_key"),
        (
            "another identity",
            csr::like_ztunnel(Some("spiffe://cluster.local/ns/default/sa/admin"))?.csr,
            "csr_names_not_allowed",
        ),
        (
            "another trust domain",
            csr::like_ztunnel(Some("spiffe://evil/ns/default/sa/client"))?.csr,
            "csr_names_not_allowed",
        ),
        ("two identities", openssl(P256, &[&two])?, "csr_names_not_allowed"),
        ("a DNS name", openssl(P256, &[&dns])?, "csr_names_not_allowed"),
        ("CA:TRUE", openssl(P256, &[&own, "basicConstraints=critical,CA:TRUE"])?, "csr_names_not_allowed"),
        ("keyCertSign", openssl(P256, &[&own, "keyUsage=critical,keyCertSign"])?, "csr_names_not_allowed"),
        ("a common name", by_openssl(P256, "/CN=admin", &[&own])?.csr, "csr_names_not_allowed"),
        ("64 KiB", format!("{good}{}", "\n".repeat(64 << 10)), "csr_too_long"),
    ])
}

#[tokio::test]
async fn each_bad_csr_gets_a_clear_error_and_changes_nothing() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let token = dev.token("client")?;
    let mut wrong = Vec::new();
    for (name, csr, reason) in bad_requests()? {
        let before = ca.not_issued(reason).await?;
        let status = match client.call(&Ask::new(&csr, &token)).await {
            Ok(_) => {
                wrong.push(format!("{name}: a certificate was issued"));
                continue;
            }
            Err(status) => status,
        };
        let clear = status.code() == Code::InvalidArgument && status.message().starts_with("CSR signing error (");
        if !clear {
            wrong.push(format!("{name}: {:?}: {}", status.code(), status.message()));
        }
        // Only the first for a reason has a record at once.
        if ca.not_issued(reason).await? < before + 0.5 {
            wrong.push(format!("{name}: not refused for {reason}"));
        }
        if let Err(failure) = ca.refused_for(reason).await {
            wrong.push(format!("{name}: {failure}"));
        }
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))?;
    let issued = ca.audit(&["--outcome", "issued", "--identity", CLIENT_ID])?;
    ensure(issued.is_empty(), || format!("issued: {issued:?}"))?;
    client.certificate(&dev, "client").await?;
    ca.refusals_add_up().await.map(drop)
}

/// So that unknown senders cannot make the CA hold much, a message far too large is refused before it is read.
#[tokio::test]
async fn a_csr_of_one_mebibyte_is_refused_unread() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let huge = "A".repeat(1 << 20);
    let message = client.refused(&Ask::new(&huge, &dev.token("client")?), Code::OutOfRange).await?;
    ensure(message.contains("too large"), || message.clone())?;
    let issued = ca.audit(&["--outcome", "issued", "--identity", CLIENT_ID])?;
    ensure(issued.is_empty(), || format!("issued: {issued:?}"))?;
    client.certificate(&dev, "client").await.map(drop)
}

#[tokio::test]
async fn csr_names_ignore_takes_the_key_and_nothing_else() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("svid.csr_names", "ignore")?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let token = dev.token("client")?;
    let greedy = by_openssl(
        P256,
        "/CN=admin/O=evil",
        &[
            "subjectAltName=URI:spiffe://cluster.local/ns/kube-system/sa/admin,DNS:localhost,IP:127.0.0.1",
            "basicConstraints=critical,CA:TRUE",
            "keyUsage=critical,keyCertSign,cRLSign",
            "extendedKeyUsage=codeSigning",
        ],
    )?;
    let reply = client.issued(&Ask::new(&greedy.csr, &token)).await?;
    judge::workload(&reply, &greedy.csr, CLIENT_ID)?;
    // Proof of possession and key strength are no names.
    let broken = csr::with_broken_signature(&greedy.csr)?;
    client.refused(&Ask::new(&broken, &token), Code::InvalidArgument).await.map(drop)
}

#[tokio::test]
async fn every_accepted_kind_of_key_is_certified() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let token = dev.token("client")?;
    let keys: [&[&str]; 4] = [
        P256,
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
    ];
    for key in keys {
        let made = by_openssl(key, "/", &[&format!("subjectAltName=critical,URI:{CLIENT_ID}")])?;
        let reply = client.issued(&Ask::new(&made.csr, &token)).await?;
        judge::workload(&reply, &made.csr, CLIENT_ID)?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_of_keytool_openssl_go_and_windows_are_certified() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let token = dev.token("client")?;
    for csr in [
        sample!("keytool-ec"),
        sample!("keytool-pss"),
        sample!("openssl-text-newhdr"),
        sample!("go-p384"),
        sample!("windows-certreq-ec"),
        sample!("windows-certreq-rsa-sha1"),
    ] {
        let reply = client.issued(&Ask::new(csr, &token)).await?;
        judge::workload(&reply, csr, CLIENT_ID)?;
    }
    Ok(())
}
