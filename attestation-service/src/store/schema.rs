//! The database's schema.

use service_kit::schema::{Schema, Step};

/// What brings a database to this version.
pub const SCHEMA: Schema = Schema {
    application: "attestation-service",
    sqlite: &[
        Step { number: 1, name: "initial", sql: include_str!("../../migrations/sqlite/0001_initial.sql") },
        Step { number: 2, name: "corim", sql: include_str!("../../migrations/sqlite/0002_corim.sql") },
    ],
    mariadb: &[],
    postgres: &[
        Step { number: 1, name: "initial", sql: include_str!("../../migrations/postgres/0001_initial.sql") },
        Step { number: 2, name: "corim", sql: include_str!("../../migrations/postgres/0002_corim.sql") },
    ],
};

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::SCHEMA;

    #[test]
    fn every_file_is_a_step() {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut files = Vec::new();
        for directory in ["postgres", "sqlite"] {
            for entry in fs::read_dir(migrations.join(directory)).unwrap() {
                files.push(format!("{directory}/{}", entry.unwrap().file_name().to_string_lossy()));
            }
        }
        files.sort();
        assert_eq!(files, SCHEMA.files().collect::<Vec<_>>());
    }
}
