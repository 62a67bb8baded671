-- The same schema as for SQLite; names are ordered by their bytes, as there. Times are seconds since the Unix epoch;
-- flags are 0 or 1; what secrets are in is sealed before it comes here.

-- Challenges that were issued. A row stays until it has been expired for one more lifetime, so that a late or repeated
-- use can be told from a made-up one.
CREATE TABLE challenges (
    challenge  BYTEA NOT NULL PRIMARY KEY,
    session    BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    used       BIGINT NOT NULL DEFAULT 0 CHECK (used IN (0, 1))
);

CREATE INDEX challenges_by_expiry ON challenges (expires_at);

-- Key broker sessions: 0 nonce issued, 1 evidence being appraised, 2 attested.
CREATE TABLE sessions (
    session    BYTEA NOT NULL PRIMARY KEY,
    state      BIGINT NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
    tee        TEXT NOT NULL,
    nonce      BYTEA NOT NULL,
    tee_key    TEXT,
    token      TEXT,
    expires_at BIGINT NOT NULL,
    CHECK ((state = 2) = (token IS NOT NULL))
);

CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE trust_anchors (
    name              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    implementation_id BYTEA NOT NULL CHECK (length(implementation_id) = 32),
    instance_id       BYTEA NOT NULL CHECK (length(instance_id) = 33),
    public_key        BYTEA NOT NULL,
    development       BIGINT NOT NULL CHECK (development IN (0, 1)),
    source            TEXT NOT NULL,
    added_at          BIGINT NOT NULL,
    UNIQUE (implementation_id, instance_id)
);

-- Certificates of authorities that certify devices, in PEM.
CREATE TABLE trust_bundles (
    name        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    pem         TEXT NOT NULL,
    source      TEXT NOT NULL,
    added_at    BIGINT NOT NULL
);

-- Certificate revocation lists, in DER.
CREATE TABLE crls (
    name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    der      BYTEA NOT NULL,
    source   TEXT NOT NULL,
    added_at BIGINT NOT NULL
);

-- Counts the changes of what instances keep in memory.
CREATE TABLE revisions (
    name     TEXT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
);

CREATE TABLE reference_values (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    rim        BYTEA NOT NULL,
    rpv        BYTEA   CHECK (rpv IS NULL OR length(rpv) = 64),
    rem0       BYTEA,
    rem1       BYTEA,
    rem2       BYTEA,
    rem3       BYTEA,
    logs       TEXT,
    source     TEXT NOT NULL,
    added_at   BIGINT NOT NULL,
    expires_at BIGINT
);

CREATE INDEX reference_values_by_rim ON reference_values (rim);

-- secGear's references: many JSON values for a name, looked up by the digest of both.
CREATE TABLE named_references (
    digest     BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    name       TEXT COLLATE "C" NOT NULL,
    value      TEXT NOT NULL,
    source     TEXT NOT NULL,
    added_at   BIGINT NOT NULL,
    expires_at BIGINT
);

CREATE INDEX named_references_by_name ON named_references (name);

-- Every version of every policy: a token names the digests of the policies that it was issued under.
CREATE TABLE policies (
    id         TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    current    BIGINT NOT NULL CHECK (current IN (0, 1)),
    sha256     BYTEA NOT NULL CHECK (length(sha256) = 32),
    rego       TEXT NOT NULL,
    exceptions TEXT NOT NULL,
    rules      TEXT NOT NULL,
    added_at   BIGINT NOT NULL,
    PRIMARY KEY (id, version)
);

CREATE UNIQUE INDEX policies_current ON policies (id) WHERE current = 1;

CREATE TABLE resource_policies (
    vendor   TEXT COLLATE "C" NOT NULL,
    id       TEXT COLLATE "C" NOT NULL,
    version  BIGINT NOT NULL,
    current  BIGINT NOT NULL CHECK (current IN (0, 1)),
    sha256   BYTEA NOT NULL CHECK (length(sha256) = 32),
    rego     TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (vendor, id, version)
);

CREATE UNIQUE INDEX resource_policies_current ON resource_policies (vendor, id) WHERE current = 1;

-- The content is sealed under a key of its own, which is sealed under the master key.
CREATE TABLE resources (
    vendor      TEXT COLLATE "C" NOT NULL,
    path        TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    size        BIGINT NOT NULL,
    content     BYTEA NOT NULL,
    wrapped_key BYTEA NOT NULL,
    master_key  TEXT NOT NULL,
    added_at    BIGINT NOT NULL,
    PRIMARY KEY (vendor, path)
);

-- A resource policy may be bound before it is registered and stay bound when it is deleted: then nothing is released.
CREATE TABLE resource_bindings (
    vendor        TEXT COLLATE "C" NOT NULL,
    path          TEXT COLLATE "C" NOT NULL,
    policy_vendor TEXT COLLATE "C" NOT NULL,
    policy_id     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (vendor, path, policy_vendor, policy_id),
    FOREIGN KEY (vendor, path) REFERENCES resources (vendor, path) ON DELETE CASCADE
);

-- Keys that sign tokens. The newest whose time has come signs; all stay published until their last token has expired.
CREATE TABLE signing_keys (
    kid          TEXT NOT NULL PRIMARY KEY,
    algorithm    TEXT NOT NULL,
    serial       BIGINT NOT NULL,
    public       TEXT NOT NULL,
    content      BYTEA NOT NULL,
    wrapped_key  BYTEA NOT NULL,
    master_key   TEXT NOT NULL,
    activates_at BIGINT NOT NULL,
    UNIQUE (algorithm, serial)
);

CREATE TABLE audit (
    seq    BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    digest BYTEA,
    result TEXT NOT NULL
);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END;
$$;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
