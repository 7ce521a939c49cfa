-- The Merkle tree over the log (RFC 6962), whose leaves are the hashes in audit_event: what is full of it, in tiles of 256
-- hashes (C2SP tlog-tiles). A tile is written once and never changed. Those of level 0 repeat the hashes of the log: what was
-- changed there can be named.
CREATE TABLE record_tile (
    level INTEGER NOT NULL,
    -- Which one of its level, from 0.
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL CHECK (length(hashes) = 8192),
    PRIMARY KEY (level, number)
) STRICT;

-- The newest signed checkpoint. It follows the log, a second behind, by compare-and-set of its note.
CREATE TABLE record_checkpoint (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- How many events it covers.
    size INTEGER NOT NULL,
    -- The signed note.
    note TEXT NOT NULL,
    -- What verifies it, a line for each key.
    keys TEXT NOT NULL,
    -- The hashes that are in no full tile, those of level 0 first.
    edge BLOB NOT NULL
) STRICT;

-- A program of before appends events and makes no checkpoints; the next one that does covers what it has appended.
INSERT INTO schema_reader (version, oldest_reader) VALUES (27, 26);
