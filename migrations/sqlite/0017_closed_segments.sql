-- Pages of one identity or outcome are found by entries that are made behind the log, many at once and while nobody waits
-- for them, not by indexes that every append pays for: an index writes a page for nearly every certificate, which has an
-- identity of its own. What has no entries yet is read as it is, by the columns.
DROP INDEX audit_event_identity;
DROP INDEX audit_event_outcome;

-- The segment comes first in the key, so that entries are added at the end. A query looks into each segment, newest first,
-- until its page is full.
CREATE TABLE audit_by_identity (
    -- As in audit_event; events about nobody have none.
    identity_key INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (identity_key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_by_outcome (
    outcome INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (outcome, seq)
) STRICT, WITHOUT ROWID;

-- Events below this position have their entries, those from it on have none.
CREATE TABLE audit_entries (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    below INTEGER NOT NULL CHECK (below >= 0)
) STRICT;

INSERT INTO audit_by_identity (identity_key, seq)
SELECT identity_key, seq FROM audit_event WHERE identity_key IS NOT NULL ORDER BY identity_key, seq;
INSERT INTO audit_by_outcome (outcome, seq) SELECT outcome, seq FROM audit_event ORDER BY outcome, seq;
INSERT INTO audit_entries (id, below) SELECT 1, coalesce(max(seq) + 1, 0) FROM audit_event;

-- Programs of before would look through the whole log for a page.
INSERT INTO schema_reader (version, oldest_reader) VALUES (17, 17);
