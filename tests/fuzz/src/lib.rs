//! Hostile input for everything that reads what others wrote: tokens, keys, requests, certificates, lists, streams and
//! configurations.
//!
//! A [`targets::Target`] takes any bytes and says what came of them, or which promise they broke; "no panic" is the least of
//! those. [`hunt::Hunt`] changes inputs of the corpus ([`corpus`]) by their structure ([`mutate`]) and keeps those that
//! bring an outcome not seen before, so that it finds its way past one check to the next. It is not guided by coverage:
//! the instrumentation for that needs a nightly toolchain or a second build of everything with other flags, and this runs
//! with the build of the tests. What breaks a promise is made smaller ([`shrink`]) and written to a file; kept under
//! `regressions/`, it is tried by every `cargo test` from then on.

pub mod corpus;
pub mod hunt;
pub mod mutate;
pub mod random;
pub mod shrink;
pub mod targets;
pub mod watch;
pub mod world;
