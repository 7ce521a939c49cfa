-- How far the words of events are forgotten that are old enough: a position for each class of events.
CREATE TABLE retention_cursor (
    class BIGINT NOT NULL PRIMARY KEY,
    -- Events of the class below it were looked at.
    below BIGINT NOT NULL
);

-- Events that were old enough when they were looked at, and were needed still.
CREATE TABLE retention_put_off (
    seq BIGINT NOT NULL PRIMARY KEY,
    class BIGINT NOT NULL,
    -- When they are looked at again.
    due_micros BIGINT NOT NULL
);
CREATE INDEX retention_put_off_due ON retention_put_off (class, due_micros);

-- How long certificates may live, as of the process that issues those that live longest; until when such may be alive if nobody
-- issues them any more.
CREATE TABLE longest_life (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seconds BIGINT NOT NULL,
    until_micros BIGINT NOT NULL
);

-- A program of before reads a log in which words are missing as it always could.
INSERT INTO schema_reader (version, oldest_reader) VALUES (32, 24);
