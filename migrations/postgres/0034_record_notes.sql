-- Signed notes that are kept beside the newest checkpoint, by what they are kept for: `outside ORIGIN` is the first one of this
-- log that was written to a file outside of the storage, `witness KEY` the newest one that this witness has cosigned, and
-- `quorum` the newest one that enough of them have.
CREATE TABLE record_note (
    name TEXT NOT NULL PRIMARY KEY,
    -- With all its signatures.
    note TEXT NOT NULL
);

-- A program of before keeps none, and makes its checkpoints as it did.
INSERT INTO schema_reader (version, oldest_reader) VALUES (34, 26);
