-- When the pod of a holder was found to be gone, microseconds since 1970. While that is after the last sign of life, seen_at,
-- nobody waits for the holder.
ALTER TABLE holder ADD COLUMN gone_at INTEGER;

-- A program of before waits for them, which is slow and safe.
INSERT INTO schema_reader (version, oldest_reader) VALUES (24, 19);
