//! The edges: gRPC. Protobuf types appear here and nowhere else.

pub mod access;
pub mod admin;
mod admin_messages;
mod admin_select;
pub mod bundle_listeners;
pub mod bundle_stream;
pub mod certificate_server;
pub mod client_identity;
mod client_standing;
pub mod create_certificate;
pub mod headers;
pub mod http2;
pub mod intake;
pub mod open_calls;
pub mod operate;
pub mod peer;
mod reply_body;
pub mod status;

#[cfg(test)]
mod admin_stage;
#[cfg(test)]
pub(crate) mod test_mesh;
