-- What an event says about holders and the use of issuing CAs is entered behind the log: an append writes the log alone.
-- Events below this position are entered in holder and authority_usage, those from it on are not. Whoever asks for holders,
-- or changes them, enters the rest first.
CREATE TABLE holder_fold (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    below BIGINT NOT NULL CHECK (below >= 0),
    -- Moves with each change of holders that makes a count for counted_for wrong, and when another count is begun.
    version BIGINT NOT NULL DEFAULT 0,
    -- The moment for which holders were counted last or are being counted, seconds since 1970. Who had ended then is not in that
    -- count, so a renewal of such a holder moves version.
    counted_for BIGINT
);
INSERT INTO holder_fold (id, below) SELECT 1, coalesce(max(seq) + 1, 0) FROM audit_event;

-- The last count, for every replica that asks. It holds while holder_fold has this version and this moment, from that moment
-- until the first of the holders in it ends.
CREATE TABLE holder_count (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL,
    counted_for BIGINT NOT NULL,
    next_end BIGINT NOT NULL,
    -- Live holders in groups, JSON: issuing CA, former ones, sequence, how many, how many of them acknowledge.
    live TEXT NOT NULL
);

-- A program of before would not see the holders of the events that wait, so that its coverage would be more than there is.
INSERT INTO schema_reader (version, oldest_reader) VALUES (18, 18);
