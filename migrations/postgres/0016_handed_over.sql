-- Nothing to do: in PostgreSQL holders have had these columns from the beginning.
INSERT INTO schema_reader (version, oldest_reader) VALUES (16, 16);
