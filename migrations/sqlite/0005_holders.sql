-- authority_journal_history holds the newest 500 versions from now on: each is a whole document.

-- Who holds certificates, and the newest trust bundle each holder is known to have received.
CREATE TABLE holder (
    spiffe_id TEXT NOT NULL,
    -- Pod UID, name of a client instance, or serial number.
    instance TEXT NOT NULL,
    pod TEXT,
    node TEXT,
    cluster TEXT,
    -- Of the newest certificate, 32 hexadecimal digits.
    serial TEXT NOT NULL,
    -- Of the newest certificate.
    authority TEXT NOT NULL,
    -- The latest of all its certificates, seconds since 1970.
    not_after INTEGER NOT NULL,
    -- Never falls; 0 for none.
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    acknowledges INTEGER NOT NULL CHECK (acknowledges IN (0, 1)),
    -- Microseconds since 1970.
    seen_at INTEGER NOT NULL,
    -- The bundle it refused last, until it applies one.
    refused_sequence INTEGER,
    refused TEXT,
    PRIMARY KEY (spiffe_id, instance)
) STRICT, WITHOUT ROWID;
-- There is no other index on purpose: each would be one more page per certificate to write. What looks for anything but
-- the key reads the table, and does so without the write lock.

-- When the last certificate of each issuing CA ends.
CREATE TABLE authority_usage (
    authority TEXT NOT NULL PRIMARY KEY,
    -- Seconds since 1970.
    last_not_after INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the log already says, as if its events were appended again in order. Certificates that have ended come along:
-- no clock is asked here, since one that runs ahead would lose live holders. They do not count and are forgotten soon.
-- A row whose body is gone becomes a holder of its own that has received nothing, which errs on the safe side.
INSERT INTO holder (
    spiffe_id, instance, pod, node, cluster, serial, authority, not_after, sequence, acknowledges, seen_at
)
SELECT
    spiffe_id,
    coalesce(body ->> '$.who.pod_uid', body ->> '$.who.instance', lower(hex(serial))),
    body ->> '$.who.pod',
    body ->> '$.who.node',
    cluster,
    lower(hex(serial)),
    authority,
    not_after,
    iif(body ->> '$.what.acknowledges', 0, coalesce(body ->> '$.what.bundle_sequence', 0)),
    coalesce(body ->> '$.what.acknowledges', 0),
    at_micros
FROM (
    SELECT
        seq, spiffe_id, cluster, serial, authority, not_after, at_micros,
        -- A damaged body must not keep the CA from starting.
        iif(json_valid(body), body, NULL) AS body
    FROM audit_event
    WHERE kind = 'certificate' AND outcome = 'issued'
      AND spiffe_id IS NOT NULL AND serial IS NOT NULL AND authority IS NOT NULL AND not_after IS NOT NULL
)
WHERE true
ORDER BY seq
ON CONFLICT (spiffe_id, instance) DO UPDATE SET
    pod = excluded.pod,
    node = excluded.node,
    cluster = excluded.cluster,
    serial = excluded.serial,
    authority = excluded.authority,
    not_after = max(not_after, excluded.not_after),
    sequence = max(sequence, excluded.sequence),
    acknowledges = excluded.acknowledges,
    seen_at = max(seen_at, excluded.seen_at);

INSERT INTO authority_usage (authority, last_not_after)
SELECT authority, max(not_after)
FROM audit_event
WHERE kind = 'certificate' AND outcome = 'issued'
  AND spiffe_id IS NOT NULL AND serial IS NOT NULL AND authority IS NOT NULL AND not_after IS NOT NULL
GROUP BY authority;
