-- Leaves that a backend has signed with a key of its own and can revoke: it may want to see what it is to revoke. Each is written in
-- the transaction of its record, and removed some time after its end.
CREATE TABLE signed_leaf (
    serial BLOB NOT NULL PRIMARY KEY CHECK (length(serial) BETWEEN 16 AND 20),
    -- When it ends, seconds since 1970.
    not_after INTEGER NOT NULL,
    -- The certificate, DER.
    der BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX signed_leaf_end ON signed_leaf (not_after);

-- A program of before keeps none: what it has had signed is revoked at the backend.
INSERT INTO schema_reader (version, oldest_reader) VALUES (30, 24);
