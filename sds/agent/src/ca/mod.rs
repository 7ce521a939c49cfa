//! What the agent and the mesh CA say to each other about a certificate: `obtain` is one attempt, from the `token` and a
//! fresh `key` over the `client`'s call to the `reply` that is checked; `channel` is how any call reaches the CA.

pub(crate) mod channel;
pub(crate) mod client;
pub(crate) mod key;
pub(crate) mod obtain;
pub mod reply;
pub(crate) mod token;
