//! Durable storage: one implementation of the seams `AuditStore`, `AuthorityJournal`, `HolderStore` and `SealedKeys` per
//! database. SQL text exists nowhere else.

#[cfg(feature = "sqlite")]
mod fold;
mod holders;
mod marks;
pub mod memory;
#[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "without a database nothing has rows"))]
mod rows;
#[cfg(feature = "sqlite")]
mod schema;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(test)]
mod suite;
