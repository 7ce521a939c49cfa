"""Prints what a newer version would do to the storage of a CA that is stopped: sqlite or postgres, then what, then its
arguments. With a file of SQLite at the end it does that."""

import hashlib
import sqlite3
import sys

MIGRATION = 9001


def migration(blob, oldest):
    """The newer version has the migration 9001, on which programs may run that know the migration `oldest`."""
    yield (
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)"
        f" VALUES ({MIGRATION}, 'newer', true, {blob(b'1')}, 0)"
    )
    yield f"INSERT INTO schema_reader (version, oldest_reader) VALUES ({MIGRATION}, {int(oldest)})"


def added(blob, oldest):
    """It has added a column and a table."""
    yield "ALTER TABLE audit_event ADD COLUMN added TEXT"
    yield "CREATE TABLE added (id INTEGER PRIMARY KEY)"
    yield from migration(blob, oldest)


def events(blob, serial):
    """It has recorded two events, and the one of a certificate, in ways that the present one does not know."""
    # [1, {1: 1, 2: "", 3: 17, 4: 9, 7: {}, 10: 1}], and one of format 2.
    unknown, newer = bytes.fromhex("8201a6010102600311040907a00a01"), bytes.fromhex("8202a10105")
    leaf = lambda body: blob(hashlib.sha256(b"\0" + body).digest())
    for kind, body in ((17, unknown), (0, newer)):
        yield (
            "INSERT INTO audit_event (seq, at_micros, high_micros, kind, outcome, leaf_hash, body)"
            f" SELECT max(seq) + 1, max(high_micros), max(high_micros), {kind}, 9, {leaf(body)}, {blob(body)}"
            " FROM audit_event"
        )
    number = blob(bytes.fromhex(serial))
    yield f"UPDATE audit_event SET body = {blob(newer)}, leaf_hash = {leaf(newer)} WHERE serial = {number}"


LITERALS = {"sqlite": lambda raw: f"x'{raw.hex()}'", "postgres": lambda raw: rf"'\x{raw.hex()}'::bytea"}

_, kind, act, argument, *files = sys.argv
statements = list({"migration": migration, "added": added, "events": events}[act](LITERALS[kind], argument))
print(";\n".join(statements))
for file in files:
    with sqlite3.connect(file) as database:
        for statement in statements:
            database.execute(statement)
    database.close()
