-- A nonce that is used is taken away, so that those that wait can be counted quickly.
DELETE FROM nonces WHERE used = 1;
ALTER TABLE nonces DROP COLUMN used;
CREATE INDEX nonces_waiting ON nonces (tenant, expires_at);
