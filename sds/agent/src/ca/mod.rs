//! What the agent and the mesh CA say to each other about a certificate: `obtain` is one attempt, from the `token` and a
//! fresh `key` over the `client`'s call to the `reply` that is checked; `channel` is how any call reaches the CA.

pub mod channel;
pub mod client;
pub mod key;
pub mod obtain;
pub mod reply;
pub mod token;
