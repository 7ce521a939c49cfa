-- Where the trust bundle is published beside the CA itself: what each publisher has said last. Times are microseconds since 1970.
CREATE TABLE publication (
    publisher TEXT NOT NULL PRIMARY KEY,
    wanted INTEGER NOT NULL,
    in_place INTEGER NOT NULL,
    problem TEXT,
    heard_at INTEGER NOT NULL
) STRICT;

-- The newest bundles that were in every place of a publisher, each with the time at which that was seen first.
CREATE TABLE publication_reached (
    publisher TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (publisher, sequence)
) STRICT, WITHOUT ROWID;

-- Which process does the work of a publisher, and until when. It saves work and nothing else.
CREATE TABLE publication_turn (
    publisher TEXT NOT NULL PRIMARY KEY,
    who TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;

-- A program of before publishes nowhere and waits for no publisher.
INSERT INTO schema_reader (version, oldest_reader) VALUES (25, 24);
