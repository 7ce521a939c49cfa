//! Structures that are signed: a PEM block `TO BE SIGNED` stands for what is inside, and is signed here, so that changes to
//! it get past the signature. And an independent check of such signatures, with ring alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use signet_core::pem::pem_block;

use crate::mutate::der::header;
use crate::world;

pub(super) const WORDS: &[&str] = &[
    "-----BEGIN CERTIFICATE REQUEST-----\n",
    "-----END CERTIFICATE REQUEST-----\n",
    "-----BEGIN NEW CERTIFICATE REQUEST-----\r\n",
    "-----END NEW CERTIFICATE REQUEST-----\r\n",
    "\u{feff}",
    "-----BEGIN X509 CRL-----\n",
    "-----END X509 CRL-----\n",
    "spiffe://cluster.local/ns/default/sa/web",
];

const BEGIN: &str = "-----BEGIN TO BE SIGNED-----\n";
const END: &str = "-----END TO BE SIGNED-----\n";

/// ecdsa-with-SHA256 (RFC 5758 section 3.2).
const ALGORITHM: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The input with each block `TO BE SIGNED` made a signed one with this label.
pub(super) fn signed(input: &[u8], label: &str) -> Vec<u8> {
    let Ok(mut rest) = std::str::from_utf8(input) else { return input.to_vec() };
    let mut output = String::new();
    while let Some((before, (block, after))) =
        rest.split_once(BEGIN).and_then(|(before, block)| Some((before, block.split_once(END)?)))
    {
        output.push_str(before);
        if let Ok(inner) = STANDARD.decode(block.replace('\n', "")) {
            output.push_str(&pem_block(label, &around(&inner)));
        }
        rest = after;
    }
    output.push_str(rest);
    output.into_bytes()
}

fn around(inner: &[u8]) -> Vec<u8> {
    let signature = world::signed_as_der(inner);
    let bits = [header(0x03, signature.len() + 1), vec![0], signature].concat();
    let content = [inner, &ALGORITHM, &bits].concat();
    [header(0x30, content.len()), content].concat()
}

/// Whether the key of this world signed the message.
pub(super) fn is_signed_by_us(message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, world::public_point()).verify(message, signature).is_ok()
}
