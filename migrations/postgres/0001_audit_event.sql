-- The audit log, as it is in SQLite after 0015_compact_events. Rows are only ever added; retention may later set body to
-- NULL, never anything else.
CREATE TABLE audit_event (
    -- Position in the log, from 0 without gaps: the leaf index of the Merkle tree.
    seq BIGINT NOT NULL PRIMARY KEY CHECK (seq >= 0),
    -- Microseconds since 1970.
    at_micros BIGINT NOT NULL,
    -- The largest at_micros up to and including this row. It never falls, so a point in time is found by bisection
    -- over seq, without an index that every insert would pay for.
    high_micros BIGINT NOT NULL,
    -- By the numbers that they have in the body; newer versions may write others than this one knows.
    kind BIGINT NOT NULL CHECK (kind >= 0),
    outcome BIGINT NOT NULL CHECK (outcome >= 0),
    -- Log segment (seq / 8192), hash of the SPIFFE ID and outcome (7 for 7 and all above) in one number.
    identity_key BIGINT,
    -- 16 bytes, big-endian.
    serial BYTEA CHECK (octet_length(serial) = 16),
    -- SHA-256(0x00 || body), RFC 6962 section 2.1.
    leaf_hash BYTEA NOT NULL CHECK (octet_length(leaf_hash) = 32),
    -- The canonical encoding of the whole event (docs/audit-format.md).
    body BYTEA
);

-- No serial twice (RFC 5280 section 4.1.2.2); also finds a certificate.
CREATE UNIQUE INDEX audit_event_serial ON audit_event (serial) WHERE serial IS NOT NULL;

-- Whoever writes locks this row first (FOR UPDATE), whatever it is about to write: so there is one order of all changes,
-- nobody deadlocks, and what is read after the lock is what the last one has left. The row says nothing and never changes:
-- where the log ends is read from its index. A row that changed with each commit would leave a dead version each time, which
-- nobody may clean up while a backup or a report runs, and every commit would have to walk past all of them.
CREATE TABLE log_head (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1)
);
INSERT INTO log_head (id) VALUES (1);

-- What was committed, for whoever has lost the connection before the answer came: looked up, never guessed. Rows are removed
-- after some minutes.
CREATE TABLE committed_batch (
    id BYTEA NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    -- False when somebody has looked it up and not found it: then it cannot be committed any more.
    kept BOOLEAN NOT NULL,
    -- The position of its first event, if it has any.
    first_seq BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
