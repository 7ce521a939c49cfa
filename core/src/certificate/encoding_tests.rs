//! Certificates with every oddity of encoding. What is refused here, Envoy refuses too, and it was asked: each kind was given
//! to it as a root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::*;

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        length @ 0..128 => out.push(u8::try_from(length).unwrap()),
        length @ 128..256 => out.extend([0x81, u8::try_from(length).unwrap()]),
        length => out.extend([&[0x82], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat()),
    }
    out.extend(content);
    out
}

/// The parts of a certificate that the cases change.
struct Parts {
    version: Vec<u8>,
    serial: Vec<u8>,
    algorithm: Vec<u8>,
    subject: Vec<u8>,
    begin: Vec<u8>,
    key: Vec<u8>,
    identifiers: Vec<u8>,
    extensions: Vec<u8>,
    more: Vec<u8>,
    signature: Vec<u8>,
}

const ECDSA: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

fn name(value: &[u8]) -> Vec<u8> {
    element(0x30, &[&element(0x31, &[&element(0x30, &[&[6, 3, 0x55, 4, 3], value])])])
}

fn extension(kind: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    element(0x30, &[&element(6, &[kind]), &rest.concat()])
}

fn extensions(all: &[Vec<u8>]) -> Vec<u8> {
    element(0xa3, &[&element(0x30, &all.iter().map(Vec::as_slice).collect::<Vec<_>>())])
}

/// basicConstraints with cA.
fn ca() -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x13], &[&[1, 1, 0xff], &[4, 5, 0x30, 3, 1, 1, 0xff]])
}

impl Parts {
    fn good() -> Self {
        Self {
            version: vec![0xa0, 3, 2, 1, 2],
            serial: vec![2, 1, 7],
            algorithm: element(0x30, &[ECDSA]),
            subject: name(b"\x0c\x03odd"),
            begin: element(0x17, &[b"260101000000Z"]),
            key: element(0x30, &[&element(0x30, &[&[6, 3, 0x2a, 3, 4]]), &[3, 3, 0, 1, 2]]),
            identifiers: vec![],
            extensions: extensions(&[ca()]),
            more: vec![],
            signature: vec![3, 3, 0, 1, 2],
        }
    }

    fn der(&self) -> Vec<u8> {
        let validity = element(0x30, &[&self.begin, &element(0x17, &[b"360101000000Z"])]);
        let content = element(
            0x30,
            &[
                &self.version,
                &self.serial,
                &self.algorithm,
                &name(b"\x0c\x01i"),
                &validity,
                &self.subject,
                &self.key,
                &self.identifiers,
                &self.extensions,
                &self.more,
            ],
        );
        element(0x30, &[&content, &self.algorithm, &self.signature])
    }
}

#[test]
fn what_envoy_cannot_load_is_refused_and_what_it_loads_is_not_refused_for_nothing() {
    type Change = fn(&mut Parts);
    let table: &[(&str, Change, Option<&str>)] = &[
        ("nothing", |_| {}, None),
        ("version 1 without extensions", |it| (it.version, it.extensions) = (vec![], vec![]), None),
        ("version 1 written out", |it| (it.version[4], it.extensions) = (0, vec![]), None),
        ("version 1 with extensions", |it| it.version = vec![], Some("extensions")),
        ("version 2 with extensions", |it| it.version[4] = 1, Some("extensions")),
        (
            "version 2 with identifiers",
            |it| (it.version[4], it.extensions, it.identifiers) = (1, vec![], vec![0x81, 2, 0, 7]),
            None,
        ),
        (
            "version 1 with identifiers",
            |it| (it.version, it.extensions, it.identifiers) = (vec![], vec![], vec![0x81, 2, 0, 7]),
            Some("version 1"),
        ),
        ("an identifier with bits too many", |it| it.identifiers = vec![0x82, 2, 1, 7], Some("BIT STRING")),
        ("version 4", |it| it.version[4] = 3, Some("no such version")),
        ("a serial number of zero", |it| it.serial[2] = 0, None),
        ("a negative serial number", |it| it.serial[2] = 0xff, None),
        ("a serial number of 21 bytes", |it| it.serial = element(2, &[&[0x7f; 21]]), None),
        ("a padded serial number", |it| it.serial = vec![2, 2, 0, 7], Some("INTEGER")),
        ("no serial number", |it| it.serial = vec![2, 0], Some("INTEGER")),
        ("an algorithm with NULL", |it| it.algorithm = element(0x30, &[ECDSA, &[5, 0]]), None),
        ("an algorithm with more", |it| it.algorithm = element(0x30, &[ECDSA, &[5, 0], &[5, 0]]), Some("follows")),
        ("no seconds", |it| it.begin = element(0x17, &[b"2601010000Z"]), Some("UTCTime")),
        ("an offset", |it| it.begin = element(0x17, &[b"260101000000+0000"]), None),
        ("a GeneralizedTime too early", |it| it.begin = element(0x18, &[b"20260101000000Z"]), None),
        ("parts of a second", |it| it.begin = element(0x18, &[b"20260101000000.5Z"]), Some("GeneralizedTime")),
        ("no time", |it| it.begin = vec![0x0c, 0], Some("missing")),
        ("an empty name", |it| it.subject = vec![0x30, 0], None),
        ("a name with an empty part", |it| it.subject = vec![0x30, 2, 0x31, 0], Some("name is empty")),
        ("a name in T61", |it| it.subject = name(b"\x14\x06Z\xfcrich"), None),
        ("a name in BMP", |it| it.subject = name(b"\x1e\x04\0a\0b"), None),
        ("a name in Latin-1 that says UTF-8", |it| it.subject = name(b"\x0c\x06Z\xfcrich"), Some("not UTF-8")),
        ("a name in pieces", |it| it.subject = name(b"\x2c\x03\x0c\x01a"), Some("pieces")),
        ("a name with two values in one", |it| it.subject = name(b"\x0c\x01a\x0c\x01b"), Some("follows")),
        ("bits too many in the key", |it| it.key[9..].copy_from_slice(&[3, 3, 1, 1, 3]), Some("BIT STRING")),
        ("something behind the key", |it| it.key = element(0x30, &[&it.key[2..], &[5, 0]]), Some("follows")),
        (
            "an unknown extension with anything",
            |it| it.extensions = extensions(&[ca(), extension(&[0x2a, 3], &[b"\x04\x01x"])]),
            None,
        ),
        ("the same extension twice", |it| it.extensions = extensions(&[ca(), ca()]), Some("twice")),
        (
            "an extension with more",
            |it| it.extensions = extensions(&[extension(&[0x2a, 3], &[b"\x04\x01x", b"\x05\0"])]),
            Some("follows"),
        ),
        (
            "an extension without DER",
            |it| it.extensions = extensions(&[extension(&[0x55, 0x1d, 0x13], &[b"\x04\x04\x30\x81\x01\x05"])]),
            Some("BER"),
        ),
        (
            "critical in BER",
            |it| it.extensions = extensions(&[extension(&[0x2a, 3], &[&[1, 1, 1], b"\x04\x01x"])]),
            Some("BOOLEAN"),
        ),
        (
            "not critical written out",
            |it| it.extensions = extensions(&[extension(&[0x2a, 3], &[&[1, 1, 0], b"\x04\x01x"])]),
            None,
        ),
        ("extensions twice", |it| it.more = extensions(&[ca()]), Some("follows")),
        ("a field more", |it| it.more = vec![5, 0], Some("follows")),
        ("bits too many in the signature", |it| it.signature = vec![3, 2, 1, 7], Some("BIT STRING")),
        ("no signature", |it| it.signature = vec![], Some("missing")),
        ("two signatures", |it| it.signature.extend([3, 3, 0, 1, 2]), Some("follows")),
    ];
    for (what, change, expected) in table {
        let mut parts = Parts::good();
        change(&mut parts);
        let found = check_encoding(&parts.der());
        match (expected, &found) {
            (None, found) => assert_eq!(*found, Ok(()), "{what}"),
            (Some(words), found) => {
                let told = found.unwrap_err().what;
                assert!(told.contains(words), "{what}: {told}");
            }
        }
    }
    let mut longer = Parts::good().der();
    longer.push(b'\n');
    assert!(check_encoding(&longer).is_err());
}

proptest! {
    #[test]
    fn what_a_builder_writes_is_der_and_checking_is_total(name in "\\PC{0,40}", at in 0_usize..400, bit in 0_u8..8) {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(3));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        prop_assert_eq!(check_encoding(&der), Ok(()));
        let at = at.min(der.len() - 1);
        der[at] ^= 1 << bit;
        let _result = check_encoding(&der);
    }
}
