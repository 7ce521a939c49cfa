-- What the journal lets out, made of it in the transaction of each of its changes: read with every batch of
-- certificates, without decoding the journal.
CREATE TABLE authority_fence (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The version of authority_journal that it follows from. When that table has another one, or there is no row here, the
    -- journal was written by an older program: then the row is made anew.
    version INTEGER NOT NULL CHECK (version > 0),
    body TEXT NOT NULL
) STRICT;
