//! The steps that bring a service's database to its version, in the dialect of each database.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// One step: a file `NNNN_name.sql` of a service's `migrations` directory.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its number; steps are taken in this order, each once.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// The statements in it.
    pub sql: &'static str,
}

/// The schema of a service, in the dialect of each database.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// How PostgreSQL's administrators see the service.
    pub application: &'static str,
    /// For SQLite.
    pub sqlite: &'static [Step],
    /// For PostgreSQL.
    pub postgres: &'static [Step],
    /// For MariaDB; none if the service does not run on it.
    pub mariadb: &'static [Step],
}

impl Schema {
    /// The files that the steps are, below a service's `migrations` directory.
    pub fn files(&self) -> impl Iterator<Item = String> {
        let of = |directory, steps: &'static [Step]| {
            steps.iter().map(move |step| format!("{directory}/{:04}_{}.sql", step.number, step.name))
        };
        of("mariadb", self.mariadb).chain(of("postgres", self.postgres)).chain(of("sqlite", self.sqlite))
    }

    /// What a URL of a database looks like, for messages.
    pub(crate) const fn urls(&self) -> &'static str {
        if self.mariadb.is_empty() {
            "sqlite:PATH, sqlite::memory: or postgres://USER@HOST/DATABASE"
        } else {
            "sqlite:PATH, sqlite::memory:, postgres://USER@HOST/DATABASE or mariadb://USER@HOST/DATABASE"
        }
    }
}

/// `sqlx::migrate!` would read the directory by itself, but only with a second copy of every database's driver, built
/// for its macros.
pub(crate) fn migrator(steps: &[Step]) -> Migrator {
    let migration = |step: &Step| {
        let (name, sql) = (Cow::Borrowed(step.name), step.sql.into_sql_str());
        Migration::new(step.number, name, MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}
