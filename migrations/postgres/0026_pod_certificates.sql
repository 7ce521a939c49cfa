-- Requests by which kubelets ask for the certificates of their pods: who works on each, and the certificate that is its answer.
CREATE TABLE pod_certificate (
    -- The UID of the request.
    uid TEXT NOT NULL PRIMARY KEY,
    cluster TEXT NOT NULL,
    -- The process that works on it, and since when and until when; microseconds since 1970.
    claimant TEXT NOT NULL,
    claimed_at BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    -- Leaf and intermediates as PEM, written in the transaction of their record.
    chain TEXT,
    -- When it was answered.
    done_at BIGINT
);

-- A program of before answers no such requests.
INSERT INTO schema_reader (version, oldest_reader) VALUES (26, 24);
