-- A key may be vouched for until a time only.
ALTER TABLE trust_anchors ADD COLUMN expires_at INTEGER;

-- Keys whose signature on reference values (CoRIM documents) is believed; of which kinds is a JSON array.
CREATE TABLE corim_signers (
    name       TEXT    NOT NULL PRIMARY KEY,
    public_key BLOB    NOT NULL,
    endorses   TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    added_at   INTEGER NOT NULL
) STRICT;

-- Expected software and configuration of CCA platforms, as JSON; of one instance, or of every one.
CREATE TABLE platform_references (
    name              TEXT    NOT NULL PRIMARY KEY,
    implementation_id BLOB    NOT NULL CHECK (length(implementation_id) = 32),
    instance_id       BLOB    CHECK (length(instance_id) = 33),
    expected          TEXT    NOT NULL,
    source            TEXT    NOT NULL,
    added_at          INTEGER NOT NULL,
    expires_at        INTEGER
) STRICT;

CREATE INDEX platform_references_by_implementation ON platform_references (implementation_id);
