//! Which schemas this program runs on, the same for every database.
//!
//! A schema is the list of its migrations. One that this program does not know was made by a newer program; it names, in the
//! table `schema_reader`, the oldest migration that a program must know to run on what it has made. So an older program
//! goes on beside newer ones for as long as these only add.

use std::collections::BTreeMap;

use sqlx::migrate::{AppliedMigration, Migrator};

/// For each migration that names one: the number of the migration that a program must know to run on it.
pub(super) type Readers = BTreeMap<i64, i64>;

/// How a schema that this program can run on differs from its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Migrations that are still to be made.
    pub(super) missing: Vec<i64>,
    /// Migrations of newer programs.
    pub(super) newer: Vec<i64>,
}

/// Why this program cannot run on a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// A migration has another text than the one of this program.
    #[error("migration {0} is not the one of this version")]
    Changed(i64),
    /// A newer program has changed what this one relies on.
    #[error(
        "it has migration {version}, which this version does not know: it was made by a newer version; use that one"
    )]
    Newer {
        /// The migration that does not allow this program.
        version: i64,
    },
    /// A newer program that lacks something of this one. Nobody has tried the two together.
    #[error(
        "it has migration {newer} of another version but lacks migration {missing} of this one; use a version that has both"
    )]
    Apart {
        /// One that this program does not know.
        newer: i64,
        /// One that the schema lacks.
        missing: i64,
    },
}

/// Judges a schema with the migrations `applied` by those that are `known` here.
///
/// # Errors
/// [`Unfit`].
pub(super) fn judge(known: &Migrator, applied: &[AppliedMigration], readers: &Readers) -> Result<Standing, Unfit> {
    let mut newer = Vec::new();
    for migration in applied {
        let version = migration.version;
        match known.iter().find(|one| one.version == version) {
            Some(one) if one.checksum == migration.checksum => {}
            Some(_) => return Err(Unfit::Changed(version)),
            None if readers.get(&version).is_some_and(|oldest| known.version_exists(*oldest)) => newer.push(version),
            None => return Err(Unfit::Newer { version }),
        }
    }
    let missing = known.iter().map(|one| one.version).filter(|version| applied.iter().all(|it| it.version != *version));
    let missing: Vec<i64> = missing.collect();
    match (newer.first(), missing.first()) {
        (Some(newer), Some(missing)) => Err(Unfit::Apart { newer: *newer, missing: *missing }),
        _ => Ok(Standing { missing, newer }),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::SqlStr;
    use sqlx::migrate::{Migration, MigrationType};

    use super::*;

    fn migration(version: i64) -> Migration {
        let text = SqlStr::from_static("");
        Migration::new(version, "".into(), MigrationType::Simple, text, false)
    }

    fn applied(version: i64) -> AppliedMigration {
        AppliedMigration { version, checksum: migration(version).checksum }
    }

    #[test]
    fn a_newer_schema_is_taken_exactly_when_each_newer_migration_names_a_reader_that_is_known() {
        let known = Migrator::with_migrations(vec![migration(1), migration(2), migration(14)]);
        let fits = |missing: &[i64], newer: &[i64]| Ok(Standing { missing: missing.into(), newer: newer.into() });
        let newer = |version| Err(Unfit::Newer { version });
        type Case<'a> = (&'a [i64], &'a [(i64, i64)], Result<Standing, Unfit>);
        let cases: [Case<'_>; 11] = [
            (&[1, 2, 14], &[(14, 14)], fits(&[], &[])),
            (&[], &[], fits(&[1, 2, 14], &[])),
            (&[1, 2], &[], fits(&[14], &[])),
            (&[1, 2, 14, 15], &[(15, 14)], fits(&[], &[15])),
            (&[1, 2, 14, 15, 20], &[(15, 14), (20, 2)], fits(&[], &[15, 20])),
            // Neither one that says nothing, nor one that wants itself, nor one that wants what is not known here.
            (&[1, 2, 14, 15], &[], newer(15)),
            (&[1, 2, 14, 15], &[(15, 15)], newer(15)),
            (&[1, 2, 14, 15], &[(15, 13)], newer(15)),
            (&[1, 2, 14, 15, 16], &[(15, 14), (16, 15)], newer(16)),
            (&[1, 2, 14, 15, 16], &[(16, 14)], newer(15)),
            (&[1, 2, 15], &[(15, 2)], Err(Unfit::Apart { newer: 15, missing: 14 })),
        ];
        for (versions, readers, expected) in cases {
            let applied: Vec<AppliedMigration> = versions.iter().copied().map(applied).collect();
            assert_eq!(
                judge(&known, &applied, &readers.iter().copied().collect()),
                expected,
                "{versions:?} {readers:?}"
            );
        }
    }

    #[test]
    fn a_migration_with_another_text_is_refused_whatever_comes_after_it() {
        let known = Migrator::with_migrations(vec![migration(1), migration(2)]);
        let mut applied = [applied(1), applied(2), applied(3)];
        applied[1].checksum = vec![1].into();
        assert_eq!(judge(&known, &applied, &Readers::from([(3, 2)])), Err(Unfit::Changed(2)));
    }
}
