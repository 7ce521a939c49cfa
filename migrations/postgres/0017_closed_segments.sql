-- Where events of an identity or of an outcome are, for segments of the log (8192 events) that are full. Entries are made
-- behind the log, a segment at a time, so that no append pays for them; what comes after the last one is searched as it is.

-- How many segments have entries.
CREATE TABLE closed_segment (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    segments BIGINT NOT NULL
);
INSERT INTO closed_segment (id, segments) VALUES (1, 0);

CREATE TABLE closed_identity (
    -- As in audit_event: it names the segment, too.
    identity_key BIGINT NOT NULL PRIMARY KEY,
    -- Positions within the segment, rising.
    offsets SMALLINT[] NOT NULL
);

CREATE TABLE closed_outcome (
    outcome BIGINT NOT NULL,
    segment BIGINT NOT NULL,
    offsets SMALLINT[] NOT NULL,
    PRIMARY KEY (outcome, segment)
);

INSERT INTO schema_reader (version, oldest_reader) VALUES (17, 15);
