//! The edges: gRPC and TLS. Protobuf types appear here and nowhere else.

pub mod admin;
pub mod create_certificate;
pub mod intake;
pub mod peer;
pub mod status;
pub mod tls;
