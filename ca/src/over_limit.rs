//! Who was turned away for want of room: by which limit, how often, and what they were told.

mod counts;
mod limit;
mod retry_later;

pub use counts::{Met, TurnedAway};
pub use limit::Limit;
pub use retry_later::retry_later;
