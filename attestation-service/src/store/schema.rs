//! The database's schema.

use service_kit::schema::{Schema, Step};

/// What brings a database to this version.
pub const SCHEMA: Schema = Schema {
    application: "attestation-service",
    sqlite: &[Step {
        number: 1,
        name: "initial",
        sql: include_str!("../../migrations/sqlite/0001_initial.sql"),
    }],
    postgres: &[Step {
        number: 1,
        name: "initial",
        sql: include_str!("../../migrations/postgres/0001_initial.sql"),
    }],
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_a_step() {
        for (directory, steps) in [("sqlite", SCHEMA.sqlite), ("postgres", SCHEMA.postgres)] {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(directory);
            let files: BTreeSet<_> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let listed =
                steps.iter().map(|Step { number, name, .. }| format!("{number:04}_{name}.sql")).collect();
            assert_eq!(files, listed);
        }
    }
}
