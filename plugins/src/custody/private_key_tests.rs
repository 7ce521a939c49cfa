//! Keys in every encoding that OpenSSL and others write, against the key they were made from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::process::{Command, Stdio};

use proptest::prelude::*;
use signet_core::key_type::KeyType;
use signet_core::seams::custody::SigningKey;

use super::*;
use crate::custody::LocalKey;

/// Runs `openssl` on `input` and returns what it wrote.
fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("apt-get install openssl");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    output.stdout
}

/// One DER element of `tag` with `parts` as its content, shorter than 128 bytes (X.690 section 8.1.3.4).
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[tag, u8::try_from(content.len()).unwrap()][..], &content].concat()
}

fn read(pem: &[u8], spki: &[u8]) -> Result<Option<Vec<u8>>, PrivateKeyError> {
    let pkcs8 = pkcs8_from_pem(&Secret::new(pem.to_vec()), spki)?;
    Ok(LocalKey::from_pkcs8(pkcs8.expose()).map(|key| key.spki_der().to_vec()))
}

#[tokio::test]
async fn every_encoding_of_every_key_type_gives_the_same_key() {
    let table: [(&[&str], KeyType); 5] = [
        (&["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], KeyType::EcP256),
        (&["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], KeyType::EcP384),
        (&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], KeyType::Rsa2048),
        (&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], KeyType::Rsa2048),
        (&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"], KeyType::Rsa4096),
    ];
    for (made, key_type) in table {
        let pkcs8 = openssl(made, b"");
        let spki = openssl(&["pkey", "-pubout", "-outform", "DER"], &pkcs8);
        let traditional = openssl(&["pkey", "-traditional"], &pkcs8);
        let mut encodings = vec![pkcs8.clone(), traditional.clone()];
        if key_type == KeyType::EcP256 || key_type == KeyType::EcP384 {
            let curve = if key_type == KeyType::EcP256 { "prime256v1" } else { "secp384r1" };
            let parameters = openssl(&["ecparam", "-name", curve], b"");
            let joined = [parameters.trim_ascii_end(), &traditional].concat();
            encodings.extend([[parameters.clone(), traditional.clone()].concat(), joined]);
            encodings.push(openssl(&["ec", "-no_public"], &pkcs8));
            encodings.push(openssl(&["pkcs8", "-topk8", "-nocrypt"], &encodings[4]));
        }
        encodings.push([b"\xef\xbb\xbf".to_vec(), pkcs8.clone()].concat());
        encodings.push([b"some words\r\n".to_vec(), traditional, b"\n\n".to_vec()].concat());
        for (index, pem) in encodings.iter().enumerate() {
            assert_eq!(read(pem, &spki), Ok(Some(spki.clone())), "{key_type} encoding {index}");
            let dos: Vec<u8> = String::from_utf8(pem.clone()).unwrap().replace('\n', "\r\n").into_bytes();
            assert_eq!(read(&dos, &spki), Ok(Some(spki.clone())), "{key_type} encoding {index} with CRLF");
        }
        let key = LocalKey::from_pkcs8(pkcs8_from_pem(&Secret::new(pkcs8), &spki).unwrap().expose()).unwrap();
        assert_eq!(key.key_type(), key_type);
        assert!(key.sign(b"message").await.is_ok());
    }
}

#[test]
fn a_scalar_without_its_leading_zeroes_is_filled_up() {
    let (mut scalar, spki) = loop {
        let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_der();
        let key = LocalKey::from_pkcs8(&pkcs8).unwrap();
        let info = PrivateKeyInfo::try_from(pkcs8.as_slice()).unwrap();
        let scalar = info.private_key[7..39].to_vec();
        if scalar[0] == 0 {
            break (scalar, key.spki_der().to_vec());
        }
    };
    let pem = |scalar: &[u8]| {
        let curve = tlv(0xa0, &[&tlv(6, &[P256.as_bytes()])]);
        let der = tlv(0x30, &[&tlv(2, &[&[1]]), &tlv(4, &[scalar]), &curve]);
        openssl(&["ec", "-inform", "DER", "-no_public"], &der); // OpenSSL reads both too
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &*der);
        format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n").into_bytes()
    };
    assert_eq!(read(&pem(&scalar), &spki), Ok(Some(spki.clone())));
    scalar.remove(0);
    assert_eq!(read(&pem(&scalar), &spki), Ok(Some(spki)));
}

#[test]
fn what_is_wrong_with_a_key_file_is_said_without_showing_it() {
    let generate = |args: &[&str]| openssl(&[&["genpkey", "-quiet"], args].concat(), b"");
    let good = generate(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let spki = openssl(&["pkey", "-pubout", "-outform", "DER"], &good);
    let text = String::from_utf8(good.clone()).unwrap();
    let encrypted = openssl(&["pkcs8", "-topk8", "-passout", "pass:x"], &good);
    let old_style = openssl(&["ec", "-aes128", "-passout", "pass:x"], &good);
    let table = [
        (Vec::new(), PrivateKeyError::NoKey),
        (b"no key in here".to_vec(), PrivateKeyError::NoKey),
        (openssl(&["pkey", "-pubout"], &good), PrivateKeyError::NoKey),
        (encrypted, PrivateKeyError::Encrypted),
        (old_style, PrivateKeyError::Encrypted),
        ([good.clone(), good.clone()].concat(), PrivateKeyError::SeveralKeys),
        (
            [good.clone(), b"-----END PRIVATE KEY-----".to_vec()].concat(),
            PrivateKeyError::Damaged(PemError::Mark(text.lines().count() + 1)),
        ),
        (format!(" {text}").into_bytes(), PrivateKeyError::Damaged(PemError::Mark(1))),
        (format!("{}{text}", text.trim_end()).into_bytes(), PrivateKeyError::SeveralKeys),
        (openssl(&["pkey", "-outform", "DER"], &good), PrivateKeyError::Damaged(PemError::NotText)),
        (text.replace("-----END PRIVATE KEY-----\n", "").into_bytes(), PrivateKeyError::Damaged(PemError::NoEnd(1))),
        (text.replace("MI", "!!").into_bytes(), PrivateKeyError::Damaged(PemError::NotBase64(1))),
        (text.replace("MI", "MM").into_bytes(), PrivateKeyError::Unsupported),
        (generate(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]), PrivateKeyError::Unsupported),
    ];
    for (pem, expected) in table {
        assert_eq!(read(&pem, &spki), Err(expected), "{}", String::from_utf8_lossy(&pem));
    }
    for algorithm in ["ED25519", "X25519"] {
        assert_eq!(read(&generate(&["-algorithm", algorithm]), &spki), Ok(None), "custody refuses it");
    }
}

proptest! {
    #[test]
    fn reading_a_key_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
        let label = ["", "EC ", "RSA "][kind as usize];
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
        let pem = format!("-----BEGIN {label}PRIVATE KEY-----\n{body}\n-----END {label}PRIVATE KEY-----\n");
        prop_assert!(!matches!(read(pem.as_bytes(), &bytes), Ok(Some(_))));
    }
}
