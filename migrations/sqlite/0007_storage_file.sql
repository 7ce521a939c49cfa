-- What is known about the database file itself, so that whoever writes to it notices when another program has changed
-- it, and a start notices an older copy beside a newer -wal.
CREATE TABLE storage_file (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Which database this is.
    store_id BLOB NOT NULL CHECK (length(store_id) = 16),
    -- Checkpoints, which alone write into the database file, are counted: before each one, and after it.
    announced INTEGER NOT NULL,
    finished INTEGER NOT NULL,
    -- The last one after which the database file alone held everything up to its announcement.
    complete INTEGER NOT NULL,
    -- The database file after the last one: bytes, and nanoseconds since 1970.
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL
) STRICT;
INSERT INTO storage_file (id, store_id, announced, finished, complete, size, modified)
VALUES (1, randomblob(16), 0, 0, 0, 0, 0);
