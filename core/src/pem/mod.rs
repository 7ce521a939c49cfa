//! DER structures as text: written in one form, and read in all those that people have in their files.

mod read;
mod trusted;

pub use read::{Block, InLine, PemError, read_blocks, read_certificates, read_revocation_lists};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One certificate as PEM: lines of 64 characters (RFC 7468 section 2) and exactly one newline at the end, which is
/// what both of Istio's clients expect of a reply element.
#[must_use]
pub fn pem(der: &[u8]) -> String {
    pem_block("CERTIFICATE", der)
}

/// Any DER structure as PEM under its label (RFC 7468 sections 4 to 13), in the same form.
#[must_use]
pub fn pem_block(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 64);
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    proptest! {
        #[test]
        fn pem_round_trips_and_ends_in_one_newline(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
            let text = pem(&bytes);
            prop_assert!(text.ends_with("-----END CERTIFICATE-----\n"));
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            let back = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            prop_assert_eq!(back.as_ref(), bytes.as_slice());
        }
    }
}
