-- What the authorities are and have promised: one row, replaced by compare-and-set on version.
CREATE TABLE authority_journal (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL CHECK (version > 0),
    body TEXT NOT NULL
) STRICT;

-- Every version there ever was, for people who have to find out what happened.
CREATE TABLE authority_journal_history (
    version INTEGER NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
