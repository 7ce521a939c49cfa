-- Serial numbers of backends that sign leaves themselves have up to 20 bytes (RFC 5280 section 4.1.2.2), ours 16. What is stored
-- stays as it is, so that only the rule changes, and not each row: https://sqlite.org/lang_altertable.html, section 7.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(sql, 'CHECK (length(serial) = 16)', 'CHECK (length(serial) BETWEEN 16 AND 20)')
WHERE type = 'table' AND name = 'audit_event';
PRAGMA writable_schema = RESET;

-- A program of before reads such events as they are.
INSERT INTO schema_reader (version, oldest_reader) VALUES (29, 24);
