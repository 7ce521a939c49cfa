-- Which programs may run on this schema. Each migration from here on names, in its own text, the oldest reader: the number of
-- the last migration that a program must know to be allowed to run on what the migration has made. A program that meets
-- migrations it does not know runs if it knows the oldest reader of each of them; see migrations/README.md.
CREATE TABLE schema_reader (
    version BIGINT NOT NULL PRIMARY KEY,
    oldest_reader BIGINT NOT NULL
);
INSERT INTO schema_reader (version, oldest_reader) VALUES (14, 14);
