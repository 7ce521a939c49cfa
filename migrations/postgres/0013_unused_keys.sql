-- Keys that no authority names: made for a step that another replica has taken, or left by a crash.

-- Since when nothing in the journal or its history has named it, as far as that was looked at; seconds since 1970.
ALTER TABLE sealed_key ADD COLUMN unused_since BIGINT;

-- Keys that were removed because of that. A step that was under way all the time, in a process that was stopped, must not
-- put one of them into the journal.
CREATE TABLE removed_key (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- Seconds since 1970; forgotten after a year.
    at BIGINT NOT NULL
);
