-- Written to by the readiness probe, to prove that writing works.
CREATE TABLE storage_probe (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    writes BIGINT NOT NULL
);
INSERT INTO storage_probe (id, writes) VALUES (1, 0);
