-- Events in an encoding of their own (docs/audit-format.md), with only those columns that queries and constraints need: less
-- than half the bytes per certificate. Bodies of before stay as they are, byte for byte, since the leaf hash is over them;
-- readers tell the two apart by the first byte.
--
-- While this runs, the log is there twice, and what changes is in the -wal too: it takes two and a half times the size of the
-- database in free space, and the file does not shrink afterwards; what becomes free in it is used for new events.
--
-- How later queries are answered: by namespace, key hash, authority or cluster with an index of its own kind, like
-- audit_event_identity, over (segment, hash of the value) in a new column that may be NULL, filled for old rows from their
-- bodies in the background; by reason through the index on outcome, filtered by what the body says: reasons are few.
CREATE TABLE audit_event_compact (
    -- Position in the log, from 0 without gaps: the leaf index of the Merkle tree.
    seq INTEGER NOT NULL PRIMARY KEY CHECK (seq >= 0),
    -- Microseconds since 1970.
    at_micros INTEGER NOT NULL,
    -- The largest at_micros up to and including this row. It never falls, so a point in time is found by bisection
    -- over seq, without an index that every insert would pay for.
    high_micros INTEGER NOT NULL,
    -- By the numbers that they have in the body; newer versions may write others than this one knows.
    kind INTEGER NOT NULL CHECK (kind >= 0),
    outcome INTEGER NOT NULL CHECK (outcome >= 0),
    -- Log segment (seq / 8192), hash of the SPIFFE ID and outcome (7 for 7 and all above) in one number, see the index below.
    identity_key INTEGER,
    -- 16 bytes, big-endian.
    serial BLOB CHECK (length(serial) = 16),
    -- SHA-256(0x00 || body), RFC 6962 section 2.1.
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32),
    -- The canonical encoding of the whole event. Retention may set it to NULL; nothing else in a row ever changes.
    body BLOB
) STRICT;

INSERT INTO audit_event_compact
    (seq, at_micros, high_micros, kind, outcome, identity_key, serial, leaf_hash, body)
SELECT
    seq,
    at_micros,
    high_micros,
    -- A word that was never written must not keep the CA from starting: it becomes a kind that nobody knows.
    CASE kind
        WHEN 'certificate' THEN 0
        WHEN 'bundle_stream' THEN 1
        WHEN 'serving_certificate' THEN 2
        WHEN 'authority' THEN 3
        WHEN 'admin' THEN 4
        WHEN 'configuration' THEN 5
        ELSE 255
    END,
    CASE outcome
        WHEN 'issued' THEN 0
        WHEN 'refused' THEN 1
        WHEN 'failed' THEN 2
        WHEN 'done' THEN 3
        WHEN 'intended' THEN 4
        ELSE 255
    END,
    identity_key,
    serial,
    leaf_hash,
    CAST(body AS BLOB)
FROM audit_event
ORDER BY seq;

DROP TABLE audit_event;
ALTER TABLE audit_event_compact RENAME TO audit_event;

-- No serial twice (RFC 5280 section 4.1.2.2); also finds a certificate.
CREATE UNIQUE INDEX audit_event_serial ON audit_event (serial) WHERE serial IS NOT NULL;

-- Pages of one identity, with or without an outcome. The segment comes first so that inserts touch the few pages of
-- the newest segment; an index on a hash alone would dirty one page per identity and commit. A query looks into
-- each segment, newest first, until its page is full.
CREATE INDEX audit_event_identity ON audit_event (identity_key, seq) WHERE identity_key IS NOT NULL;

-- Pages of one outcome.
CREATE INDEX audit_event_outcome ON audit_event (outcome, seq);

-- Programs of before write other columns.
INSERT INTO schema_reader (version, oldest_reader) VALUES (15, 15);
