//! No roots. sqlx trusts the roots of the crate with this name beside those that it is given, and has no switch for that;
//! with none in it, a database server is trusted under the certificates of `postgres.ca_file` and no others. Those that are
//! publicly trusted come from another crate, where no file is named.

use rustls_pki_types::TrustAnchor;

/// What that crate calls the roots.
pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];
