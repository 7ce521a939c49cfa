-- Nothing to do: in PostgreSQL events have had their own encoding and these columns from the beginning.
INSERT INTO schema_reader (version, oldest_reader) VALUES (15, 15);
