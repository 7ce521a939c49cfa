-- Private keys, encrypted with a key that is not in this database.
CREATE TABLE sealed_key (
    id TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT;
