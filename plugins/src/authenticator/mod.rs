//! Who a bearer token proves.

mod jwks;
mod jwt;
#[cfg(feature = "kubernetes")]
mod key_lookup;
#[cfg(feature = "kubernetes")]
mod live_objects;
mod published_keys;
mod token_cache;
#[cfg(feature = "kubernetes")]
mod token_review;

pub use jwks::JwksAuthenticator;
pub use jwt::TokenRules;
pub use jwt::keys::{KeySetError, LeftOut};
#[cfg(feature = "kubernetes")]
pub use key_lookup::{ApiServerKeys, IssuerKeys};
#[cfg(feature = "kubernetes")]
pub use live_objects::LiveObjects;
pub use published_keys::{KeyLookup, Published, PublishedKeys, Refreshed};
#[cfg(feature = "kubernetes")]
pub use token_review::{OnReview, ReviewLimits, TokenReviewAuthenticator};
