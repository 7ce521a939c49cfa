-- The audit log. Rows are only ever added; retention may later set body to NULL, never anything else.
CREATE TABLE audit_event (
    -- Position in the log, from 0 without gaps: the leaf index of the Merkle tree.
    seq INTEGER NOT NULL PRIMARY KEY CHECK (seq >= 0),
    -- Microseconds since 1970.
    at_micros INTEGER NOT NULL,
    -- The largest at_micros up to and including this row. It never falls, so a point in time is found by bisection
    -- over seq, without an index that every insert would pay for.
    high_micros INTEGER NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    spiffe_id TEXT,
    -- Log segment (seq / 8192), hash of the SPIFFE ID and outcome in one number, see the index below.
    identity_key INTEGER,
    namespace TEXT,
    cluster TEXT,
    authority TEXT,
    -- 16 bytes, big-endian.
    serial BLOB CHECK (length(serial) = 16),
    -- SHA-256 of the SubjectPublicKeyInfo, hexadecimal.
    key_hash TEXT,
    -- Seconds since 1970.
    not_after INTEGER,
    request_id TEXT NOT NULL,
    -- SHA-256(0x00 || body), RFC 6962 section 2.1.
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32),
    -- The canonical encoding of the whole event.
    body TEXT
) STRICT;

-- No serial twice (RFC 5280 section 4.1.2.2); also finds a certificate.
CREATE UNIQUE INDEX audit_event_serial ON audit_event (serial) WHERE serial IS NOT NULL;

-- Pages of one identity, with or without an outcome. The segment comes first so that inserts touch the few pages of
-- the newest segment; an index on spiffe_id alone would dirty one page per identity and commit. A query looks into
-- each segment, newest first, until its page is full.
CREATE INDEX audit_event_identity ON audit_event (identity_key, seq) WHERE identity_key IS NOT NULL;

-- Pages of one outcome.
CREATE INDEX audit_event_outcome ON audit_event (outcome, seq);
