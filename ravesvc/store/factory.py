"""Which engine keeps the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ravesvc.config.advice import FOR_SERVICE
from ravesvc.config.database import Database
from ravesvc.errors import RaveError
from ravesvc.store.model import Store


def make_store(
    database: Database | None, state_path: Path, changed: Callable[[bool], None], restart: str = FOR_SERVICE.restart
) -> Store:
    """The store in MongoDB, if there is one, else the embedded one; not open yet. `restart` is for hints.

    `changed` is called when the server of the database goes away (False) and when it is back (True). Raises
    `RaveError` (Config) for a `database` that the driver does not take. Only the engine that is used is loaded.
    """
    if database is not None:
        from ravesvc.store.engines.mongo import MongoStore

        return MongoStore(database, changed, restart)
    from ravesvc.store.engines.sqlite import SqliteStore

    return SqliteStore(state_path, restart=restart)


def refusals(database: Database) -> list[RaveError]:
    """What the driver does not accept of a `database`, as errors (Config); opens no connection."""
    from ravesvc.store.engines import mongo

    return mongo.refusals(database)
