//! The steps that bring a database's schema to this version, one list for each kind of database.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// A file of `migrations/`, by its number, its name and what is in it.
type Step = (i64, &'static str, &'static str);

const SQLITE: &[Step] = &[(1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql"))];
const POSTGRES: &[Step] = &[(1, "initial", include_str!("../../migrations/postgres/0001_initial.sql"))];

/// Brings SQLite to this version.
pub fn sqlite() -> Migrator {
    migrator(SQLITE)
}

/// Brings PostgreSQL to this version.
pub fn postgres() -> Migrator {
    migrator(POSTGRES)
}

/// `sqlx::migrate!` would read the directory by itself, but only with a second copy of both databases' drivers, built
/// for its macros.
fn migrator(steps: &[Step]) -> Migrator {
    let migration = |&(number, name, sql): &Step| {
        Migration::new(number, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_a_step() {
        for (directory, steps) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(directory);
            let files: BTreeSet<_> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let listed = steps.iter().map(|(number, name, _)| format!("{number:04}_{name}.sql")).collect();
            assert_eq!(files, listed);
        }
    }
}
