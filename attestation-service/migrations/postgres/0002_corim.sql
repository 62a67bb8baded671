-- A key may be vouched for until a time only.
ALTER TABLE trust_anchors ADD COLUMN expires_at BIGINT;

-- Keys whose signature on reference values (CoRIM documents) is believed; of which kinds is a JSON array.
CREATE TABLE corim_signers (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    public_key BYTEA NOT NULL,
    endorses   TEXT NOT NULL,
    source     TEXT NOT NULL,
    added_at   BIGINT NOT NULL
);

-- Expected software and configuration of CCA platforms, as JSON; of one instance, or of every one.
CREATE TABLE platform_references (
    name              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    implementation_id BYTEA NOT NULL CHECK (length(implementation_id) = 32),
    instance_id       BYTEA CHECK (length(instance_id) = 33),
    expected          TEXT NOT NULL,
    source            TEXT NOT NULL,
    added_at          BIGINT NOT NULL,
    expires_at        BIGINT
);

CREATE INDEX platform_references_by_implementation ON platform_references (implementation_id);
