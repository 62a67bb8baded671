-- Times are seconds since the Unix epoch; flags are 0 or 1; what secrets are in is sealed before it comes here.

-- Challenges that were issued. A row stays until it has been expired for one more lifetime, so that a late or repeated
-- use can be told from a made-up one.
CREATE TABLE challenges (
    challenge  BLOB    NOT NULL PRIMARY KEY,
    session    BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    used       INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE INDEX challenges_by_expiry ON challenges (expires_at);

-- Key broker sessions: 0 nonce issued, 1 evidence being appraised, 2 attested.
CREATE TABLE sessions (
    session    BLOB    NOT NULL PRIMARY KEY,
    state      INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
    tee        TEXT    NOT NULL,
    nonce      BLOB    NOT NULL,
    tee_key    TEXT,
    token      TEXT,
    expires_at INTEGER NOT NULL,
    CHECK ((state = 2) = (token IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_expiry ON sessions (expires_at);

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

-- Certificates of authorities that certify devices, in PEM.
CREATE TABLE trust_bundles (
    name        TEXT    NOT NULL PRIMARY KEY,
    pem         TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    added_at    INTEGER NOT NULL
) STRICT;

-- Certificate revocation lists, in DER.
CREATE TABLE crls (
    name     TEXT    NOT NULL PRIMARY KEY,
    der      BLOB    NOT NULL,
    source   TEXT    NOT NULL,
    added_at INTEGER NOT NULL
) STRICT;

-- Counts the changes of what instances keep in memory.
CREATE TABLE revisions (
    name     TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE reference_values (
    name       TEXT    NOT NULL PRIMARY KEY,
    rim        BLOB    NOT NULL,
    rpv        BLOB    CHECK (rpv IS NULL OR length(rpv) = 64),
    rem0       BLOB,
    rem1       BLOB,
    rem2       BLOB,
    rem3       BLOB,
    logs       TEXT,
    source     TEXT    NOT NULL,
    added_at   INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE INDEX reference_values_by_rim ON reference_values (rim);

-- secGear's references: many JSON values for a name, looked up by the digest of both.
CREATE TABLE named_references (
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    name       TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    added_at   INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE INDEX named_references_by_name ON named_references (name);

-- Every version of every policy: a token names the digests of the policies that it was issued under.
CREATE TABLE policies (
    id         TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    current    INTEGER NOT NULL CHECK (current IN (0, 1)),
    sha256     BLOB    NOT NULL CHECK (length(sha256) = 32),
    rego       TEXT    NOT NULL,
    exceptions TEXT    NOT NULL,
    rules      TEXT    NOT NULL,
    added_at   INTEGER NOT NULL,
    PRIMARY KEY (id, version)
) STRICT;

CREATE UNIQUE INDEX policies_current ON policies (id) WHERE current = 1;

CREATE TABLE resource_policies (
    vendor   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    current  INTEGER NOT NULL CHECK (current IN (0, 1)),
    sha256   BLOB    NOT NULL CHECK (length(sha256) = 32),
    rego     TEXT    NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (vendor, id, version)
) STRICT;

CREATE UNIQUE INDEX resource_policies_current ON resource_policies (vendor, id) WHERE current = 1;

-- The content is sealed under a key of its own, which is sealed under the master key.
CREATE TABLE resources (
    vendor      TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    content     BLOB    NOT NULL,
    wrapped_key BLOB    NOT NULL,
    master_key  TEXT    NOT NULL,
    added_at    INTEGER NOT NULL,
    PRIMARY KEY (vendor, path)
) STRICT;

-- A resource policy may be bound before it is registered and stay bound when it is deleted: then nothing is released.
CREATE TABLE resource_bindings (
    vendor        TEXT NOT NULL,
    path          TEXT NOT NULL,
    policy_vendor TEXT NOT NULL,
    policy_id     TEXT NOT NULL,
    PRIMARY KEY (vendor, path, policy_vendor, policy_id),
    FOREIGN KEY (vendor, path) REFERENCES resources (vendor, path) ON DELETE CASCADE
) STRICT;

-- Keys that sign tokens. The newest whose time has come signs; all stay published until their last token has expired.
CREATE TABLE signing_keys (
    kid          TEXT    NOT NULL PRIMARY KEY,
    algorithm    TEXT    NOT NULL,
    serial       INTEGER NOT NULL,
    public       TEXT    NOT NULL,
    content      BLOB    NOT NULL,
    wrapped_key  BLOB    NOT NULL,
    master_key   TEXT    NOT NULL,
    activates_at INTEGER NOT NULL,
    UNIQUE (algorithm, serial)
) STRICT;

CREATE TABLE audit (
    seq    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    action TEXT    NOT NULL,
    object TEXT    NOT NULL,
    digest BLOB,
    result TEXT    NOT NULL
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
