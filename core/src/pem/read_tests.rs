//! PEM as people have it: what OpenSSL reads is read, and what it passes over is refused with its line.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::pem::{pem, pem_block};

fn one() -> String {
    pem(b"first certificate, of more than one line: 0123456789 0123456789 0123456789")
}

fn two() -> String {
    pem(b"second")
}

/// Lines and contents.
fn read(text: impl AsRef<[u8]>) -> Result<Vec<(usize, String)>, PemError> {
    let text_of = |der: CertificateDer<'static>| String::from_utf8_lossy(&der).chars().take(6).collect();
    Ok(read_certificates(text.as_ref())?.into_iter().map(|(line, der)| (line, text_of(der))).collect())
}

#[test]
fn what_others_read_is_read_whole() {
    let both = |first: usize, second: usize| Ok(vec![(first, "first ".to_owned()), (second, "second".to_owned())]);
    let text = one() + &two();
    let crlf = text.replace('\n', "\r\n");
    let spaces = text.replace('\n', " \t\n");
    let x509 = text.replace("BEGIN CERT", "BEGIN X509 CERT").replace("END CERT", "END X509 CERT");
    let trusted = text.replace("BEGIN CERT", "BEGIN TRUSTED CERT").replace("END CERT", "END TRUSTED CERT");
    let long = {
        let mut lines = text.lines();
        let begin = lines.next().unwrap();
        format!("{begin}\n{}{}\n{}", lines.next().unwrap(), lines.next().unwrap(), lines.collect::<Vec<_>>().join("\n"))
    };
    let headers = text.replacen("-----\n", "-----\nComment: x\nMore: y\n\n", 1);
    for (what, text, expected) in [
        ("as it is", text.clone(), both(1, 5)),
        ("a byte order mark", format!("\u{feff}{text}"), both(1, 5)),
        ("lines as DOS has them", crlf, both(1, 5)),
        ("spaces at the ends", spaces, both(1, 5)),
        ("no last line end", text.trim_end().to_owned(), both(1, 5)),
        ("comments", format!("# Root A\n----- old -----\n\n{}\nsubject=/CN=b\n{}the end\n", one(), two()), both(4, 10)),
        ("the label X509 CERTIFICATE", x509, both(1, 5)),
        ("the label TRUSTED CERTIFICATE", trusted, both(1, 5)),
        ("one long line", long, both(1, 4)),
        ("joined without a line end", format!("{}{}", one().trim_end(), two()), both(1, 4)),
        ("headers", headers, both(1, 8)),
        ("nothing", String::new(), Ok(vec![])),
        ("nothing but space", " \r\n\t\n".to_owned(), Ok(vec![])),
        ("a byte order mark alone", "\u{feff}\n".to_owned(), Ok(vec![])),
    ] {
        assert_eq!(read(&text), expected, "{what}: {text}");
    }
}

#[test]
fn what_would_be_passed_over_is_refused_with_its_line() {
    let (first, second) = (one(), two());
    let text = first.clone() + &second;
    let indented = format!("{first}{}", second.replace("-----BEGIN", " -----BEGIN"));
    let all_indented = format!("{first}  {}", second.replace('\n', "\n  "));
    let begin = |other: &str| format!("{first}{}", second.replace("-----BEGIN CERTIFICATE-----", other));
    let end = |other: &str| format!("{first}{}", second.replace("-----END CERTIFICATE-----", other));
    let key = pem_block("PRIVATE KEY", b"key");
    let list = pem_block("X509 CRL", b"list");
    let foreign = |label: &str| PemError::Foreign { line: 5, label: label.to_owned() };
    let utf16: Vec<u8> = text.bytes().flat_map(|byte| [byte, 0]).collect();
    for (text, expected) in [
        (format!("{}x{second}", first.trim_end()), PemError::NoEnd(1)),
        (format!("{}-{second}", first.trim_end()), PemError::NoEnd(1)),
        (indented, PemError::Mark(5)),
        (all_indented, PemError::Mark(5)),
        (format!("{first}# {}", second.replace('\n', "\n# ")), PemError::Mark(5)),
        (begin("----BEGIN CERTIFICATE-----"), PemError::Mark(5)),
        (begin("-----BEGIN CERTIFICATE----"), PemError::Mark(5)),
        (begin("\u{2014}-BEGIN CERTIFICATE-----"), PemError::Mark(5)),
        (begin("-----begin certificate-----"), PemError::Mark(5)),
        (begin("-----BEGINCERTIFICATE-----"), PemError::Mark(7)),
        (begin("----- BEGIN CERTIFICATE -----"), PemError::Mark(5)),
        (begin("-----BEGIN CERTIFICATE----- # root"), PemError::Mark(5)),
        (begin("-----BEGIN -----"), PemError::Mark(5)),
        (begin(""), PemError::Mark(7)),
        (end(""), PemError::NoEnd(5)),
        (end("-----END X509 CERTIFICATE-----"), PemError::NoEnd(5)),
        (end("-----END CERTIFICATE---"), PemError::NoEnd(5)),
        (text.replacen("-----END CERTIFICATE-----\n", "", 1), PemError::NoEnd(1)),
        (format!("{first}{}", &second[..30]), PemError::NoEnd(5)),
        (text.replacen("c2Vjb25k", "c2Vjb2*k", 1), PemError::NotBase64(5)),
        (text.replacen("c2Vjb25k", "c2Vjb25", 1), PemError::NotBase64(5)),
        (text.replacen("c2Vjb25k", "", 1), PemError::NotBase64(5)),
        (text.replacen("c2Vj", "Proc-Type: 4,ENCRYPTED\n\nc2Vj", 1), PemError::Encrypted(5)),
        (format!("{first}{key}"), foreign("PRIVATE KEY")),
        (format!("{first}{list}"), foreign("X509 CRL")),
        ("some text\n".to_owned(), PemError::NoBlock),
        (first.replace('\n', "\r"), PemError::Mark(1)),
    ] {
        assert_eq!(read(&text), Err(expected), "{text}");
    }
    assert_eq!(read(utf16), Err(PemError::NotText));
    assert_eq!(
        read_revocation_lists(first.as_bytes()).err().map(|error| error.to_string()),
        Some("line 1 begins a PEM block `CERTIFICATE`, which does not belong into this file; remove it".to_owned())
    );
    assert_eq!(read_revocation_lists(format!("{list}\n{list}").as_bytes()).unwrap().len(), 2);
}

#[test]
fn settings_of_openssl_behind_a_certificate_are_taken_off_and_count_if_they_restrict_it() {
    const CERTIFICATE: &[u8] = &[0x30, 3, 2, 1, 7];
    const SERVER: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
    const CLIENT: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2];
    const ANY: &[u8] = &[6, 4, 0x55, 0x1d, 0x25, 0];
    let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let settings = |parts: &[&[u8]]| element(0x30, &parts.concat());
    let alias = element(0x0c, b"an alias");
    for (what, trailer, is_taken) in [
        ("none", vec![], true),
        ("empty ones", settings(&[]), true),
        ("an alias", settings(&[&alias]), true),
        ("trust for both", settings(&[&element(0x30, &[SERVER, CLIENT].concat()), &alias]), true),
        ("trust for anything", settings(&[&element(0x30, ANY)]), true),
        ("trust for servers", settings(&[&element(0x30, SERVER)]), false),
        ("trust for nothing", settings(&[&element(0x30, &[])]), false),
        ("reject", settings(&[&element(0xa0, CLIENT)]), false),
        ("trust and reject", settings(&[&element(0x30, ANY), &element(0xa0, SERVER), &alias]), false),
        ("something else", b"junk".to_vec(), false),
        ("more than that", [settings(&[]), vec![5, 0]].concat(), false),
    ] {
        let text = pem_block("TRUSTED CERTIFICATE", &[CERTIFICATE, &trailer].concat());
        let expected = if is_taken { Ok(vec![(1, CERTIFICATE.to_vec().into())]) } else { Err(PemError::NotTrusted(1)) };
        assert_eq!(read_certificates(text.as_bytes()), expected, "{what}");
    }
    // Behind a plain one they are part of it, which is none then.
    let plain = pem(&[CERTIFICATE, &settings(&[])].concat());
    assert_eq!(read_certificates(plain.as_bytes()).unwrap()[0].1.len(), 7);
}

proptest! {
    #[test]
    fn reading_is_total_and_loses_no_block(text in "(-----BEGIN CERTIFICATE-----|-----END CERTIFICATE-----|YWJj|[ \r\n#-]|x){0,40}") {
        if let Ok(read) = read_certificates(text.as_bytes()) {
            prop_assert_eq!(read.len(), text.matches("BEGIN").count());
            prop_assert_eq!(read.len(), text.matches("END").count());
        }
    }

    #[test]
    fn reading_any_bytes_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _result = read_blocks(&bytes);
    }
}
