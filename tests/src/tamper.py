"""Prints how somebody with the database changes the record of a CA that is stopped: sqlite or postgres, then what, then two
positions of events. With a file of SQLite at the end it does that."""

import hashlib
import sqlite3
import sys

FAR = 1_000_000
# What is no event, with the hash that belongs to it.
BODY = bytes.fromhex("8201a0")
HASH = hashlib.sha256(b"\0" + BODY).digest()


def save(blob, at, other):
    """Keeps the record as it is."""
    yield "CREATE TABLE saved AS SELECT * FROM audit_event"


def restore(blob, at, other):
    """Puts it back."""
    yield "DELETE FROM audit_event"
    yield "INSERT INTO audit_event SELECT * FROM saved"


def byte(blob, at, other):
    """Another first byte."""
    changed = {"sqlite": "CAST(x'83' || substr(body, 2) AS BLOB)", "postgres": r"'\x83'::bytea || substr(body, 2)"}
    yield f"UPDATE audit_event SET body = {changed[kind]} WHERE seq = {at}"


def whole(blob, at, other):
    """Another event, with the hash that belongs to it."""
    yield f"UPDATE audit_event SET body = {blob(BODY)}, leaf_hash = {blob(HASH)} WHERE seq = {at}"


def removed(blob, at, other):
    """The event is gone."""
    yield f"DELETE FROM audit_event WHERE seq = {at}"


def inserted(blob, at, other):
    """One more, and all after it one further."""
    yield f"UPDATE audit_event SET seq = seq + {FAR} WHERE seq >= {at}"
    yield f"UPDATE audit_event SET seq = seq - {FAR - 1} WHERE seq >= {FAR}"
    yield (
        "INSERT INTO audit_event (seq, at_micros, high_micros, kind, outcome, leaf_hash, body)"
        f" VALUES ({at}, 1, 1, 0, 0, {blob(HASH)}, {blob(BODY)})"
    )


def swapped(blob, at, other):
    """Two events, each in the place of the other."""
    for now, then in ((at, FAR), (other, at), (FAR, other)):
        yield f"UPDATE audit_event SET seq = {then} WHERE seq = {now}"


LITERALS = {"sqlite": lambda raw: f"x'{raw.hex()}'", "postgres": lambda raw: rf"'\x{raw.hex()}'::bytea"}
ACTS = {act.__name__: act for act in (save, restore, byte, whole, removed, inserted, swapped)}

_, kind, act, at, other, *files = sys.argv
statements = list(ACTS[act](LITERALS[kind], int(at), int(other)))
print(";\n".join(statements))
for file in files:
    with sqlite3.connect(file) as database:
        for statement in statements:
            database.execute(statement)
    database.close()
