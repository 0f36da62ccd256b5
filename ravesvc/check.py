"""Everything that is wrong with rave.yaml and the database.json that it names, before the service starts with them.

ravectl config check and the privileged step before the start say the same, because both ask here.
"""

from __future__ import annotations

from pathlib import Path

from ravesvc import authorities, config, database, places
from ravesvc.config import Config
from ravesvc.database import Database
from ravesvc.errors import RaveError
from ravesvc.store import engine


def check(path: str | Path) -> tuple[Config | None, list[RaveError]]:
    """The configuration, or None and every error (Config) in both files, in their order; nobody is connected to."""
    settings, problems = config.examine(path)
    if settings is None:
        return None, problems
    if settings.database:
        problems += engine.refusals(settings.database)
    try:
        settings = with_authorities(settings)
    except RaveError as e:
        problems.append(e)
    problems += places.directories(settings)
    return (None if problems else settings), problems


def check_files(settings: Config) -> list[RaveError]:
    """What the service, or a bot, will find wrong with a single file, and say so when it meets it (Config)."""
    return places.files(settings)


def with_authorities(settings: Config) -> Config:
    """The configuration with what the file at `tls.ca_file` holds; raises `RaveError` (Config)."""
    if settings.tls.ca_file is None:
        return settings
    try:
        return settings.with_authorities(authorities.read(settings.tls.ca_file))
    except RaveError as e:
        raise settings.problem("tls.ca_file", e.message, hint=e.hint) from e


def check_database(content: bytes, path: str) -> tuple[Database | None, list[RaveError]]:
    """The same for what a database.json says that is not in use yet."""
    found, problems = database.parse(content, path)
    if found:
        problems = engine.refusals(found)
    return (None if problems else found), problems
