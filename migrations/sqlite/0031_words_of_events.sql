-- By what events are found: words of theirs as short hashes, for pieces of the log (1024 events) that are full. They are made
-- behind the log, so that no append pays for them, and for what is in the log already in the background, the newest part of it
-- first. What has none yet is read as it is.

-- For each piece, the words in one bucket of hashes, and where in the piece they occur.
CREATE TABLE audit_term (
    -- Segment of the log (8192 events) and bucket, in one number: rows are added at the end.
    key INTEGER NOT NULL,
    -- Which piece of the log, from 0.
    piece INTEGER NOT NULL,
    -- Hashes of 4 bytes, each with its places: see plugins/src/store/terms/piece.rs.
    entries BLOB NOT NULL,
    PRIMARY KEY (key, piece)
) STRICT, WITHOUT ROWID;

-- Every SPIFFE ID in those pieces, so that those with a prefix are found.
CREATE TABLE audit_identity (
    spiffe_id TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Positions from start on and below the other one are in pieces with words.
CREATE TABLE audit_closed (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    start INTEGER NOT NULL CHECK (start >= 0),
    below INTEGER NOT NULL CHECK (below >= start)
) STRICT;
INSERT INTO audit_closed (id, start, below) VALUES (1, 0, 0);

-- These take the place of audit_by_identity and audit_by_outcome. A program of before goes on with those where it has stopped, and
-- appends events that get their words later.
INSERT INTO schema_reader (version, oldest_reader) VALUES (31, 24);
