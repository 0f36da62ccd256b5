"""Everything that is wrong with rave.yaml and the database.json that it names, before the service starts with them.

ravectl config check, the privileged step before the start and single-process mode say the same, because all ask here.
"""

from __future__ import annotations

from pathlib import Path

from ravesvc.common import translation
from ravesvc.config import database, identity, rave_yaml
from ravesvc.config.database import Database
from ravesvc.config.options import Config
from ravesvc.errors import Code, RaveError
from ravesvc.setup import authorities, places, secret_files
from ravesvc.store import factory


def check(path: str | Path) -> tuple[Config | None, list[RaveError]]:
    """The configuration, or None and every error (Config) in both files, in their order; opens no connection."""
    settings, problems = rave_yaml.examine(path)
    if settings is None:
        return None, problems
    if settings.database:
        problems += factory.refusals(settings.database)
    try:
        settings = with_authorities(settings)
    except RaveError as e:
        problems.append(e)
    problems += places.directories(settings)
    return (None if problems else settings), problems


def check_files(settings: Config) -> list[RaveError]:
    """What the service, or a bot, will find wrong with a single file, and say so when it meets it (Config)."""
    return places.files(settings)


def check_identity(settings: Config) -> list[RaveError]:
    """Keys of `client_identity` for want of which no bot starts (Config): no mistakes, the service runs without them.

    Those of a login are among them as long as there is no account.
    """
    keys = identity.missing(settings.identity)
    if not identity.missing_to_run(settings.identity) and _exists(settings.credentials_path):
        return []
    return [_unset(settings, key) for key in keys]


def warnings(settings: Config) -> list[str]:
    """What keeps nothing from starting, but is hardly meant, in sentences that begin with the file."""
    return [*settings.warnings, *secret_files.readable(settings)]


def remarks(settings: Config) -> list[str]:
    """What is no mistake, and good to know, in sentences."""
    found = places.handed_over(settings)
    if not translation.is_known(settings.lang):
        known = " and ".join(translation.languages())
        found.append(f"lang: bots answer in English, because they know {known}, but not {settings.lang}.")
    found += [
        f"client_identity.{key} does not look as it does elsewhere: {identity.usual_shape(key)}."
        for key in identity.misshapen(settings.identity)
    ]
    if keys := identity.missing(settings.identity):
        found.append(f"The next login will need {identity.described(keys)}.")
    if keys := identity.missing_beside(settings.identity):
        found.append(f"Other clients of Rave send these as well: {identity.described(keys)}.")
    return found


def _unset(settings: Config, key: str) -> RaveError:
    where = (
        f"{settings.file}:{settings.lines['client_identity']}"
        if "client_identity" in settings.lines
        else settings.file
    )
    text = f"{where}: client_identity.{key} is not set: {identity.usual_shape(key)}"
    return RaveError(Code.CONFIG, text, file=settings.file, key=f"client_identity.{key}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # The user who asks may not look into its directory.
        return False


def with_authorities(settings: Config) -> Config:
    """The configuration with what the file at `tls.ca_file` holds; raises `RaveError` (Config)."""
    if settings.tls.ca_file is None:
        return settings
    try:
        return settings.with_authorities(authorities.read(settings.tls.ca_file, settings.advice.closed_authorities))
    except RaveError as e:
        raise settings.problem("tls.ca_file", e.message, hint=e.hint) from e


def check_text(text: str, path: str) -> list[RaveError]:
    """What is wrong with the text of a rave.yaml that is not in use yet (Config); no other file is looked at."""
    return rave_yaml.read(text, path)[1]


def missing_identity(path: str | Path) -> tuple[list[str], list[str]]:
    """The keys of `client_identity` without which no bot starts, and those that only a login needs, if unset.

    Both are empty for no rave.yaml.
    """
    settings, _ = rave_yaml.examine(path)
    if settings is None:
        return [], []
    running = identity.missing_to_run(settings.identity)
    return running, [key for key in identity.missing(settings.identity) if key not in running]


def has_value(text: str, key: str, value: str) -> bool:
    """Whether a rave.yaml gives an option, with its section before a dot, this value, as YAML writes it."""
    section, _, name = key.rpartition(".")
    there, _ = rave_yaml.read(text, "")
    wanted, _ = rave_yaml.read(f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n", "")
    if there is None or wanted is None:
        return False
    if section:
        return bool(getattr(there.identity, name) == getattr(wanted.identity, name))
    return bool(getattr(there, name) == getattr(wanted, name))


def check_database(content: bytes, path: str) -> tuple[Database | None, list[RaveError]]:
    """The same for what a database.json says that is not in use yet."""
    found, problems = database.parse(content, path)
    if found:
        problems = factory.refusals(found)
    return (None if problems else found), problems
