"""The tables of the embedded store, and how a database of an older version gets them.

Collections and fields are those of the guide. Dates are milliseconds since the epoch, truth values 0 or 1. The tables
themselves refuse impossible values, from other programs too.
"""

from __future__ import annotations

import sqlite3

# In the header of every database of ours, so that another program's is not taken for one: "Rave" in ASCII.
APPLICATION_ID = 0x52617665

_DATE = "BETWEEN 0 AND 253402300799999"

# A database of version n has had the first n steps. Never change one that was released: add another.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        f"""
        CREATE TABLE credentials (
            id TEXT PRIMARY KEY NOT NULL CHECK (id = 'bot_credentials'),
            email TEXT NOT NULL,
            device_id TEXT NOT NULL,
            ssaid TEXT NOT NULL,
            parse_id TEXT NOT NULL,
            parse_token TEXT NOT NULL,
            auth_token TEXT NOT NULL,
            user_id INTEGER,
            updated_at INTEGER CHECK (updated_at {_DATE})
        ) STRICT
        """,
        f"""
        CREATE TABLE admin_users (
            user_id INTEGER PRIMARY KEY NOT NULL CHECK (user_id > 0),
            added_by INTEGER NOT NULL CHECK (added_by >= 0),
            added_at INTEGER NOT NULL CHECK (added_at {_DATE}),
            is_active INTEGER NOT NULL CHECK (is_active IN (0, 1))
        ) STRICT
        """,
        f"""
        CREATE TABLE command_permissions (
            command_name TEXT PRIMARY KEY NOT NULL CHECK (command_name <> ''),
            requires_admin INTEGER NOT NULL CHECK (requires_admin IN (0, 1)),
            description TEXT NOT NULL,
            updated_at INTEGER NOT NULL CHECK (updated_at {_DATE}),
            updated_by INTEGER NOT NULL CHECK (updated_by >= 0)
        ) STRICT
        """,
    ),
    (
        f"""
        CREATE TABLE ignored_users (
            user_id INTEGER PRIMARY KEY NOT NULL CHECK (user_id > 0),
            added_by INTEGER NOT NULL CHECK (added_by >= 0),
            added_at INTEGER NOT NULL CHECK (added_at {_DATE})
        ) STRICT
        """,
    ),
    (
        f"""
        CREATE TABLE room_documents (
            mesh_id TEXT NOT NULL CHECK (mesh_id <> ''),
            kind TEXT NOT NULL CHECK (kind IN ('document', 'history')),
            name TEXT NOT NULL CHECK (name <> ''),
            updated_at INTEGER NOT NULL CHECK (updated_at {_DATE}),
            text TEXT NOT NULL,
            PRIMARY KEY (mesh_id, kind, name)
        ) STRICT
        """,
    ),
)


def version(connection: sqlite3.Connection) -> int:
    """How many steps a database has had."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are missing, all or none; raises `sqlite3.Error`."""
    if version(connection) == len(STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[version(connection) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def empty() -> bytes:
    """A database without entries, as its file holds it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection)
        return connection.serialize()
    finally:
        connection.close()
