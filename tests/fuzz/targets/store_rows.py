"""Rows of the embedded store, perhaps of another program: the tables refuse some, what they take is read."""

from __future__ import annotations

import contextlib
import json
import sqlite3

from ravesvc.errors import Code, RaveError
from ravesvc.store import export
from ravesvc.store.engines import sqlite_schema
from ravesvc.store.engines.sqlite import _list_documents, _read
from ravesvc.store.export import Export

_TABLES = ("credentials", "admin_users", "command_permissions", "ignored_users", "room_documents")


def check(data: bytes) -> None:
    """What is read can be exported; sizes are those of the texts."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        # As `StateFile` has it.
        database.text_factory = lambda text: text.decode(errors="replace")
        sqlite_schema.migrate(database)
        if not _fill(database, data):
            raise RaveError(Code.BAD_DATA, "no row that a table takes")
        contents = _read(database)
        export.to_json(Export(contents=contents)).encode()
        assert len({permission.command for permission in contents.permissions}) == len(contents.permissions)
        for document in _list_documents(database):
            assert document.size >= 0


def _fill(database: sqlite3.Connection, data: bytes) -> int:
    """Insert the rows of a JSON object of lists of lists; tells how many the tables have taken."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise RaveError(Code.BAD_DATA, "no JSON") from None
    return sum(
        _insert(database, table, row)
        for table in _TABLES
        for row in _list(document.get(table) if isinstance(document, dict) else None)
    )


def _insert(database: sqlite3.Connection, table: str, row: object) -> bool:
    values = _list(row)
    marks = ", ".join("?" * len(values))
    try:
        database.execute(f"INSERT INTO {table} VALUES ({marks})", values)
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):
        return False
    return True


def _list(value: object) -> list[object]:
    return value[:100] if isinstance(value, list) else []
