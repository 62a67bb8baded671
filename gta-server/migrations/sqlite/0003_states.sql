-- What is known of TPMs and nodes from what they last sent. The tag authenticates all other columns of its row.
CREATE TABLE states (
    kind    TEXT    NOT NULL,
    tenant  TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL,
    due_at  INTEGER,
    body    TEXT    NOT NULL,
    key_id  TEXT    NOT NULL,
    tag     BLOB    NOT NULL,
    PRIMARY KEY (kind, tenant, id)
) STRICT;
CREATE INDEX states_due ON states (kind, due_at);
INSERT INTO states (kind, tenant, id, version, body, key_id, tag)
    SELECT 'tpm_state', tenant, ak, version, body, key_id, tag FROM tpm_states;
DROP TABLE tpm_states;

-- The journal is read backwards, too: who changed what last.
CREATE INDEX journal_time ON journal (tenant, at);
