-- When each key was made, and of each purpose one key for each generation, so that of several instances one makes the next.
-- The public half is that of the sealed key, and nowhere else.
ALTER TABLE "keys" DROP COLUMN public, ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
UPDATE "keys" JOIN
    (SELECT id, ROW_NUMBER() OVER (PARTITION BY purpose ORDER BY generation, id DESC) AS place FROM "keys") AS numbered
    ON numbered.id = "keys".id
    SET "keys".generation = numbered.place - 1, "keys".created_at = UNIX_TIMESTAMP();
ALTER TABLE "keys" ADD UNIQUE INDEX keys_generation (purpose, generation);
