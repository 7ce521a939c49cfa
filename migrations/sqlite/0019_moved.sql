-- A storage that was moved into another database says so, and where to. Whoever moves it also makes triggers that let no
-- program add or change anything of it any more, also none that has never heard of this table.
CREATE TABLE moved (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The URL of the other database, and which one it is: the store_id that it has given itself.
    target TEXT NOT NULL,
    target_id BLOB NOT NULL CHECK (length(target_id) = 16),
    -- Microseconds since 1970.
    at_micros INTEGER NOT NULL
) STRICT;

INSERT INTO schema_reader (version, oldest_reader) VALUES (19, 18);
