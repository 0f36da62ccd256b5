"""The table of the options: what the fields of a class declare (`config/declaration.py`), one entry for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from typing import Any, TypeVar

from ravesvc.config.declaration import Option, declared

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One option.

    Attributes:
        name: as in rave.yaml, with its section before a dot.
        field: that which declares it, of the class `owner`.
        path: the attributes that lead to its value.
        option: what is declared of it.
    """

    name: str
    field: Field[Any]
    owner: type[Any]
    path: tuple[str, ...]
    option: Option

    @property
    def default(self) -> Any:
        """The value where rave.yaml does not set it."""
        factory = self.field.default_factory
        return self.field.default if factory is MISSING else factory()

    def value(self, settings: object) -> Any:
        """The value in an object of the class whose table this is in."""
        for attribute in self.path:
            settings = getattr(settings, attribute)
        return settings


def entries(options: type[Any]) -> Iterator[Entry]:
    """All options of a class and of its sections, in the order of their declaration."""
    return _entries(options, "", ())


def _entries(owner: type[Any], prefix: str, path: tuple[str, ...]) -> Iterator[Entry]:
    for each in fields(owner):
        option = declared(each)
        if option is None or not option.in_file:
            continue
        here = (*path, each.name)
        if option.section:
            yield from _entries(option.section, f"{option.section_name}.", here)
        else:
            yield Entry(name=f"{prefix}{each.name}", field=each, owner=owner, path=here, option=option)


def sections(options: type[Any]) -> list[str]:
    """The names of the sections of the file."""
    return [option.section_name for each in fields(options) if (option := declared(each)) and option.section]


def build(options: type[T], value: Callable[[Entry], Any]) -> T:
    """An object of a class of options, with `value` of each entry of its table."""
    return _build(options, (), {entry.path: value(entry) for entry in entries(options)})


def _build(options: type[T], path: tuple[str, ...], found: Mapping[tuple[str, ...], Any]) -> T:
    values: dict[str, Any] = {}
    for each in fields(options):  # type: ignore[arg-type]
        here = (*path, each.name)
        option = declared(each)
        if option and option.section:
            values[each.name] = _build(option.section, here, found)
        elif here in found:
            values[each.name] = found[here]
    return options(**values)


def reloaded(before: T, after: object) -> T:
    """The settings before, with those after for all that a reload applies. Both have the options of `before`."""
    for entry in entries(type(before)):
        if entry.option.reload:
            before = _with_value(before, entry.path, entry.value(after))
    return before


def _with_value(settings: T, path: tuple[str, ...], value: object) -> T:
    first, *rest = path
    inner = _with_value(getattr(settings, first), tuple(rest), value) if rest else value
    return replace(settings, **{first: inner})  # type: ignore[type-var]


def for_workers(section: T) -> T:
    """The same section, with the defaults in the place of what is for the service alone."""
    kept = {}
    for each in fields(section):  # type: ignore[arg-type]
        option = declared(each)
        kept[each.name] = each.default if option and option.for_service else getattr(section, each.name)
    return type(section)(**kept)
