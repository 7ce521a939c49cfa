//! Leaves as the profile of [`signet_core::profile`] has them.
//!
//! What all workloads' leaves of one issuer share is written by rcgen once, and copied around the few parts that a decision
//! changes. [`signet_core::verify`] reads each leaf as if it came from somewhere else, so that a mistake here would not get
//! out.

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use signet_core::csr::KeyFamily;
use signet_core::digest::key_identifier;
use signet_core::policy::{SigningRequest, Subject};
use signet_core::profile::{leaf_usages, usage};
use signet_core::seams::certificate_authority::SignError;
use time::OffsetDateTime;
use time::macros::datetime;
use x509_parser::asn1_rs::{FromDer, Header};

use super::certificates::{PreparedIssuer, failed, sign, uri};
use super::remote_signature::{complete_parts, take_apart, with_issuer, write_length};

/// The leaf profile under one issuer, prepared.
pub(super) struct LeafTemplate {
    ec: Profile,
    rsa: Profile,
}

struct Profile {
    params: CertificateParams,
    /// `None` when it would not write what rcgen writes.
    skeleton: Option<Skeleton>,
}

impl LeafTemplate {
    /// Prepares leaves of this issuer.
    pub(super) fn new(issuer: &PreparedIssuer) -> Self {
        Self { ec: Profile::new(KeyFamily::Ec, issuer), rsa: Profile::new(KeyFamily::Rsa, issuer) }
    }

    /// Signs exactly this decision.
    ///
    /// # Errors
    /// [`SignError`].
    pub(super) async fn sign(
        &self,
        request: &SigningRequest,
        issuer: &PreparedIssuer,
    ) -> Result<CertificateDer<'static>, SignError> {
        let profile = match request.key().family() {
            KeyFamily::Ec => &self.ec,
            KeyFamily::Rsa => &self.rsa,
        };
        match (&profile.skeleton, Parts::of(request)) {
            (Some(skeleton), Some(parts)) => {
                let (content, tbs) = skeleton.around(&parts);
                let tbs = content.get(..tbs).unwrap_or_default();
                complete_parts(&content, tbs, &*issuer.key).await.map(CertificateDer::from)
            }
            _ => sign(&profile.params(request)?, request.key().spki_der(), issuer).await,
        }
    }
}

impl Profile {
    fn new(family: KeyFamily, issuer: &PreparedIssuer) -> Self {
        let mut params = CertificateParams::default();
        // an empty subject, which makes rcgen mark the SAN extension critical.
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = leaf_usages(family).iter().filter_map(|bit| purpose(*bit)).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let skeleton = Skeleton::new(&params, issuer);
        Self { params, skeleton }
    }

    /// The parameters for exactly this decision.
    fn params(&self, request: &SigningRequest) -> Result<CertificateParams, SignError> {
        let mut params = self.params.clone();
        params.serial_number = Some(SerialNumber::from_slice(request.serial().as_bytes()));
        params.not_before = request.not_before();
        params.not_after = request.not_after();
        params.subject_alt_names.push(uri(request.spiffe_id().as_str())?);
        if let Subject::Serving { dns, ips, .. } = request.subject() {
            for name in dns {
                let name = name.as_str().try_into().map_err(|_| failed("a DNS name is not ASCII"))?;
                params.subject_alt_names.push(SanType::DnsName(name));
            }
            params.subject_alt_names.extend(ips.iter().copied().map(SanType::IpAddress));
        }
        Ok(params)
    }
}

fn purpose(bit: u8) -> Option<KeyUsagePurpose> {
    match bit {
        usage::DIGITAL_SIGNATURE => Some(KeyUsagePurpose::DigitalSignature),
        usage::KEY_ENCIPHERMENT => Some(KeyUsagePurpose::KeyEncipherment),
        _ => None,
    }
}

/// What differs between two leaves of workloads, under one issuer and with keys of one family.
struct Parts<'a> {
    serial: [u8; 16],
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    spki_der: &'a [u8],
    spiffe_id: &'a str,
}

impl<'a> Parts<'a> {
    /// `None` for what has other parts: serving certificates, and serial numbers that DER writes longer or shorter.
    fn of(request: &'a SigningRequest) -> Option<Self> {
        let serial: [u8; 16] = request.serial().as_bytes().try_into().ok()?;
        let is_workload = matches!(request.subject(), Subject::Workload(_));
        let is_plain = (0x01..=0x7f).contains(&serial[0]) && request.spiffe_id().as_str().is_ascii();
        (is_workload && is_plain).then(|| Self {
            serial,
            not_before: request.not_before(),
            not_after: request.not_after(),
            spki_der: request.key().spki_der(),
            spiffe_id: request.spiffe_id().as_str(),
        })
    }

    fn serial(&self) -> Vec<u8> {
        [&[0x02, 16], &self.serial[..]].concat()
    }

    fn validity(&self) -> Vec<u8> {
        let mut to = Backwards::default();
        to.put(&time(self.not_after));
        to.put(&time(self.not_before));
        to.enclose(0x30, 0);
        to.finish()
    }

    /// The subject alternative name extension: critical, one URI (RFC 5280 section 4.2.1.6).
    fn alternative_name(&self, to: &mut Backwards) {
        let end = to.len();
        to.put(self.spiffe_id.as_bytes());
        for tag in [0x86, 0x30, 0x04] {
            to.enclose(tag, end);
        }
        to.put(&[0x06, 3, 0x55, 0x1d, 0x11, 0x01, 1, 0xff]);
        to.enclose(0x30, end);
    }
}

/// A time of validity: UTCTime through 2049, GeneralizedTime after it (RFC 5280 section 4.1.2.5).
fn time(at: OffsetDateTime) -> Vec<u8> {
    let (date, (hour, minute, second)) = (at.date(), at.to_hms());
    let rest = format!("{:02}{:02}{hour:02}{minute:02}{second:02}Z", u8::from(date.month()), date.day());
    match date.year() {
        year @ 1950..2050 => [b"\x17\x0d", format!("{:02}{rest}", year % 100).as_bytes()].concat(),
        year => [b"\x18\x0f", format!("{year:04}{rest}").as_bytes()].concat(),
    }
}

/// What most leaves have room in, in bytes.
const ROOM: usize = 1024;

/// The bytes between the [`Parts`] of a certificate (RFC 5280 section 4.1).
struct Skeleton {
    version: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// Before the alternative name, from it to the identifier of the key, and after that.
    extensions: [Vec<u8>; 3],
    /// The signature's algorithm, behind what is signed.
    algorithm: Vec<u8>,
}

impl Skeleton {
    /// Has rcgen write a certificate, and cuts it up.
    fn new(params: &CertificateParams, issuer: &PreparedIssuer) -> Option<Self> {
        struct Nobody;
        impl PublicKeyData for Nobody {
            fn der_bytes(&self) -> &[u8] {
                b"\x04 nobody's key"
            }
            fn algorithm(&self) -> &'static SignatureAlgorithm {
                &rcgen::PKCS_ECDSA_P256_SHA256
            }
        }
        let spki_der = Nobody.subject_public_key_info();
        let sample = Parts {
            serial: *b"a serial number.",
            not_before: datetime!(2001-02-03 04:05:06 UTC),
            not_after: datetime!(2061-08-09 10:11:12 UTC),
            spki_der: &spki_der,
            spiffe_id: "spiffe://sample/ns/sample/sa/sample",
        };
        let mut params = params.clone();
        params.serial_number = Some(SerialNumber::from_slice(&sample.serial));
        (params.not_before, params.not_after) = (sample.not_before, sample.not_after);
        params.subject_alt_names.push(uri(sample.spiffe_id).ok()?);
        let written = params.signed_by(&Nobody, &issuer.issuer).ok()?;
        let (content, tbs) = take_apart(written.der())?;
        let (content, tbs) = with_issuer(content, tbs, &issuer.subject)?;
        let skeleton = Self::cut(&content, content.get(..tbs)?, &sample)?;
        (skeleton.around(&sample).0 == content).then_some(skeleton)
    }

    fn cut(content: &[u8], tbs: &[u8], sample: &Parts<'_>) -> Option<Self> {
        let mut name = Backwards::default();
        sample.alternative_name(&mut name);
        let (version, rest) = cut_at(inside(tbs)?, &sample.serial())?;
        let (issuer, rest) = cut_at(rest, &sample.validity())?;
        let (subject, rest) = cut_at(rest, sample.spki_der)?;
        let (before, rest) = cut_at(inside(inside(rest)?)?, &name.finish())?;
        let (between, after) = cut_at(rest, &key_identifier(sample.spki_der))?;
        Some(Self {
            version: version.to_vec(),
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            extensions: [before, between, after].map(<[u8]>::to_vec),
            algorithm: content.get(tbs.len()..)?.to_vec(),
        })
    }

    /// A certificate up to its signature, and how many bytes of that are signed.
    fn around(&self, parts: &Parts<'_>) -> (Vec<u8>, usize) {
        let [before, between, after] = &self.extensions;
        let mut to = Backwards(Vec::with_capacity(ROOM));
        to.put(&self.algorithm);
        let end = to.len();
        to.put(after);
        to.put(&key_identifier(parts.spki_der));
        to.put(between);
        parts.alternative_name(&mut to);
        to.put(before);
        to.enclose(0x30, end);
        to.enclose(0xa3, end);
        for part in [parts.spki_der, &self.subject, &parts.validity(), &self.issuer, &parts.serial(), &self.version] {
            to.put(part);
        }
        to.enclose(0x30, end);
        let signed = to.len().saturating_sub(end);
        (to.finish(), signed)
    }
}

/// What lies before and behind the first place where `part` stands.
fn cut_at<'a>(bytes: &'a [u8], part: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(part.len()).position(|window| window == part)?;
    Some((bytes.get(..at)?, bytes.get(at.checked_add(part.len())?..)?))
}

/// The content of an element.
fn inside(element: &[u8]) -> Option<&[u8]> {
    Header::from_der(element).ok().map(|(content, _)| content)
}

/// DER that is written from its end: what encloses something comes after it, when its length is known.
#[derive(Default)]
struct Backwards(Vec<u8>);

impl Backwards {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts bytes before what is there.
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().rev());
    }

    /// Makes an element of everything that was put since the length was `end`.
    fn enclose(&mut self, tag: u8, end: usize) {
        let mut header = vec![tag];
        write_length(&mut header, self.len().saturating_sub(end));
        self.put(&header);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.reverse();
        self.0
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
