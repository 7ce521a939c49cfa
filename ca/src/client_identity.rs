//! Who a client is, by the certificate that it shows in its TLS handshake: asked for, never required, and judged by the
//! trust bundle and the revocations of this moment. What a client may do with its identity is decided elsewhere.

mod fault;
mod identity;
mod refused;
#[cfg(test)]
pub(crate) mod test_mesh;
mod verdicts;
mod verifier;

pub use fault::{ClientFault, RefusedClients};
pub use identity::ClientIdentity;
pub use refused::ClientRefused;
pub use verifier::ClientVerifier;
pub(crate) use verifier::unix;
