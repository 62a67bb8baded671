-- When each key was made, and of each purpose one key for each generation, so that of several instances one makes the next.
-- The public half is that of the sealed key, and nowhere else.
ALTER TABLE keys DROP COLUMN public;
ALTER TABLE keys ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
UPDATE keys SET generation = numbered.place - 1, created_at = EXTRACT(EPOCH FROM now())::BIGINT
    FROM (SELECT id, ROW_NUMBER() OVER (PARTITION BY purpose ORDER BY generation, id DESC) AS place FROM keys) AS numbered
    WHERE numbered.id = keys.id;
CREATE UNIQUE INDEX keys_generation ON keys (purpose, generation);
