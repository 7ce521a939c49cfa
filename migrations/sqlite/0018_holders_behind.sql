-- What an event says about holders and the use of issuing CAs is entered behind the log: an append writes the log alone.
-- Events below this position are entered in holder and authority_usage, those from it on are not. Whoever asks for holders,
-- or changes them, enters the rest first.
CREATE TABLE holder_fold (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    below INTEGER NOT NULL CHECK (below >= 0)
) STRICT;

-- Until now both were written together.
INSERT INTO holder_fold (id, below) SELECT 1, coalesce(max(seq) + 1, 0) FROM audit_event;

-- Whoever changes the journal has counted holders: while events wait, nobody can have, whatever program it is.
CREATE TRIGGER authority_journal_counts_all BEFORE UPDATE OF version ON authority_journal
WHEN (SELECT below FROM holder_fold) < (SELECT coalesce(max(seq) + 1, 0) FROM audit_event)
BEGIN
    SELECT raise(ABORT, 'holders of the record are not entered yet, which a program of this version does');
END;

-- A program of before would not see the holders of the events that wait, so that its coverage would be more than there is.
INSERT INTO schema_reader (version, oldest_reader) VALUES (18, 18);
