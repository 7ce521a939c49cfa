//! Names of certificates as the CA, its records and Envoy write them.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use signet_core::authority::AuthorityId;
use signet_core::certificate::Facts;

use crate::failure::{Failure, Outcome};

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The facts of the first certificate of a PEM text.
///
/// # Errors
/// [`Failure`].
pub fn facts(pem: &str) -> Outcome<Facts> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(Failure::while_doing("read a certificate"))?;
    Facts::read(&der).map_err(Failure::while_doing("read a certificate"))
}

/// The serial number as 32 digits.
#[must_use]
pub fn serial(facts: &Facts) -> String {
    padded(&hex(&facts.serial))
}

/// A serial number as 32 lower-case digits, however it was written.
#[must_use]
pub fn padded(serial: &str) -> String {
    format!("{:0>32}", serial.to_lowercase().trim_start_matches('0'))
}

/// The ids of the authorities that have the certificates of a PEM text.
///
/// # Errors
/// [`Failure`] when there is something else in the text.
pub fn ids(pem: &str) -> Outcome<Vec<String>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|der| {
            let der = der.map_err(Failure::while_doing("read a certificate"))?;
            let facts = Facts::read(&der).map_err(Failure::while_doing("read a certificate"))?;
            Ok(AuthorityId::of(&facts).to_string())
        })
        .collect()
}

/// The certificates of a PEM text, one text each.
#[must_use]
pub fn split(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(END).filter(|text| text.ends_with(END)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn serials_have_one_form_and_texts_come_apart() {
        assert_eq!(padded("0001AB"), format!("{}1ab", "0".repeat(29)));
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let one = params.self_signed(&key).unwrap().pem().replace("\r\n", "\n");
        let two = format!("{one}{one}");
        assert_eq!(split(&two), [one.clone(), one.clone()]);
        let ids = ids(&two).unwrap();
        assert_eq!((ids.len(), ids.first().unwrap().len()), (2, 40));
    }
}
