-- What the authorities are and have promised: one row, replaced by compare-and-set on version.
CREATE TABLE authority_journal (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL CHECK (version > 0),
    body TEXT NOT NULL
);

-- Its newest 500 versions, for people who have to find out what happened.
CREATE TABLE authority_journal_history (
    version BIGINT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);
