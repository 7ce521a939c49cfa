-- What the journal lets out, made of it in the transaction of each of its changes: read with every batch of
-- certificates, without decoding the journal.
CREATE TABLE authority_fence (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- The version of authority_journal that it follows from.
    version BIGINT NOT NULL CHECK (version > 0),
    body TEXT NOT NULL
);

-- Appends a usual batch in one turn. The number in the name is the contract: a newer one gets a function beside it.
--
-- It is VOLATILE and run under READ COMMITTED, so each of its statements sees what was committed when that statement began;
-- the first one waits for the lock, hence the others see what the last writer has left.
--
-- It raises, and then nothing was changed: SG001 when the journal has another version than the one whose fence the caller has
-- asked, SG002 when the log is shorter than what the caller has seen, 23505 for a serial that is taken or for a batch that
-- somebody has looked up and given up.
CREATE FUNCTION append_events_1(
    batch BYTEA,
    -- NULL when the batch releases nothing, so that no fence was asked.
    journal_version BIGINT,
    -- How long the log is at least.
    seen BIGINT,
    at_micros BIGINT[],
    kinds BIGINT[],
    outcomes BIGINT[],
    -- Identity keys without their segment.
    identities BIGINT[],
    serials BYTEA[],
    leaf_hashes BYTEA[],
    bodies BYTEA[]
) RETURNS BIGINT LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    head BIGINT;
    high BIGINT;
BEGIN
    PERFORM 1 FROM log_head WHERE log_head.id = 1 FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'log_head has no row' USING ERRCODE = 'SG003';
    END IF;
    IF journal_version IS NOT NULL
        AND journal_version <> coalesce((SELECT j.version FROM authority_journal AS j WHERE j.id = 1), 0)
    THEN
        RAISE EXCEPTION 'the journal has another version' USING ERRCODE = 'SG001';
    END IF;
    SELECT e.seq + 1, e.high_micros INTO head, high FROM audit_event AS e ORDER BY e.seq DESC LIMIT 1;
    head := coalesce(head, 0);
    IF head < seen THEN
        RAISE EXCEPTION 'the log has % events, not %', head, seen USING ERRCODE = 'SG002';
    END IF;
    INSERT INTO audit_event
        (seq, at_micros, high_micros, kind, outcome, identity_key, serial, leaf_hash, body)
    SELECT
        head + e.n - 1,
        e.at,
        greatest(high, max(e.at) OVER (ORDER BY e.n)),
        e.kind,
        e.outcome,
        ((head + e.n - 1) / 8192 << 35) | e.identity,
        e.serial,
        e.leaf_hash,
        e.body
    FROM unnest(at_micros, kinds, outcomes, identities, serials, leaf_hashes, bodies)
        WITH ORDINALITY AS e (at, kind, outcome, identity, serial, leaf_hash, body, n)
    ORDER BY e.n;
    INSERT INTO committed_batch (id, kept, first_seq) VALUES (batch, true, head);
    RETURN head;
END
$$;
