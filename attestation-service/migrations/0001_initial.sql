-- Challenges that were issued. A row stays until it has been expired for one more lifetime, so that a late or repeated
-- use can be told from a made-up one.
CREATE TABLE challenges (
    challenge  BLOB    NOT NULL PRIMARY KEY,
    session    BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    used       INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE INDEX challenges_by_expiry ON challenges (expires_at);

CREATE TABLE trust_anchors (
    name              TEXT    NOT NULL PRIMARY KEY,
    implementation_id BLOB    NOT NULL CHECK (length(implementation_id) = 32),
    instance_id       BLOB    NOT NULL CHECK (length(instance_id) = 33),
    public_key        BLOB    NOT NULL,
    development       INTEGER NOT NULL CHECK (development IN (0, 1)),
    source            TEXT    NOT NULL,
    added_at          INTEGER NOT NULL,
    UNIQUE (implementation_id, instance_id)
) STRICT;

CREATE TABLE reference_values (
    name     TEXT    NOT NULL PRIMARY KEY,
    rim      BLOB    NOT NULL,
    rpv      BLOB    CHECK (rpv IS NULL OR length(rpv) = 64),
    rem0     BLOB,
    rem1     BLOB,
    rem2     BLOB,
    rem3     BLOB,
    source   TEXT    NOT NULL,
    added_at INTEGER NOT NULL
) STRICT;

CREATE INDEX reference_values_by_rim ON reference_values (rim);

CREATE TABLE policies (
    id         TEXT    NOT NULL PRIMARY KEY,
    rego       TEXT    NOT NULL,
    exceptions TEXT    NOT NULL,
    added_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE resources (
    vendor   TEXT    NOT NULL,
    path     TEXT    NOT NULL,
    content  BLOB    NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (vendor, path)
) STRICT;
