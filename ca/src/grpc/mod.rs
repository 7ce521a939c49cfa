//! The edges: gRPC. Protobuf types appear here and nowhere else.

pub mod admin;
pub mod bundle_listeners;
pub mod bundle_stream;
pub mod certificate_server;
pub mod create_certificate;
pub mod headers;
pub mod record;
mod reply_body;
pub mod status;
