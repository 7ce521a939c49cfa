//! Lists that are made here judged by x509-parser and the `openssl` command, and operators' lists in every condition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, DnType};
use rcgen::{IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::PrivatePkcs8KeyDer;
use signet_core::key_type::KeyType;
use signet_core::pem::pem;
use tempfile::TempDir;

use super::*;
use crate::custody::LocalKey;

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
const DAY: time::Duration = time::Duration::DAY;

struct Ca {
    key: Arc<dyn SigningKey>,
    pair: KeyPair,
    params: CertificateParams,
    der: CertificateDer<'static>,
}

/// A CA whose key identifier is not derived from its key as ours would be.
async fn ca(name: &str, key_type: KeyType, usages: &[KeyUsagePurpose]) -> Ca {
    let (key, pkcs8) = LocalKey::generate(key_type).await.unwrap();
    let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.expose())).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Operators");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = usages.to_vec();
    params.key_identifier_method = KeyIdMethod::PreSpecified(name.bytes().cycle().take(20).collect());
    let der = params.self_signed(&pair).unwrap().der().clone();
    Ca { key: Arc::new(key), pair, params, der }
}

const SIGNS: [KeyUsagePurpose; 2] = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];

impl Ca {
    /// A list as an operator's own tools make it.
    fn list(&self, change: impl FnOnce(&mut CertificateRevocationListParams)) -> Vec<u8> {
        let mut params = CertificateRevocationListParams {
            this_update: NOW - DAY,
            next_update: NOW + DAY,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: self.params.key_identifier_method.clone(),
        };
        change(&mut params);
        params.signed_by(&Issuer::from_params(&self.params, &self.pair)).unwrap().der().to_vec()
    }

    fn id(&self) -> AuthorityId {
        AuthorityId::of(&Facts::read(&self.der).unwrap())
    }
}

fn crl_pem(ders: &[&[u8]]) -> Vec<u8> {
    ders.iter().map(|der| pem(der).replace(" CERTIFICATE-", " X509 CRL-")).collect::<String>().into_bytes()
}

fn revoked(serial: &str, reason: RevocationReason) -> Revoked {
    let at = (NOW - DAY).unix_timestamp();
    Revoked {
        serial: serial.to_owned(),
        issuer: AuthorityId::new(b"", b"any"),
        reason,
        at,
        not_after: at + 1,
        unknown: Unknown::default(),
    }
}

async fn signed(ca: &Ca, number: u64, entries: &[Revoked]) -> Result<CertificateRevocationListDer<'static>, SignError> {
    let revoked: Vec<&Revoked> = entries.iter().collect();
    let content = ListContent { number, revoked: &revoked, this_update: NOW, next_update: NOW + DAY };
    sign_list(Arc::clone(&ca.key), &ca.der, &content).await
}

#[tokio::test]
async fn a_list_of_every_kind_of_authority_says_what_is_revoked_and_verifies() {
    let long = "ff".repeat(20);
    let entries: Vec<Revoked> = RevocationReason::ALL
        .into_iter()
        .enumerate()
        .map(|(index, reason)| revoked(&format!("4a{index:030x}"), reason))
        .chain([revoked("0001", RevocationReason::Unspecified), revoked(&long, RevocationReason::KeyCompromise)])
        .collect();
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let ca = ca("signer", key_type, &SIGNS).await;
        let der = signed(&ca, u64::MAX, &entries).await.unwrap();
        let (rest, list) = CertificateRevocationList::from_der(&der).unwrap();
        let (_, certificate) = X509Certificate::from_der(&ca.der).unwrap();
        assert!(rest.is_empty());
        list.verify_signature(certificate.public_key()).unwrap();
        assert_eq!(list.issuer().as_raw(), certificate.subject().as_raw());
        assert_eq!(list.version(), Some(x509_parser::x509::X509Version(1)));
        assert_eq!(list.crl_number().unwrap(), &u64::MAX.into());
        assert_eq!(list.last_update().to_datetime(), NOW);
        assert_eq!(list.next_update().unwrap().to_datetime(), NOW + DAY);
        let made: Vec<(String, u8)> = list
            .iter_revoked_certificates()
            .map(|one| (one.serial().to_str_radix(16), one.reason_code().map_or(0, |(_, code)| code.0)))
            .collect();
        let mut expected: Vec<(String, u8)> =
            (0..6u8).map(|code| (format!("4a{code:030x}"), code)).chain([("1".into(), 0), (long.clone(), 1)]).collect();
        expected.sort_by_key(|(serial, _)| (serial.len(), serial.clone()));
        let mut sorted = made.clone();
        sorted.sort_by_key(|(serial, _)| (serial.len(), serial.clone()));
        assert_eq!(sorted, expected, "{key_type}");

        let dir = TempDir::new().unwrap();
        let (file, ca_file) = (dir.path().join("list"), dir.path().join("ca"));
        std::fs::write(&file, crl_pem(&[&der])).unwrap();
        std::fs::write(&ca_file, pem(&ca.der)).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["crl", "-noout", "-text", "-in"]).arg(&file).arg("-CAfile").arg(&ca_file);
        let output = openssl.output().expect("apt-get install openssl");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains("verify OK"), "{text}");
        for said in ["Version 2", "X509v3 CRL Number", "73:69:67:6E:65:72", "Key Compromise", "Cessation Of Operation"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("Unspecified"), "RFC 5280 section 5.3.1");
    }
}

#[tokio::test]
async fn our_own_lists_pass_our_own_check_and_an_empty_one_is_valid() {
    let ca = ca("signer", KeyType::EcP256, &SIGNS).await;
    for entries in [vec![], vec![revoked("0a", RevocationReason::Superseded)]] {
        let der = signed(&ca, 0, &entries).await.unwrap();
        let read = read_lists(&der, std::slice::from_ref(&ca.der), &[], NOW).unwrap();
        let next_update = (NOW + DAY).unix_timestamp();
        assert_eq!(read, [RevocationList { issuer: ca.id(), der, next_update, unknown: Unknown::default() }]);
    }
}

#[tokio::test]
async fn a_serial_is_listed_once_with_the_time_it_was_first_revoked() {
    let ca = ca("signer", KeyType::EcP256, &SIGNS).await;
    let first = Revoked { at: 1_000_000, ..revoked("00aa", RevocationReason::KeyCompromise) };
    let later = revoked("AA", RevocationReason::Superseded);
    for entries in [[first.clone(), later.clone()], [later, first]] {
        let der = signed(&ca, 1, &entries).await.unwrap();
        let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
        let [one] = list.tbs_cert_list.revoked_certificates.as_slice() else { panic!("one entry") };
        assert_eq!((one.raw_serial(), one.revocation_date.timestamp()), (&[0, 0xaa][..], 1_000_000));
    }
}

#[tokio::test]
async fn what_cannot_be_a_list_is_refused_with_the_reason() {
    let good = ca("signer", KeyType::EcP256, &SIGNS).await;
    for serial in ["", "0", "abc", "xy", "+1", "00", "0000", &"11".repeat(21), "ß"] {
        let refused = signed(&good, 1, &[revoked(serial, RevocationReason::Unspecified)]).await;
        assert!(matches!(&refused, Err(SignError::Failed(text)) if text.contains("serial")), "{serial} {refused:?}");
    }
    for at in [-1, i64::MIN, i64::MAX] {
        let refused = signed(&good, 1, &[Revoked { at, ..revoked("01", RevocationReason::Unspecified) }]).await;
        assert!(matches!(&refused, Err(SignError::Failed(text)) if text.contains("time")), "{refused:?}");
    }
    let silent = ca("signer", KeyType::EcP256, &[KeyUsagePurpose::KeyCertSign]).await;
    let refused = signed(&silent, 1, &[]).await;
    assert!(matches!(&refused, Err(SignError::Failed(text)) if text.contains("cRLSign")), "{refused:?}");
    let content = ListContent { number: 1, revoked: &[], this_update: NOW, next_update: NOW };
    assert!(matches!(sign_list(Arc::clone(&good.key), &good.der, &content).await, Err(SignError::Failed(_))));
    let content = ListContent { next_update: NOW + DAY, ..content };
    assert!(matches!(sign_list(silent.key, &good.der, &content).await, Err(SignError::Failed(_))), "another key");
}

#[tokio::test]
async fn lists_are_read_from_pem_and_der_and_empty_input_clears_them() {
    let (root, signer) = (ca("root", KeyType::EcP256, &SIGNS).await, ca("signer", KeyType::Rsa2048, &SIGNS).await);
    let required = [signer.der.clone(), root.der.clone()];
    for empty in [&b""[..], b"\n", b" \r\n\t"] {
        assert_eq!(read_lists(empty, &required, &[], NOW), Ok(Vec::new()));
    }
    let (of_root, of_signer) = (root.list(|_| {}), signer.list(|_| {}));
    let both = crl_pem(&[&of_root, &of_signer]);
    let read = read_lists(&both, &required, &[], NOW).unwrap();
    let issuers: Vec<AuthorityId> = read.iter().map(|list| list.issuer.clone()).collect();
    assert_eq!(issuers, [root.id(), signer.id()]);
    assert_eq!(read[0].der.as_ref(), of_root);
    assert_eq!(read[0].next_update, (NOW + DAY).unix_timestamp());
    let one = std::slice::from_ref(&root.der);
    assert_eq!(read_lists(&of_root, one, &[], NOW).unwrap().len(), 1, "DER");
    assert_eq!(read_lists(&both, one, &required, NOW).unwrap().len(), 2, "one for another known CA is kept");

    let newer = root.list(|list| list.this_update = NOW - DAY / 2);
    for lists in [[&of_root, &newer], [&newer, &of_root]] {
        let read = read_lists(&crl_pem(&lists.map(Vec::as_slice)), one, &[], NOW).unwrap();
        assert_eq!(read.iter().map(|list| list.der.as_ref()).collect::<Vec<_>>(), [&newer]);
    }
}

#[tokio::test]
async fn everything_that_makes_lists_unusable_is_named() {
    let (root, signer) = (ca("root", KeyType::EcP256, &SIGNS).await, ca("signer", KeyType::EcP384, &SIGNS).await);
    let (stranger, impostor) =
        (ca("stranger", KeyType::EcP256, &SIGNS).await, ca("root", KeyType::EcP256, &SIGNS).await);
    let mut void = ca("silent", KeyType::EcP256, &[KeyUsagePurpose::KeyCertSign]).await;
    void.params.key_usages = SIGNS.to_vec();
    let name = |ca: &str| format!("O=Operators, CN={ca}");
    let good = root.list(|_| {});
    let scoped = signer.list(|list| {
        list.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec!["http://crl".to_owned()] },
            scope: Some(CrlScope::UserCertsOnly),
        });
    });
    let required = [root.der.clone(), signer.der.clone()];
    assert_eq!(read_lists(&crl_pem(&[&good, &scoped]), &required, &[], NOW).unwrap().len(), 2);

    let ended = rfc3339(NOW);
    let cut = &good[..good.len() - 1];
    let second = String::from_utf8(crl_pem(&[&good])).unwrap().lines().count() + 1;
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let no_block = pem(&good).into_bytes();
    let expired = root.list(|list| list.next_update = NOW);
    let early = root.list(|list| list.this_update = NOW + time::Duration::SECOND);
    let table: [(Vec<u8>, ListError); 13] = [
        (b"revoked: none".to_vec(), ListError::NoLists),
        (no_block, ListError::Pem(PemError::Foreign { line: 1, label: "CERTIFICATE".to_owned() })),
        (crl_pem(&[&good]), ListError::Missing(name("signer"))),
        (good.clone(), ListError::Missing(name("signer"))),
        (crl_pem(&[&good, cut]), ListError::Unreadable(second)),
        ([good.clone(), vec![0]].concat(), ListError::Unreadable(1)),
        (
            String::from_utf8(crl_pem(&[&good])).unwrap().replace("-----END X509 CRL-----", "").into_bytes(),
            ListError::Pem(PemError::NoEnd(1)),
        ),
        (crl_pem(&[&flipped]), ListError::BadSignature(name("root"))),
        (crl_pem(&[&impostor.list(|_| {})]), ListError::BadSignature(name("root"))),
        (crl_pem(&[&stranger.list(|_| {})]), ListError::UnknownIssuer(name("stranger"))),
        (crl_pem(&[&void.list(|_| {})]), ListError::MayNotSign(name("silent"))),
        (crl_pem(&[&expired]), ListError::Expired(name("root"), ended)),
        (crl_pem(&[&early]), ListError::NotYetValid(name("root"), rfc3339(NOW + time::Duration::SECOND))),
    ];
    for (file, expected) in table {
        let others = std::slice::from_ref(&void.der);
        assert_eq!(read_lists(&file, &required, others, NOW), Err(expected));
    }
    let many = vec![good.as_slice(); MAX_LISTS + 1];
    assert_eq!(read_lists(&crl_pem(&many), &required, &[], NOW), Err(ListError::TooMany));
}

#[tokio::test]
async fn lists_that_agents_would_not_take_are_refused_one_alone_or_many_together() {
    let (root, signer) = (ca("root", KeyType::EcP256, &SIGNS).await, ca("signer", KeyType::EcP256, &SIGNS).await);
    let entry = |index: u64| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&(u128::from(index) | 1 << 126).to_be_bytes()),
        revocation_time: NOW - DAY,
        reason_code: None,
        invalidity_date: None,
    };
    let long = |ca: &Ca, count: u64| ca.list(|list| list.revoked_certs = (0..count).map(entry).collect());
    let required = [root.der.clone(), signer.der.clone()];
    for (of_root, of_signer, is_taken) in [(60_000, 60_000, true), (150_000, 1, false), (75_000, 75_000, false)] {
        let file = crl_pem(&[&long(&root, of_root), &long(&signer, of_signer)]);
        match read_lists(&file, &required, &[], NOW) {
            Ok(lists) => {
                assert!(is_taken);
                let size = RevocationList::message_bytes(&lists);
                assert_eq!(size, crl_pem(&[&lists[0].der, &lists[1].der]).len());
            }
            Err(error) => assert!(!is_taken && matches!(error, ListError::TooLarge(_)), "{error}"),
        }
    }
}

#[tokio::test]
async fn no_entry_is_later_than_the_list_that_tells_of_it() {
    let ca = ca("signer", KeyType::EcP256, &SIGNS).await;
    let at = |offset: i64| Revoked {
        at: NOW.unix_timestamp() + offset,
        ..revoked(&format!("4a{:030x}", offset + 1000), RevocationReason::KeyCompromise)
    };
    let der = signed(&ca, 1, &[at(-60), at(0), at(120)]).await.unwrap();
    let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
    let dates: Vec<_> = list.iter_revoked_certificates().map(|one| one.revocation_date.to_datetime()).collect();
    assert_eq!((dates.len(), dates.iter().max()), (3, Some(&NOW)));
    assert!(dates.contains(&(NOW - time::Duration::MINUTE)));
}

proptest::proptest! {
    #[test]
    fn reading_lists_is_total(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..200)) {
        let sequence = [&[0x30][..], &bytes].concat();
        proptest::prop_assert!(read_lists(&sequence, &[], &[], NOW).is_err());
    }
}
