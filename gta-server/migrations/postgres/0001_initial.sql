-- What tenants and operators have registered. The tag authenticates all other columns of its row.
CREATE TABLE documents (
    kind    TEXT    NOT NULL,
    tenant  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    version BIGINT  NOT NULL,
    body    TEXT    NOT NULL,
    key_id  TEXT    NOT NULL,
    tag     BYTEA   NOT NULL,
    PRIMARY KEY (kind, tenant, id),
    UNIQUE (kind, tenant, name)
);

-- Every change of a document, chained: prev is the mac of the entry before it.
CREATE TABLE journal (
    kind    TEXT    NOT NULL,
    seq     BIGINT  NOT NULL,
    tenant  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    version BIGINT  NOT NULL,
    gone    BIGINT  NOT NULL,
    tag     BYTEA   NOT NULL,
    actor   TEXT    NOT NULL,
    at      BIGINT  NOT NULL,
    prev    BYTEA   NOT NULL,
    key_id  TEXT    NOT NULL,
    mac     BYTEA   NOT NULL,
    PRIMARY KEY (kind, seq)
);
CREATE INDEX journal_document ON journal (kind, tenant, id, seq);

-- Where each chain ends.
CREATE TABLE heads (
    kind TEXT    NOT NULL PRIMARY KEY,
    seq  BIGINT  NOT NULL,
    mac  BYTEA   NOT NULL
);

-- Keys for rows, nonces and tokens, sealed under the master key. Of each purpose the latest generation is in use.
CREATE TABLE keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    purpose      TEXT    NOT NULL,
    generation   BIGINT  NOT NULL,
    public       TEXT    NOT NULL,
    content      BYTEA   NOT NULL,
    wrapped_key  BYTEA   NOT NULL,
    master_key   TEXT    NOT NULL
);

CREATE TABLE nonces (
    value      BYTEA   NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    node       TEXT,
    expires_at BIGINT  NOT NULL,
    used       BIGINT  NOT NULL
);

-- Credentials that were made and not yet opened.
CREATE TABLE enrolments (
    id         TEXT    NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    digest     BYTEA   NOT NULL,
    expires_at BIGINT  NOT NULL
);

-- What is known of a TPM from its last quote.
CREATE TABLE tpm_states (
    tenant  TEXT    NOT NULL,
    ak      TEXT    NOT NULL,
    version BIGINT  NOT NULL,
    body    TEXT    NOT NULL,
    key_id  TEXT    NOT NULL,
    tag     BYTEA   NOT NULL,
    PRIMARY KEY (tenant, ak)
);
