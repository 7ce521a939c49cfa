//! The files in `migrations/`, as they are compiled into the programs.
//!
//! sqlx has macros for this and for reading rows. They link both databases' drivers a second time, into the compiler, which
//! costs more than everything else of sqlx; this and [`columns`](super::columns) are what we would use of them.

use std::borrow::Cow;

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// A migration for each database, by the number in its file's name.
pub(super) struct Pair {
    version: i64,
    description: &'static str,
    /// Its text for PostgreSQL.
    #[cfg(feature = "postgres")]
    pub(super) postgres: &'static str,
    /// Its text for SQLite.
    #[cfg(feature = "sqlite")]
    pub(super) sqlite: &'static str,
}

macro_rules! pairs {
    ($(($version:literal, $description:literal, $file:literal)),* $(,)?) => {
        [$(Pair {
            version: $version,
            description: $description,
            #[cfg(feature = "postgres")]
            postgres: include_str!(concat!("../../../migrations/postgres/", $file)),
            #[cfg(feature = "sqlite")]
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $file)),
        }),*]
    };
}

/// All of them, in their order. The description is kept in the database; it is the file's name in words.
const ALL: [Pair; 23] = pairs![
    (1, "audit event", "0001_audit_event.sql"),
    (2, "authority journal", "0002_authority_journal.sql"),
    (3, "sealed key", "0003_sealed_key.sql"),
    (4, "storage probe", "0004_storage_probe.sql"),
    (5, "holders", "0005_holders.sql"),
    (6, "authority fence", "0006_authority_fence.sql"),
    (7, "storage file", "0007_storage_file.sql"),
    (13, "unused keys", "0013_unused_keys.sql"),
    (14, "schema reader", "0014_schema_reader.sql"),
    (15, "compact events", "0015_compact_events.sql"),
    (16, "handed over", "0016_handed_over.sql"),
    (17, "closed segments", "0017_closed_segments.sql"),
    (18, "holders behind", "0018_holders_behind.sql"),
    (19, "moved", "0019_moved.sql"),
    (24, "gone pods", "0024_gone_pods.sql"),
    (25, "publications", "0025_publications.sql"),
    (26, "pod certificates", "0026_pod_certificates.sql"),
    (27, "record tree", "0027_record_tree.sql"),
    (29, "longer serials", "0029_longer_serials.sql"),
    (30, "signed leaves", "0030_signed_leaves.sql"),
    (31, "words of events", "0031_words_of_events.sql"),
    (32, "retention", "0032_retention.sql"),
    (34, "record notes", "0034_record_notes.sql"),
];

/// The migrations of one database.
pub(super) fn migrator(text: fn(&Pair) -> &'static str) -> Migrator {
    let migration = |pair: &Pair| {
        let sql = SqlStr::from_static(text(pair));
        Migration::new(pair.version, Cow::Borrowed(pair.description), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(ALL.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_file_is_compiled_in_under_its_number_and_name() {
        for (dialect, text) in databases() {
            let folder = format!("{}/../migrations/{dialect}", env!("CARGO_MANIFEST_DIR"));
            let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            let read = |path: &std::path::PathBuf| {
                let name = path.file_stem().unwrap().to_str().unwrap();
                let (number, words) = name.split_once('_').unwrap();
                (number.parse::<i64>().unwrap(), words.replace('_', " "), std::fs::read_to_string(path).unwrap())
            };
            let files: Vec<_> = files.iter().map(read).collect();
            let compiled: Vec<_> =
                ALL.iter().map(|pair| (pair.version, pair.description.to_owned(), text(pair).to_owned())).collect();
            assert_eq!(compiled, files, "{dialect}");
            // Each of them is made within the one transaction.
            assert!(files.iter().all(|(_, _, sql)| !sql.contains("no-transaction")), "{dialect}");
        }
    }

    type Text = fn(&Pair) -> &'static str;

    fn databases() -> Vec<(&'static str, Text)> {
        vec![
            #[cfg(feature = "postgres")]
            ("postgres", |pair| pair.postgres),
            #[cfg(feature = "sqlite")]
            ("sqlite", |pair| pair.sqlite),
        ]
    }
}
