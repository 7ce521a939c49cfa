-- Where the trust bundle is published beside the CA itself: what each publisher has said last. Times are microseconds since 1970.
CREATE TABLE publication (
    publisher TEXT NOT NULL PRIMARY KEY,
    wanted BIGINT NOT NULL,
    in_place BIGINT NOT NULL,
    problem TEXT,
    heard_at BIGINT NOT NULL
);

-- The newest bundles that were in every place of a publisher, each with the time at which that was seen first.
CREATE TABLE publication_reached (
    publisher TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (publisher, sequence)
);

-- Which process does the work of a publisher, and until when. It saves work and nothing else.
CREATE TABLE publication_turn (
    publisher TEXT NOT NULL PRIMARY KEY,
    who TEXT NOT NULL,
    until BIGINT NOT NULL
);

-- A program of before publishes nowhere and waits for no publisher.
INSERT INTO schema_reader (version, oldest_reader) VALUES (25, 24);
