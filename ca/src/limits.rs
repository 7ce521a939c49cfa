//! Limits of calls: how many requests a source or an identity may make, how a request gets a place, and how many calls may
//! stay open. What connections may take is in [`transport`](crate::transport).

pub mod configured;
pub mod intake;
pub mod open_calls;
pub mod request_rates;
