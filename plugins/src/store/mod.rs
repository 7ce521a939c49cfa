//! Durable storage: one implementation of the seams `AuditStore`, `AuthorityJournal`, `HolderStore`, `PublicationStore`,
//! `RecordTree`, `RecordRetention`, `SealedKeys` and `SignedLeafStore` per database. SQL text exists nowhere else.

mod columns;
mod holder_marks;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod holder_projection;
mod holders;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod journal;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod location;
pub mod memory;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod migrations;
mod pod_certificates;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod publications;
#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod questions_bench;
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), expect(dead_code, reason = "no database, no rows"))]
mod record_tree;
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), expect(dead_code, reason = "no database, no rows"))]
mod retention;
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), expect(dead_code, reason = "no database, no rows"))]
mod rows;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod schema;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod search;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod signed_leaves;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod storage_move;
#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod storage_move_tests;
#[cfg(test)]
mod suite;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod tables;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod terms;

use async_trait::async_trait;
use signet_core::seams::pod_certificates::PodCertificateStore;
use signet_core::seams::record_tree::RecordTree;
use signet_core::seams::retention::RecordRetention;
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::{AuditStore, AuthorityJournal, HolderStore, PublicationStore, SealedKeys};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use self::location::Location;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use self::storage_move::{Ended, Moved, move_storage};

/// Everything that a CA keeps, in one database.
#[async_trait]
pub trait Store:
    AuditStore
    + AuthorityJournal
    + HolderStore
    + PodCertificateStore
    + PublicationStore
    + RecordTree
    + RecordRetention
    + SealedKeys
    + SignedLeafStore
{
    /// Ends its connections in order, whatever is left to be done at their end. There is no deadline; dropped, it leaves
    /// nothing behind that the next start would not mend.
    async fn close(&self);
}
