-- When the pod of a holder was found to be gone, microseconds since 1970. While that is after the last sign of life, seen_at,
-- nobody waits for the holder.
ALTER TABLE holder ADD COLUMN gone_at BIGINT;

-- What holder_count is for programs of before, whose groups do not tell whose pods are gone.
CREATE TABLE holder_tally (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL,
    counted_for BIGINT NOT NULL,
    next_end BIGINT NOT NULL,
    -- Live holders in groups, JSON: issuing CA, former ones, sequence, how many, how many of them acknowledge, whether their pods
    -- are gone.
    live TEXT NOT NULL
);

-- A program of before would leave a count as it is when a holder that does not count gives a sign of life.
CREATE FUNCTION holder_is_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holder_fold SET version = version + 1 WHERE id = 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER holder_is_back AFTER UPDATE ON holder FOR EACH ROW
WHEN (OLD.gone_at > OLD.seen_at AND NEW.gone_at <= NEW.seen_at)
EXECUTE FUNCTION holder_is_back();

-- A program of before waits for holders whose pods are gone, which is slow and safe.
INSERT INTO schema_reader (version, oldest_reader) VALUES (24, 19);
