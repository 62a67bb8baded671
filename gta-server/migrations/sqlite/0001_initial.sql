-- What tenants and operators have registered. The tag authenticates all other columns of its row.
CREATE TABLE documents (
    kind    TEXT    NOT NULL,
    tenant  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    key_id  TEXT    NOT NULL,
    tag     BLOB    NOT NULL,
    PRIMARY KEY (kind, tenant, id),
    UNIQUE (kind, tenant, name)
) STRICT;

-- Every change of a document, chained: prev is the mac of the entry before it.
CREATE TABLE journal (
    kind    TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    tenant  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL,
    gone    INTEGER NOT NULL,
    tag     BLOB    NOT NULL,
    actor   TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    prev    BLOB    NOT NULL,
    key_id  TEXT    NOT NULL,
    mac     BLOB    NOT NULL,
    PRIMARY KEY (kind, seq)
) STRICT;
CREATE INDEX journal_document ON journal (kind, tenant, id, seq);

-- Where each chain ends.
CREATE TABLE heads (
    kind TEXT    NOT NULL PRIMARY KEY,
    seq  INTEGER NOT NULL,
    mac  BLOB    NOT NULL
) STRICT;

-- Keys for rows, nonces and tokens, sealed under the master key. Of each purpose the latest generation is in use.
CREATE TABLE keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    purpose      TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    public       TEXT    NOT NULL,
    content      BLOB    NOT NULL,
    wrapped_key  BLOB    NOT NULL,
    master_key   TEXT    NOT NULL
) STRICT;

CREATE TABLE nonces (
    value      BLOB    NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    node       TEXT,
    expires_at INTEGER NOT NULL,
    used       INTEGER NOT NULL
) STRICT;

-- Credentials that were made and not yet opened.
CREATE TABLE enrolments (
    id         TEXT    NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    digest     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- What is known of a TPM from its last quote.
CREATE TABLE tpm_states (
    tenant  TEXT    NOT NULL,
    ak      TEXT    NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT    NOT NULL,
    key_id  TEXT    NOT NULL,
    tag     BLOB    NOT NULL,
    PRIMARY KEY (tenant, ak)
) STRICT;
