//! The workload's own token: read from its file for every call, and asked whom it speaks of.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use signet_core::identity::{IdentityError, TrustDomain, WorkloadId};
use signet_core::secret::Secret;
use signet_runtime::files::{self, FileError};

/// The largest token file that is read, in bytes.
pub(crate) const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// Why there is no usable token. No variant holds any part of the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TokenError {
    /// The file is missing, unreadable or too large.
    #[error("cannot read the token")]
    Read(#[source] FileError),
    /// Nothing but white space.
    #[error("the token file {} is empty", .0.display())]
    Empty(PathBuf),
    /// Bytes that may not stand in a header.
    #[error("the token file {} holds something else than one token", .0.display())]
    NotAToken(PathBuf),
    /// Its claims cannot be read, so that it names nobody.
    #[error("the token is not a JSON web token, so the identity must be set in the configuration (identity)")]
    NotAJwt,
    /// Its subject is no service account.
    #[error("the token's subject is no service account, so the identity must be set in the configuration (identity)")]
    NotAServiceAccount,
    /// Its subject has names that no identity can have.
    #[error("the token's subject cannot be turned into a SPIFFE ID")]
    Identity(#[source] IdentityError),
}

/// Reads the token. Whitespace around it is dropped, as it may end in a newline.
///
/// # Errors
/// [`TokenError::Read`], [`TokenError::Empty`], [`TokenError::NotAToken`].
pub(crate) async fn read(path: &Path) -> Result<Secret, TokenError> {
    let file = Secret::new(files::read_in_time(path, MAX_TOKEN_BYTES).await.map_err(TokenError::Read)?);
    let token = file.expose().trim_ascii();
    if token.is_empty() {
        return Err(TokenError::Empty(path.to_owned()));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(TokenError::NotAToken(path.to_owned()));
    }
    Ok(Secret::new(token.to_vec()))
}

/// The service account that the token speaks of.
///
/// The signature is deliberately not verified: it is our own token, the answer only decides what we ask for, and the
/// CA verifies both.
///
/// # Errors
/// [`TokenError`]: its last three variants.
pub(crate) fn subject(token: &Secret, trust_domain: &TrustDomain) -> Result<WorkloadId, TokenError> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let claims = token.expose_str().and_then(|text| text.split('.').nth(1)).ok_or(TokenError::NotAJwt)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).map_err(|_malformed| TokenError::NotAJwt)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_malformed| TokenError::NotAJwt)?;
    let mut parts = claims.sub.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("system"), Some("serviceaccount"), Some(namespace), Some(account), None) => {
            WorkloadId::new(trust_domain.clone(), namespace, account).map_err(TokenError::Identity)
        }
        _ => Err(TokenError::NotAServiceAccount),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn jwt(claims: &str) -> Secret {
        Secret::new(format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims)).into_bytes())
    }

    #[tokio::test]
    async fn a_token_is_trimmed_and_anything_else_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(matches!(read(&path).await, Err(TokenError::Read(_))));
        for (content, expected) in [
            (" a.b.c\n".to_owned(), Some("a.b.c")),
            (String::new(), None),
            ("\n \t".to_owned(), None),
            ("hunter2 hunter2".to_owned(), None),
            ("hunter2\0".to_owned(), None),
            ("x".repeat(16 * 1024 + 1), None),
        ] {
            std::fs::write(&path, &content).unwrap();
            let token = read(&path).await;
            assert_eq!(token.as_ref().ok().and_then(Secret::expose_str), expected);
            assert!(!format!("{token:?}").contains("hunter2"));
        }
    }

    #[test]
    fn the_subject_is_a_service_account_or_nobody() {
        let domain = TrustDomain::parse("td").unwrap();
        let id = subject(&jwt(r#"{"sub":"system:serviceaccount:prod:web","aud":["x"]}"#), &domain).unwrap();
        assert_eq!(id.to_string(), "spiffe://td/ns/prod/sa/web");
        for sub in ["", "web", "system:serviceaccount:prod", "system:serviceaccount:a:b:c", "system:node:a:b"] {
            let refused = subject(&jwt(&format!(r#"{{"sub":"{sub}"}}"#)), &domain);
            assert!(matches!(refused, Err(TokenError::NotAServiceAccount)), "{sub}");
        }
        let odd = subject(&jwt(r#"{"sub":"system:serviceaccount:A/b:c"}"#), &domain);
        assert!(matches!(odd, Err(TokenError::Identity(_))));
        for token in [Secret::new(b"opaque".to_vec()), Secret::new(b"a.!!.c".to_vec()), jwt("[]"), jwt("{}")] {
            assert!(matches!(subject(&token, &domain), Err(TokenError::NotAJwt)));
        }
    }
}
