//! Sets of CA files with every defect: refused whole, by file and cause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::atomic::Ordering;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::super::test_pki::{Ca, DAY, Encoding, NOW};
use super::test_world::World;

#[tokio::test]
async fn every_defect_of_a_set_is_refused_by_file_and_cause_without_showing_the_key() {
    let root = Ca::root("root");
    let good = root.below("signer", |_| {});
    let middle = root.below("middle", |_| {});
    let same_name = Ca::root("root");
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let key = good.key_pem(Encoding::Pkcs8);
    let cut = key.lines().take(2).collect::<Vec<_>>().join("\n");
    let with = |change: fn(&mut CertificateParams)| root.below("signer", change);
    let under = |change: fn(&mut CertificateParams)| {
        let middle = root.below("middle", change);
        let signer = middle.below("signer", |_| {});
        (signer, middle)
    };

    type Put = Box<dyn Fn(&World)>;
    let file = |name: &'static str, content: String| -> Put { Box::new(move |world| world.put(name, &content)) };
    let signer = |ca: Ca| -> Put {
        let root = root.clone();
        Box::new(move |world| world.put_set(&ca, &[], &[&root]))
    };
    let chain = |(ca, middle): (Ca, Ca)| -> Put {
        let root = root.clone();
        Box::new(move |world| world.put_set(&ca, &[&middle], &[&root]))
    };
    let table: Vec<(Put, &str)> = vec![
        (file("ca-cert.pem", String::new()), "ca-cert.pem holds no PEM block `CERTIFICATE`"),
        (
            file("ca-cert.pem", "-----BEGIN CERTIFICATE-----\nMII\n".into()),
            "ca-cert.pem: the PEM block that begins in line 1 has no end",
        ),
        (
            file("ca-cert.pem", good.pem().replace("MII", "MIA")),
            "ca-cert.pem: the certificate that begins in line 1 cannot be used: it is not a certificate in DER",
        ),
        (file("ca-key.pem", middle.key_pem(Encoding::Pkcs8)), "ca-key.pem is not the key of ca-cert.pem"),
        (file("ca-key.pem", String::new()), "ca-key.pem holds no PEM block `PRIVATE KEY`"),
        (file("ca-key.pem", cut), "ca-key.pem is damaged"),
        (file("ca-key.pem", ed25519), "ca-key.pem is damaged, of an unsupported kind"),
        (file("ca-key.pem", format!("{key}{key}")), "ca-key.pem holds more than one private key"),
        (file("root-cert.pem", String::new()), "root-cert.pem holds no PEM block `CERTIFICATE`"),
        (file("root-cert.pem", root.pem() + "-----BEGIN CERTIFICATE-----\n"), "has no end"),
        (file("root-cert.pem", root.pem().repeat(65)), "root-cert.pem holds more than 64 certificates"),
        (
            file("root-cert.pem", root.pem() + &root.leaf().pem()),
            "root-cert.pem: `CN=leaf` is not the certificate of a CA",
        ),
        (
            file("root-cert.pem", Ca::root("other").pem()),
            "the issuer of `CN=signer`, which is `CN=root`, is in neither cert-chain.pem nor root-cert.pem",
        ),
        (
            file("root-cert.pem", same_name.pem()),
            "ca-cert.pem: `CN=signer` is not signed by the key of `CN=root` in root-cert.pem",
        ),
        (
            file("cert-chain.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".into()),
            "cert-chain.pem: the PEM block that begins in line 1 is damaged",
        ),
        (signer(middle.below("signer", |_| {})), "which is `CN=middle`, is in neither"),
        (signer(good.with_broken_signature()), "ca-cert.pem: `CN=signer` is not signed by the key of `CN=root`"),
        (
            chain((under(|_| {}).0, root.below("middle", |_| {}).with_broken_signature())),
            "`CN=signer` is not signed by the key of `CN=middle`",
        ),
        (
            signer(same_name.below("signer", |params| params.use_authority_key_identifier_extension = false)),
            "`CN=signer` is not signed by the key of `CN=root` in root-cert.pem",
        ),
        (signer(root.leaf()), "ca-cert.pem: `CN=leaf` is not the certificate of a CA"),
        (
            signer(with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign])),
            "ca-cert.pem: `CN=signer` is not the certificate of a CA",
        ),
        (signer(with(|params| params.not_after = NOW)), "ca-cert.pem: `CN=signer` ended at 2026-03-01T12:00:00Z"),
        (signer(with(|params| params.not_before = NOW + DAY)), "ca-cert.pem: `CN=signer` starts only at 2026-03-02"),
        (
            signer(with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
            "extendedKeyUsage",
        ),
        (
            signer(with(|params| params.distinguished_name = DistinguishedName::new())),
            "ca-cert.pem: the CA certificate's subject is empty",
        ),
        (chain(under(|params| params.not_after = NOW)), "cert-chain.pem: `CN=middle` ended"),
        (
            chain(under(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))),
            "cert-chain.pem: `CN=middle` allows fewer CAs below it",
        ),
        (
            chain(under(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature])),
            "cert-chain.pem: `CN=middle` is not the certificate of a CA",
        ),
        (
            chain(under(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])),
            "cert-chain.pem: `CN=middle` is restricted",
        ),
        (
            chain((middle.below("signer", |_| {}), root.below("middle", |_| {}))),
            "`CN=signer` is not signed by the key of `CN=middle` in cert-chain.pem",
        ),
    ];
    let body: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    for (put, expected) in table {
        let world = World::new();
        world.put_set(&good, &[], &[&root]);
        put(&world);
        let text = world.refused().await;
        assert!(text.contains(expected), "expected `{expected}` in `{text}`");
        assert!(!body.iter().any(|line| text.contains(line)), "{text}");
        assert_eq!(world.custody.imports.load(Ordering::SeqCst), 0, "no key is kept of a set that is refused");
        world.put_set(&good, &[], &[&root]);
        world.offer().await;
    }
}

#[tokio::test]
async fn a_chain_as_deep_as_it_may_be_is_found_and_a_deeper_or_confusing_one_ends_the_search() {
    let (world, root) = (World::new(), Ca::root("root"));
    let mut line = vec![root.below("0", |_| {})];
    for depth in 1..10 {
        line.push(line[depth - 1].below(&depth.to_string(), |_| {}));
    }
    let chain: Vec<&Ca> = line.iter().collect();
    world.put_set(&line[8], &chain, &[&root]);
    let offer = world.offer().await;
    assert_eq!(offer.given().unwrap().intermediates.len(), 8);
    world.check_signs(&offer, &[&root]).await;
    world.put_set(&line[9], &chain, &[&root]);
    assert!(world.refused().await.contains("no chain of a few CAs"));

    // Sixty CAs of one name that sign each other, and no way out.
    let one = Ca::root_with("one", |params| params.not_before = NOW - 3 * DAY);
    let many: Vec<Ca> =
        (0..60).map(|_| one.below("one", |params| params.use_authority_key_identifier_extension = false)).collect();
    let signer = many[0].below("signer", |params| params.use_authority_key_identifier_extension = false);
    world.put_set(&signer, &many.iter().collect::<Vec<_>>(), &[&root]);
    world.refused().await;
}
