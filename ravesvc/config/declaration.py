"""How an option is declared: as a field of a dataclass, with its kind, default and bounds on one line.

    greeting_delay: float = option(TIME_SPAN, default=2.0, chapter=CHAT, most=60)
    '''How long after a user has come a bot greets.

    What rave.yaml(5) says beside that.
    '''

The fields are the only table of the options. From them come the reading of rave.yaml (`config/rave_yaml.py`), the
files with which workers are started, the commented config/rave.yaml, and the options in rave.yaml(5); for the last
two run `make options`. Python drops the texts when it compiles a class, so that they cost a bot nothing.
`config/table.py` lists what is declared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError

T = TypeVar("T")

DAY_S = 86400.0
YEAR_S = 366 * DAY_S

# The chapters of rave.yaml and rave.yaml(5); a section of the file has one of its own, by its name.
NETWORK = "network"
MESHES = "meshes"
LEAVING = "leaving"
ACCOUNT = "account"
STORE = "store"
ADMINS = "admins"
PROCESSES = "processes"
CHAT = "chat"
LOG = "log"

_DECLARED = "declared"


class Kind(Generic[T]):
    """What the value of an option is. `from_json` reads one from an object's key, and raises `RaveError`
    (BadData)."""

    __slots__ = ("from_json",)

    def __init__(self, from_json: Callable[[Object, str], T]) -> None:
        self.from_json = from_json


def _texts(source: Object, key: str) -> tuple[str, ...]:
    return tuple(json_fields.get_str({key: entry}, key) for entry in json_fields.get_list(source, key))


def _integers(source: Object, key: str) -> tuple[int, ...]:
    return tuple(json_fields.get_int({key: entry}, key) for entry in json_fields.get_list(source, key))


def _ports(source: Object, key: str) -> tuple[int, ...]:
    ports = _integers(source, key)
    if not all(0 < port < 65536 for port in ports):
        raise RaveError(Code.BAD_DATA, f"{key} must be ports", key=key)
    return ports


def _path(source: Object, key: str) -> Path:
    return Path(json_fields.get_str(source, key))


SWITCH: Kind[bool] = Kind(json_fields.get_bool)
TEXT: Kind[str] = Kind(json_fields.get_str)
# The code of a language, such as de or pt-BR.
LANGUAGE: Kind[str] = Kind(json_fields.get_str)
# One of `words`.
CHOICE: Kind[str] = Kind(json_fields.get_str)
# A base URL with https, without a slash at its end.
URL: Kind[str] = Kind(json_fields.get_str)
WHOLE_NUMBER: Kind[int] = Kind(json_fields.get_int)
# A whole number; 0 in the file is None, no limit.
LIMIT: Kind[int | None] = Kind(json_fields.opt_int)
# In seconds; the file has units.
TIME_SPAN: Kind[float] = Kind(json_fields.get_number)
ABSOLUTE_PATH: Kind[Path] = Kind(_path)
# The same, of a file that the service writes.
STATE_FILE: Kind[Path] = Kind(_path)
# A path as a text; None where there is no such file.
OPTIONAL_PATH: Kind[str | None] = Kind(json_fields.opt_str)
# These may be a single value in the file.
TEXTS: Kind[tuple[str, ...]] = Kind(_texts)
# Several of `words`, each once.
CHOICES: Kind[tuple[str, ...]] = Kind(_texts)
# Host names, each with a port or without.
HOSTS: Kind[tuple[str, ...]] = Kind(_texts)
# Addresses and networks, as `address/prefix`.
NETWORKS: Kind[tuple[str, ...]] = Kind(_texts)
PORTS: Kind[tuple[int, ...]] = Kind(_ports)
USER_IDS: Kind[tuple[int, ...]] = Kind(_integers)
# What is handed over but is no option.
OPTIONAL_TEXT: Kind[str | None] = Kind(json_fields.opt_str)


# Without what dataclasses make besides __init__: each bot would make it at its start.
@dataclass(kw_only=True, slots=True, eq=False, repr=False)
class Option:
    """What a field is besides its name, type and default.

    Attributes:
        kind: of the value; None for a section.
        section: the class of a section.
        section_name: how the section is called in the file.
        in_file: whether it stands in rave.yaml.
        chapter: under which it is listed; empty in a section, which has its own.
        least, most: bounds, both allowed, of a number, or of a time span in seconds.
        words: what a choice is among.
        automatic: what the word `auto`, the default, stands for.
        for_service: that workers get the default in its place, although they get its section.
        environment: the variable that counts where it is not set.
        secret: that other users may not see it.
        reload: that a reload of the service applies it; the others wait for a restart.
    """

    kind: Kind[Any] | None = None
    section: type[Any] | None = None
    section_name: str = ""
    in_file: bool = True
    chapter: str = ""
    least: float = 0
    most: float = 1_000_000
    words: tuple[str, ...] = ()
    automatic: Callable[[], Any] | None = None
    for_service: bool = False
    environment: str = ""
    secret: bool = False
    reload: bool = False


def option(
    kind: Kind[T],
    *,
    default: T,
    chapter: str = "",
    least: float = 0,
    most: float | None = None,
    words: tuple[str, ...] = (),
    secret: bool = False,
    for_service: bool = False,
    compare: bool = True,
    environment: str = "",
    reload: bool = False,
) -> T:
    """Declare an option, see `Option`. A secret stays out of `repr`."""
    usual = YEAR_S if kind is TIME_SPAN else 1_000_000
    declared = Option(
        kind=kind,
        chapter=chapter,
        least=least,
        most=usual if most is None else most,
        words=words,
        for_service=for_service,
        environment=environment,
        secret=secret,
        reload=reload,
    )
    return field(default=default, repr=not secret, compare=compare, metadata={_DECLARED: declared})


def automatic(kind: Kind[T], *, default: Callable[[], T], chapter: str, least: float = 0, reload: bool = False) -> T:
    """Declare an option whose default is found out where it is used; in the file it is the word `auto`."""
    declared = Option(kind=kind, chapter=chapter, least=least, automatic=default, reload=reload)
    return field(default_factory=default, metadata={_DECLARED: declared})


def section(options: type[T], name: str) -> T:
    """Declare a section of the file: the options of another class, under a name."""
    return field(default_factory=options, metadata={_DECLARED: Option(section=options, section_name=name)})


def handed_over(kind: Kind[T], *, default: T, secret: bool = False) -> T:
    """Declare what a process is started with although it stands in no file of the operator."""
    return field(default=default, repr=not secret, metadata={_DECLARED: Option(kind=kind, in_file=False)})


def declared(each: Field[Any]) -> Option | None:
    """What was declared of a field, None if nothing."""
    found: Option | None = each.metadata.get(_DECLARED)
    return found


def from_object(settings: type[T], source: Object) -> T:
    """Typed from an object with the keys of a class of options, all of them; raises `RaveError` (BadData)."""
    values: dict[str, Any] = {}
    for each in fields(settings):  # type: ignore[arg-type]
        if found := declared(each):
            values[each.name] = _from_json(found, source, each.name)
    return settings(**values)


def _from_json(found: Option, source: Object, key: str) -> Any:
    if found.section:
        return from_object(found.section, json_fields.get_object(source, key))
    value = found.kind.from_json(source, key) if found.kind else None
    if found.kind is CHOICE and value not in found.words:
        raise RaveError(Code.BAD_DATA, f"{key} must be one of {', '.join(found.words)}", key=key)
    return value
