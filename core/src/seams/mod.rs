//! The seams: a trait stands here only where there are two real implementations or where tests must control the world.

pub mod authenticator;
pub mod bundle_proofs;
pub mod certificate_authority;
pub mod custody;
pub mod explanation;
pub mod impersonation;
pub mod live_pods;
pub mod pod_certificates;
pub mod publisher;
pub mod record_tree;
pub mod retention;
pub mod signed_leaves;
pub mod store;
pub mod upstream_authority;
pub mod witness;
