-- Which database this is, so that whoever writes to it notices when there is another one behind the same name. The rest of
-- what SQLite's table of this name holds is about a file.
CREATE TABLE storage_file (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    store_id BYTEA NOT NULL CHECK (octet_length(store_id) = 16)
);
INSERT INTO storage_file (id, store_id) VALUES (1, decode(replace(gen_random_uuid()::text, '-', ''), 'hex'));
