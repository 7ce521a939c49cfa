//! Files as other CAs and other tools write them: what is published is what they hold, and what clients accept signs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::path::Path;

use rcgen::{CustomExtension, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use signet_core::bundle::TrustBundle;
use signet_core::certificate::Facts;
use signet_core::identity::TrustDomain;
use signet_core::pem::{pem, pem_block, read_certificates};
use signet_core::seams::certificate_authority::CertificateAuthority;
use signet_core::source::Offer;
use signet_core::verify::{Signer, VerifiedPath, check_issued};
use time::OffsetDateTime;

use super::super::test_pki::{Ca, DAY, NOW, openssl, openssl_accepts, request_of};
use super::test_world::World;
use crate::authority::NativeAuthority;

/// What is published, in the order of the file.
fn published(offer: &Offer) -> Vec<CertificateDer<'static>> {
    offer.roots.iter().map(|root| root.certificate.clone()).collect()
}

/// OpenSSL and Signet's own check accept what it signs, also with each of `peers` alone as the one root that they know.
async fn signs(world: &World, offer: &Offer, peers: &[&CertificateDer<'static>], now: OffsetDateTime) {
    let key =
        signet_core::seams::custody::KeyCustody::open(&*world.custody, offer.given().unwrap().key.as_ref().unwrap())
            .await
            .unwrap();
    let authority = NativeAuthority::new(key, offer.given().unwrap()).unwrap();
    let request = request_of(&authority, now);
    let chain = authority.sign(&request).await.unwrap();
    for peer in peers {
        openssl_accepts(&chain, &[&peer[..]], now);
    }
    let bundle = TrustBundle::new(TrustDomain::parse("cluster.local").unwrap(), 1, published(offer)).unwrap();
    let issuer = Facts::read(&offer.given().unwrap().certificate).unwrap();
    assert_eq!(Facts::read(chain.leaf()).unwrap().issuer_der, issuer.subject_der, "byte for byte");
    let path = VerifiedPath::check(chain.intermediates(), &offer.given().unwrap().certificate, &bundle).unwrap();
    check_issued(request, chain, &path, Signer::Elsewhere).unwrap();
}

#[tokio::test]
async fn every_root_of_the_file_is_published_however_its_text_is_put_together() {
    let (root, other) = (Ca::root("root"), Ca::root("other"));
    let signer = root.below("signer", |_| {});
    let both = root.pem() + &other.pem();
    let x509 = both.replace("BEGIN CERT", "BEGIN X509 CERT").replace("END CERT", "END X509 CERT");
    for (what, text) in [
        ("joined without a line end", root.pem().trim_end().to_owned() + &other.pem()),
        ("with a byte order mark", format!("\u{feff}{both}")),
        ("with lines as DOS has them", both.replace('\n', "\r\n")),
        ("with another label", x509),
        (
            "with OpenSSL's own label",
            root.pem() + &pem_block("TRUSTED CERTIFICATE", &[&other.der[..], &[0x30, 0]].concat()),
        ),
        ("with comments", format!("# ours\n{}\n---- theirs ----\n{}", root.pem(), other.pem())),
        ("with one twice", format!("{both}{}", root.pem())),
        ("with one that has ended", format!("{both}{}", Ca::root_with("ended", |it| it.not_after = NOW).pem())),
    ] {
        let world = World::new();
        world.put_set(&signer, &[], &[]);
        world.put("root-cert.pem", text);
        assert_eq!(published(&world.offer().await), [root.der.clone(), other.der.clone()], "{what}");
    }
}

#[tokio::test]
async fn a_file_of_which_something_would_be_passed_over_is_refused_with_its_line_and_the_set_before_goes_on() {
    let (root, other) = (Ca::root("root"), Ca::root("other"));
    let signer = root.below("signer", |_| {});
    let lines = root.pem().lines().count();
    let rejected = openssl(&["x509", "-trustout", "-addreject", "serverAuth"], other.pem().as_bytes());
    let mut ber = other.der.to_vec();
    // The outer length with three bytes, as no DER has it.
    ber.splice(1..2, [0x83, 0]);
    let key = other.key_pem(super::super::test_pki::Encoding::Pkcs8);
    let second = format!("{}", lines + 1);
    for (what, text, expected) in [
        ("an indented block", other.pem().replace("-----BEGIN", "  -----BEGIN"), "looks like the begin"),
        ("a lost dash", other.pem().replace("-----BEGIN", "----BEGIN"), "looks like the begin"),
        ("no end", other.pem().replace("-----END CERTIFICATE-----", ""), "has no end"),
        ("rejected by its settings", rejected, "is not trusted for TLS"),
        ("another kind of block", key, "a PEM block `PRIVATE KEY`, which does not belong"),
        ("a list", other.crl(NOW - DAY, NOW + DAY), "a PEM block `X509 CRL`, which does not belong"),
        ("BER", pem(&ber), "Envoy would refuse the whole trust bundle"),
        ("something behind the certificate", pem(&[&other.der[..], b"\n"].concat()), "Envoy would refuse"),
        ("no certificate", pem(b"\x30\x03\x02\x01\x05"), "cannot be used"),
    ] {
        let world = World::new();
        world.put_set(&signer, &[], &[&root]);
        let before = world.offer().await;
        for (file, text) in [("root-cert.pem", root.pem() + &text), ("cert-chain.pem", root.pem() + &text)] {
            world.put_set(&signer, &[], &[&root]);
            world.put(file, text);
            let told = world.refused().await;
            let parts = [file, &format!("line {second}"), expected];
            assert!(parts.iter().all(|part| told.contains(part)), "{what}: {told}");
        }
        world.put_set(&signer, &[], &[&root]);
        assert_eq!(world.offer().await, before, "{what}");
    }
}

#[tokio::test]
async fn a_root_is_published_whatever_its_extensions_say_and_may_sign_unless_its_key_usage_forbids_it() {
    let plain = |name: &str| Ca::root_with(name, |it| it.key_usages.clear());
    let unknown = Ca::root_with("unknown", |it| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        it.custom_extensions.push(extension);
    });
    let lists_only = Ca::root_with("lists", |it| it.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let root = plain("root");
    let signer = root.below("signer", |it| it.key_usages.clear());
    for others in [vec![&unknown], vec![&lists_only], vec![&plain("other"), &unknown, &lists_only]] {
        let world = World::new();
        world.put_set(&signer, &[], &[&[&root], &*others].concat());
        let offer = world.offer().await;
        assert_eq!(published(&offer).len(), others.len() + 1);
        signs(&world, &offer, &[&root.der], NOW).await;
    }
    let world = World::new();
    world.put_set(&lists_only.below("signer", |_| {}), &[], &[&lists_only]);
    assert!(world.refused().await.contains("`CN=lists` is not the certificate of a CA"));
}

#[tokio::test]
async fn the_chain_is_sent_as_far_as_peers_need_that_know_one_self_signed_root_only() {
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let middle = old.below("middle", |_| {});
    let deep = middle.below("deep", |_| {});
    let cross = new.crossed_by(&old, |_| {});
    let below = new.below("signer", |_| {});
    let ended = new.crossed_by(&old, |it| it.not_after = NOW);
    let short = new.crossed_by(&old, |it| it.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0)));
    let stranger = new.crossed_by(&Ca::root("stranger"), |_| {});
    type Case<'a> = (&'a str, &'a Ca, Vec<&'a Ca>, Vec<&'a Ca>, Vec<&'a Ca>, Vec<&'a Ca>);
    let table: [Case<'_>; 11] = [
        // What, signer, chain file, root file, certificates sent beside the signer's, roots of which one is enough.
        ("an intermediate among the roots", &deep, vec![&middle], vec![&old, &middle], vec![&middle], vec![&old]),
        ("and it alone", &deep, vec![], vec![&old, &middle], vec![&middle], vec![&old]),
        ("and first", &deep, vec![&deep, &middle], vec![&middle, &old], vec![&middle], vec![&old]),
        ("a cross certificate", &below, vec![&cross], vec![&old, &new], vec![&cross], vec![&old, &new]),
        ("and a root that signs itself", &new, vec![&cross], vec![&old, &new], vec![&cross], vec![&old, &new]),
        ("and it among the roots", &below, vec![], vec![&old, &new, &cross], vec![&cross], vec![&old]),
        ("and nothing else above", &below, vec![&cross], vec![&old], vec![&cross], vec![&old]),
        ("one that has ended", &below, vec![&ended], vec![&old, &new], vec![], vec![&new]),
        ("one that allows no CA below", &below, vec![&short], vec![&old, &new], vec![], vec![&new]),
        ("one of a root that is not there", &below, vec![&stranger], vec![&old, &new], vec![], vec![&new]),
        (
            "a chain in the wrong order",
            &middle.below("x", |_| {}),
            vec![&old, &middle],
            vec![&old],
            vec![&middle],
            vec![&old],
        ),
    ];
    for (what, signer, chain, roots, sent, enough) in table {
        let world = World::new();
        world.put_set(signer, &chain, &roots);
        let offer = world.offer().await;
        let expected: Vec<_> = sent.iter().map(|one| one.der.clone()).collect();
        assert_eq!(offer.given().unwrap().intermediates, expected, "{what}");
        signs(&world, &offer, &enough.iter().map(|root| &root.der).collect::<Vec<_>>(), NOW).await;
    }
}

/// A CA made by OpenSSL from a section of extensions, with the subject and the key that are given.
struct Made {
    directory: tempfile::TempDir,
}

impl Made {
    fn new(config: &str) -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let usual = "[req]\nprompt=no\ndistinguished_name=dn\n[dn]\nCN=unused\n[none]\n[ca]\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=none\nauthorityKeyIdentifier=none\n";
        std::fs::write(directory.path().join("config"), format!("{usual}{config}")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A key, and a certificate signed by `by`, or by itself.
    fn make(&self, name: &str, key: &[&str], request: &[&str], signing: &[&str], by: Option<&str>) {
        let (key_file, request_file, out) =
            (self.path(&format!("{name}.key")), self.path(&format!("{name}.csr")), self.path(&format!("{name}.crt")));
        openssl(&[&["genpkey", "-out", &key_file], key].concat(), b"");
        let config = self.path("config");
        openssl(
            &[&["req", "-new", "-config", &config, "-key", &key_file, "-out", &request_file], request].concat(),
            b"",
        );
        let issuer = by.map(|by| (self.path(&format!("{by}.crt")), self.path(&format!("{by}.key"))));
        let by: Vec<&str> = match &issuer {
            Some((certificate, key)) => vec!["-CA", certificate, "-CAkey", key, "-CAcreateserial"],
            None => vec!["-signkey", &key_file],
        };
        openssl(&[&["x509", "-req", "-in", &request_file, "-days", "30", "-out", &out], signing, &*by].concat(), b"");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(&self.path(name))).unwrap()
    }

    fn der(&self, name: &str) -> CertificateDer<'static> {
        read_certificates(self.text(&format!("{name}.crt")).as_bytes()).unwrap()[0].1.clone()
    }

    /// Puts what was made as the files of a CA, and sets the clock to when it was made.
    fn world(&self, signer: &str, roots: &[&str]) -> (World, OffsetDateTime) {
        let world = World::new();
        world.put("ca-cert.pem", self.text(&format!("{signer}.crt")));
        world.put("ca-key.pem", self.text(&format!("{signer}.key")));
        world.put("cert-chain.pem", "");
        world.put("root-cert.pem", roots.iter().map(|root| self.text(&format!("{root}.crt"))).collect::<String>());
        let now = Facts::read(&self.der(signer)).unwrap().not_before + std::time::Duration::from_secs(60);
        world.clock.set(now);
        (world, now)
    }
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[tokio::test]
async fn the_issuer_of_leaves_is_the_subject_of_the_signer_byte_for_byte_whatever_it_is_made_of() {
    for (what, mask, subject) in [
        ("domain components", "utf8only", "/DC=corp/DC=example/CN=issuing"),
        ("two units", "utf8only", "/O=a/OU=one/OU=two/CN=x"),
        ("printable strings", "MASK:0x0002", "/O=plain/CN=x"),
        ("T61 strings", "MASK:0x0004", "/O=Z\u{fc}rich/CN=x"),
        ("BMP strings", "MASK:0x0800", "/O=Z\u{fc}rich/CN=x"),
        ("universal strings", "MASK:0x0100", "/O=Z\u{fc}rich/CN=x"),
        ("several values in one part", "utf8only", "/O=a+OU=b+OU=c/CN=x"),
        ("an attribute of a type of its own", "utf8only", "/1.2.3.4.5=odd/CN=x"),
        (
            "a long name",
            "utf8only",
            "/O=0123456789012345678901234567890123456789/OU=0123456789012345678901234567890123456789/OU=012345678901234567890123456789/CN=x",
        ),
    ] {
        let made = Made::new("");
        let config = made.text("config").replacen("[req]\n", &format!("[req]\nstring_mask={mask}\nutf8=yes\n"), 1);
        std::fs::write(made.path("config"), config).unwrap();
        let extensions = made.path("config");
        let signing: &[&str] = &["-extfile", &extensions, "-extensions", "ca"];
        let named: &[&str] = &["-utf8", "-subj", subject];
        made.make("root", P256, named, signing, None);
        made.make("signer", P256, &["-utf8", "-subj", &format!("{subject}/CN=signer")], signing, Some("root"));
        for signer in ["signer", "root"] {
            let (world, now) = made.world(signer, &["root"]);
            let offer = world.offer().await;
            assert_eq!(published(&offer), [made.der("root")], "{what}");
            signs(&world, &offer, &[&made.der("root")], now).await;
        }
    }
}

#[tokio::test]
async fn a_signer_and_a_root_without_extensions_but_one_are_taken_and_their_keys_are_named_by_a_hash() {
    let made = Made::new("");
    let config = made.path("config");
    made.make("plain", P256, &["-subj", "/CN=plain"], &["-extfile", &config, "-extensions", "ca"], None);
    // Without any: version 1 (OpenSSL writes it for nothing else).
    made.make("first", P256, &["-subj", "/CN=first"], &[], None);
    for root in ["plain", "first"] {
        let name = format!("below {root}");
        made.make(&name, P256, &["-subj", "/CN=signer"], &["-extfile", &config, "-extensions", "ca"], Some(root));
        for signer in [&name, root] {
            let (world, now) = made.world(signer, &["plain", "first"]);
            let offer = world.offer().await;
            let facts = Facts::read(&offer.given().unwrap().certificate).unwrap();
            assert_eq!((facts.subject_key_id.clone(), facts.key_id().len()), (None, 20), "{signer}");
            assert_eq!(published(&offer), [made.der("plain"), made.der("first")]);
            signs(&world, &offer, &[&made.der(root)], now).await;
        }
    }
    assert!(Facts::read(&made.der("first")).unwrap().is_version_1);
}

#[tokio::test]
async fn what_cannot_be_verified_is_named_and_never_told_as_not_signed() {
    let of = |kind: &'static str, option: &'static str| ["-algorithm", kind, "-pkeyopt", option];
    let (p256, p521) = (of("EC", "ec_paramgen_curve:P-256"), of("EC", "ec_paramgen_curve:P-521"));
    let rsa = of("RSA", "rsa_keygen_bits:1024");
    for (key, digest, kind) in [
        (&p521, "-sha512", "ECDSA with SHA-512 and a key on P-521"),
        (&p256, "-sha512", "ECDSA with SHA-512 and a key on P-256"),
        (&rsa, "-sha256", "RSA with SHA-256 and an RSA key of 1024 bits"),
    ] {
        let made = Made::new("");
        let config = made.path("config");
        let signing: &[&str] = &["-extfile", &config, "-extensions", "ca", digest];
        made.make("root", key, &["-subj", "/CN=root"], signing, None);
        made.make("signer", P256, &["-subj", "/CN=signer"], signing, Some("root"));
        let (world, _) = made.world("signer", &["root"]);
        let told = world.refused().await;
        let parts = ["ca-cert.pem", "`CN=root` in root-cert.pem", "cannot be verified", kind];
        assert!(parts.iter().all(|part| told.contains(part)) && !told.contains("not signed"), "{told}");
        // Beside a root that signs it is as good as any other.
        made.make("other", P256, &["-subj", "/CN=other"], &["-extfile", &config, "-extensions", "ca"], None);
        let (world, now) = made.world("other", &["root", "other"]);
        let offer = world.offer().await;
        assert_eq!(published(&offer), [made.der("root"), made.der("other")]);
        signs(&world, &offer, &[&made.der("other")], now).await;
    }
}
