//! The database's schema.

use service_kit::schema::{Schema, Step};

macro_rules! steps {
    ($directory:literal) => {
        &[
            Step {
                number: 1,
                name: "initial",
                sql: include_str!(concat!("../../migrations/", $directory, "/0001_initial.sql")),
            },
            Step {
                number: 2,
                name: "nonces",
                sql: include_str!(concat!("../../migrations/", $directory, "/0002_nonces.sql")),
            },
            Step {
                number: 3,
                name: "states",
                sql: include_str!(concat!("../../migrations/", $directory, "/0003_states.sql")),
            },
            Step {
                number: 5,
                name: "keys",
                sql: include_str!(concat!("../../migrations/", $directory, "/0005_keys.sql")),
            },
        ]
    };
}

/// What brings a database to this version.
pub const SCHEMA: Schema = Schema {
    application: "gta-server",
    sqlite: steps!("sqlite"),
    postgres: steps!("postgres"),
    // It began with what the others had after their third step.
    mariadb: &[
        Step { number: 3, name: "initial", sql: include_str!("../../migrations/mariadb/0003_initial.sql") },
        Step { number: 5, name: "keys", sql: include_str!("../../migrations/mariadb/0005_keys.sql") },
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
        for directory in ["mariadb", "postgres", "sqlite"] {
            for entry in fs::read_dir(migrations.join(directory)).unwrap() {
                files.push(format!("{directory}/{}", entry.unwrap().file_name().to_string_lossy()));
            }
        }
        files.sort();
        assert_eq!(files, SCHEMA.files().collect::<Vec<_>>());
    }
}
