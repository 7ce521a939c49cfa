//! The agent as a whole, against a CA and proxies in the test's own process: `test_world` puts them together.

mod bundle_connection_tests;
mod bundle_stream_tests;
mod end_to_end_tests;
mod restored_tests;
pub(crate) mod test_bundles;
pub(crate) mod test_ca;
mod test_proxy;
pub(crate) mod test_world;
