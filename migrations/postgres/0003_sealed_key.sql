-- Private keys, encrypted with a key that is not in this database.
CREATE TABLE sealed_key (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL
);
