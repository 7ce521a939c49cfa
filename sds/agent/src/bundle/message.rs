//! Reads the CA's responses on the bundle stream: untrusted until each is a trust bundle, revocation lists and instructions.

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, GenericSecret, Secret, secret,
};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::Message;
use rustls_pki_types::CertificateRevocationListDer;
use signet_core::bundle::{BundleError, TrustBundle, Validation};
use signet_core::identity::TrustDomain;
use signet_core::pem::{PemError, read_certificates, read_revocation_lists};
use signet_runtime::output::error_chain;
use signet_sds::snapshot::DEFAULT_BUNDLE_NAME;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::identity::renewal_hints::{Instructions, InstructionsError};

/// The secret with the CA's instructions.
pub(super) const INSTRUCTIONS_NAME: &str = "signet/agent";

/// What is asked for.
pub(super) const NAMES: [&str; 2] = [DEFAULT_BUNDLE_NAME, INSTRUCTIONS_NAME];

/// The most roots, and the most lists, that are looked at.
const MAX_MEMBERS: usize = 256;

/// Why a response cannot be used. What was held before stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum MessageError {
    #[error("a resource is not a secret")]
    NotASecret,
    #[error("{DEFAULT_BUNDLE_NAME} is not a validation context")]
    NotValidation,
    #[error("the roots are missing, or not inline")]
    NoRoots,
    #[error("the roots are not PEM certificates")]
    NotPem(#[source] PemError),
    #[error("more than {MAX_MEMBERS} roots")]
    TooMany,
    #[error("the roots are not a trust bundle")]
    Bundle(#[source] BundleError),
    #[error("{INSTRUCTIONS_NAME} is not a generic secret with inline bytes")]
    NotGeneric,
    #[error("{INSTRUCTIONS_NAME} is unreadable")]
    Instructions(#[source] InstructionsError),
}

/// What a response holds.
#[derive(Debug, Default)]
pub(super) struct BundleUpdate {
    pub(super) validation: Option<Validation>,
    pub(super) instructions: Option<Instructions>,
}

/// Reads a response. Broken roots make all of it unusable; broken instructions only if it has no roots, because roots
/// must never wait for anything; broken revocation lists are left out, all of them.
///
/// # Errors
/// [`MessageError`].
pub(super) fn read(response: &DiscoveryResponse, trust_domain: &TrustDomain) -> Result<BundleUpdate, MessageError> {
    let (mut context, mut generic) = (None, None);
    for any in &response.resources {
        let secret = Secret::decode(any.value.as_slice()).map_err(|_malformed| MessageError::NotASecret)?;
        match (secret.name.as_str(), secret.r#type) {
            (DEFAULT_BUNDLE_NAME, Some(secret::Type::ValidationContext(found))) => context = Some(found),
            (DEFAULT_BUNDLE_NAME, _) => return Err(MessageError::NotValidation),
            (INSTRUCTIONS_NAME, Some(secret::Type::GenericSecret(found))) => generic = Some(Some(found)),
            (INSTRUCTIONS_NAME, _) => generic = Some(None),
            // Nobody asked for it.
            _ => {}
        }
    }
    let instructions = match generic.map(instructions).transpose() {
        Err(error) if context.is_some() => {
            tracing::warn!(error = error_chain(&error), "the CA's instructions are left out");
            None
        }
        read => read?,
    };
    let sequence = instructions.as_ref().map_or(0, |instructions| instructions.sequence);
    let validation = context.map(|context| validation(context, trust_domain, sequence)).transpose()?;
    Ok(BundleUpdate { validation, instructions })
}

fn instructions(generic: Option<GenericSecret>) -> Result<Instructions, MessageError> {
    let bytes = generic.and_then(|generic| inline(generic.secret)).ok_or(MessageError::NotGeneric)?;
    Instructions::parse(&bytes).map_err(MessageError::Instructions)
}

fn validation(
    context: CertificateValidationContext,
    trust_domain: &TrustDomain,
    sequence: u64,
) -> Result<Validation, MessageError> {
    let pem = inline(context.trusted_ca).ok_or(MessageError::NoRoots)?;
    let roots = read_certificates(&pem).map_err(MessageError::NotPem)?;
    if roots.len() > MAX_MEMBERS {
        return Err(MessageError::TooMany);
    }
    let roots = roots.into_iter().map(|(_, root)| root).collect();
    let bundle = TrustBundle::new(trust_domain.clone(), sequence, roots).map_err(MessageError::Bundle)?;
    let revocation_lists = match context.crl {
        None => Vec::new(),
        some => revocation_lists(some).unwrap_or_else(|| {
            tracing::warn!("the CA's revocation lists are unreadable and left out, all of them; the roots are used");
            Vec::new()
        }),
    };
    Ok(Validation { bundle, revocation_lists })
}

/// All lists, or `None` if any is not one: Envoy refuses a context with a broken list, and every chain for which one
/// is missing.
fn revocation_lists(crl: Option<DataSource>) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let pem = inline(crl)?;
    let lists = read_revocation_lists(&pem).ok().filter(|lists| (1..=MAX_MEMBERS).contains(&lists.len()))?;
    let lists: Vec<_> = lists.into_iter().map(|(_, list)| list).collect();
    let is_whole = |der: &CertificateRevocationListDer<'_>| {
        CertificateRevocationList::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
    };
    lists.iter().all(is_whole).then_some(lists)
}

fn inline(source: Option<DataSource>) -> Option<Vec<u8>> {
    match source?.specifier? {
        Specifier::InlineBytes(bytes) => Some(bytes),
        Specifier::InlineString(text) => Some(text.into_bytes()),
        // The CA's files and environment are not ours.
        Specifier::Filename(_) | Specifier::EnvironmentVariable(_) => None,
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
