-- What a holder has received is counted when a reply was handed over, not when its record was kept.

-- The bundle that came with its only certificate; NULL once it has got another one, or when that is not known.
ALTER TABLE holder ADD COLUMN first_bundle INTEGER;

-- The issuing CAs of earlier certificates, each followed by a space, while the reply with the newest one has not been
-- handed over in full, as far as is known: the certificate in use may be of one of them.
ALTER TABLE holder ADD COLUMN former TEXT NOT NULL DEFAULT '';

-- When holders that had been behind were counted: activation waits for a while after that. What nothing waits for any more
-- is removed with each change of the journal.
CREATE TABLE holder_raise (
    -- The sequence of the bundle that they had, and of the one that they have.
    before INTEGER NOT NULL,
    after INTEGER NOT NULL CHECK (after > before),
    -- When the last one was counted, microseconds since 1970.
    at INTEGER NOT NULL,
    PRIMARY KEY (before, after)
) STRICT, WITHOUT ROWID;

-- A program of before counts replies when it records them, so that its coverage would be more than there is.
INSERT INTO schema_reader (version, oldest_reader) VALUES (16, 16);
