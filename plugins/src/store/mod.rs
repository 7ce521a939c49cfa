//! Durable storage: one implementation of the seams `AuditStore`, `AuthorityJournal`, `HolderStore` and `SealedKeys` per
//! database. SQL text exists nowhere else.

mod holders;
mod marks;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), expect(dead_code, reason = "no database, no rows"))]
mod rows;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod schema;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(test)]
mod suite;
