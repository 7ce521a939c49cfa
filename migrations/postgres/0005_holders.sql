-- Who holds certificates, and the newest trust bundle each holder is known to have received; as it is in SQLite after
-- 0016_handed_over.
CREATE TABLE holder (
    spiffe_id TEXT COLLATE "C" NOT NULL,
    -- Pod UID, name of a client instance, or serial number.
    instance TEXT COLLATE "C" NOT NULL,
    pod TEXT,
    node TEXT,
    cluster TEXT,
    -- Of the newest certificate, 32 hexadecimal digits.
    serial TEXT NOT NULL,
    -- Of the newest certificate.
    authority TEXT NOT NULL,
    -- The latest of all its certificates, seconds since 1970.
    not_after BIGINT NOT NULL,
    -- Never falls; 0 for none.
    sequence BIGINT NOT NULL CHECK (sequence >= 0),
    acknowledges BOOLEAN NOT NULL,
    -- Microseconds since 1970.
    seen_at BIGINT NOT NULL,
    -- The bundle it refused last, until it applies one.
    refused_sequence BIGINT,
    refused TEXT,
    -- The bundle that came with its only certificate; NULL once it has got another one, or when that is not known.
    first_bundle BIGINT,
    -- The issuing CAs of earlier certificates, each followed by a space, while the reply with the newest one has not been
    -- handed over in full, as far as is known: the certificate in use may be of one of them.
    former TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (spiffe_id, instance)
)
-- There is no other index on purpose, and each page keeps room for newer versions of its rows: a renewal then writes one page
-- and no index.
WITH (fillfactor = 60);

-- When the last certificate of each issuing CA ends.
CREATE TABLE authority_usage (
    authority TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- Seconds since 1970.
    last_not_after BIGINT NOT NULL
);

-- When holders that had been behind were counted: activation waits for a while after that. What nothing waits for any more
-- is removed with each change of the journal.
CREATE TABLE holder_raise (
    -- The sequence of the bundle that they had, and of the one that they have.
    before BIGINT NOT NULL,
    after BIGINT NOT NULL CHECK (after > before),
    -- When the last one was counted, microseconds since 1970.
    at BIGINT NOT NULL,
    PRIMARY KEY (before, after)
);
