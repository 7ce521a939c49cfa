-- A storage that was moved here from an SQLite file. Until the mark in that file is on disk, the copy is not complete: there is
-- no row in log_head then, so that nobody can write, and whoever opens the database is told why.
CREATE TABLE moved (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The URL of the file, and which database it was: its store_id.
    origin TEXT NOT NULL,
    origin_id BYTEA NOT NULL CHECK (octet_length(origin_id) = 16),
    -- Microseconds since 1970.
    at_micros BIGINT NOT NULL,
    complete BOOLEAN NOT NULL
);

INSERT INTO schema_reader (version, oldest_reader) VALUES (19, 19);
