//! Connections to the certificate port, from the accepted socket to the bytes that HTTP/2 reads: who may hold how many,
//! how long they may be silent, and who gives way when there is no room.
//!
//! One rule holds throughout: places are taken by work and by those who have proved who they are. Whoever only waits may
//! do so as long as there is room, and the one that has waited longest gives way first.

pub mod acceptor;
pub mod admin_socket;
pub mod connection;
pub mod connections;
pub mod frames;
mod gathered;
pub mod http2;
pub mod outgoing;
pub mod proxy_protocol;
pub mod replies;
mod sessions;
mod table;
pub mod tls;
