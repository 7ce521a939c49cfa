"""Changes the storage of a CA that is stopped, as a newer version would: DATABASE, then what, then its arguments."""

import hashlib
import sqlite3
import sys

MIGRATION = 9001


def migration(db, oldest):
    """The newer version has the migration 9001, on which programs may run that know the migration `oldest`."""
    db.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)"
        " VALUES (?, 'newer', 1, x'01', 0)",
        (MIGRATION,),
    )
    db.execute("INSERT INTO schema_reader (version, oldest_reader) VALUES (?, ?)", (MIGRATION, int(oldest)))


def added(db, oldest):
    """It has added a column and a table."""
    db.execute("ALTER TABLE audit_event ADD COLUMN added TEXT")
    db.execute("CREATE TABLE added (id INTEGER PRIMARY KEY)")
    migration(db, oldest)


def events(db, serial):
    """It has recorded two events, and the one of a certificate, in ways that the present one does not know."""
    # [1, {1: 1, 2: "", 3: 17, 4: 9, 7: {}, 10: 1}], and one of format 2.
    unknown, newer = bytes.fromhex("8201a6010102600311040907a00a01"), bytes.fromhex("8202a10105")
    leaf = lambda body: hashlib.sha256(b"\0" + body).digest()
    for kind, body in ((17, unknown), (0, newer)):
        db.execute(
            "INSERT INTO audit_event (seq, at_micros, high_micros, kind, outcome, leaf_hash, body)"
            " SELECT max(seq) + 1, max(high_micros), max(high_micros), ?, 9, ?, ? FROM audit_event",
            (kind, leaf(body), body),
        )
    change = "UPDATE audit_event SET body = ?, leaf_hash = ? WHERE serial = ?"
    assert db.execute(change, (newer, leaf(newer), bytes.fromhex(serial))).rowcount == 1


_, path, act, *arguments = sys.argv
with sqlite3.connect(path) as database:
    {"migration": migration, "added": added, "events": events}[act](database, *arguments)
database.close()
