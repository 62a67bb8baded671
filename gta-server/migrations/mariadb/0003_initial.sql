-- Text is compared byte by byte, with the blanks at its end. A key may have 3072 bytes, at four for a character.

-- What tenants and operators have registered. The tag authenticates all other columns of its row.
CREATE TABLE documents (
    kind    VARCHAR(32)   NOT NULL,
    tenant  VARCHAR(64)   NOT NULL,
    id      VARCHAR(512)  NOT NULL,
    name    VARCHAR(512)  NOT NULL,
    version BIGINT        NOT NULL,
    body    LONGTEXT      NOT NULL,
    key_id  VARCHAR(64)   NOT NULL,
    tag     VARBINARY(64) NOT NULL,
    PRIMARY KEY (kind, tenant, id),
    UNIQUE (kind, tenant, name)
) ENGINE = InnoDB, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin;

-- Every change of a document, chained: prev is the mac of the entry before it.
CREATE TABLE journal (
    kind    VARCHAR(32)   NOT NULL,
    seq     BIGINT        NOT NULL,
    tenant  VARCHAR(64)   NOT NULL,
    id      VARCHAR(512)  NOT NULL,
    version BIGINT        NOT NULL,
    gone    BIGINT        NOT NULL,
    tag     VARBINARY(64) NOT NULL,
    actor   TEXT          NOT NULL,
    at      BIGINT        NOT NULL,
    prev    VARBINARY(64) NOT NULL,
    key_id  VARCHAR(64)   NOT NULL,
    mac     VARBINARY(64) NOT NULL,
    PRIMARY KEY (kind, seq),
    INDEX journal_document (kind, tenant, id, seq),
    INDEX journal_time (tenant, at)
) ENGINE = InnoDB, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin;

-- Where each chain ends.
CREATE TABLE heads (
    kind VARCHAR(32)   NOT NULL PRIMARY KEY,
    seq  BIGINT        NOT NULL,
    mac  VARBINARY(64) NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin;

-- Keys for rows, nonces and tokens, sealed under the master key. Of each purpose the latest generation is in use.
CREATE TABLE "keys" (
    id           VARCHAR(64) NOT NULL PRIMARY KEY,
    purpose      VARCHAR(32) NOT NULL,
    generation   BIGINT      NOT NULL,
    public       TEXT        NOT NULL,
    content      LONGBLOB    NOT NULL,
    wrapped_key  LONGBLOB    NOT NULL,
    master_key   TEXT        NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin;

-- Nonces that were not used.
CREATE TABLE nonces (
    value      VARBINARY(255) NOT NULL PRIMARY KEY,
    tenant     VARCHAR(64)    NOT NULL,
    node       TEXT,
    expires_at BIGINT         NOT NULL,
    INDEX nonces_waiting (tenant, expires_at)
) ENGINE = InnoDB, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin;

-- Credentials that were made and not yet opened.
CREATE TABLE enrolments (
    id         VARCHAR(64)   NOT NULL PRIMARY KEY,
    tenant     VARCHAR(64)   NOT NULL,
    body       LONGTEXT      NOT NULL,
    digest     VARBINARY(64) NOT NULL,
    expires_at BIGINT        NOT NULL
) ENGINE = InnoDB, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin;

-- What is known of TPMs and nodes from what they last sent. The tag authenticates all other columns of its row.
CREATE TABLE states (
    kind    VARCHAR(32)   NOT NULL,
    tenant  VARCHAR(64)   NOT NULL,
    id      VARCHAR(512)  NOT NULL,
    version BIGINT        NOT NULL,
    due_at  BIGINT,
    body    LONGTEXT      NOT NULL,
    key_id  VARCHAR(64)   NOT NULL,
    tag     VARBINARY(64) NOT NULL,
    PRIMARY KEY (kind, tenant, id),
    INDEX states_due (kind, due_at)
) ENGINE = InnoDB, CHARACTER SET utf8mb4, COLLATE utf8mb4_nopad_bin;
