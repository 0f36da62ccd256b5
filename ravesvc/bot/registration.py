"""Where the decorators of `ravesvc.commands` register, while a file of commands is loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from ravesvc.bot.command import Registry

_current: ContextVar[Registry | None] = ContextVar("ravesvc.commands", default=None)


@contextlib.contextmanager
def registering(registry: Registry) -> Iterator[None]:
    """The decorators that run meanwhile register in this registry."""
    token = _current.set(registry)
    try:
        yield
    finally:
        _current.reset(token)


def current_registry() -> Registry:
    """The registry to register in.

    Outside of `registering`, as when a test imports a file of commands, it is a new one: what the file registers is
    checked and forgotten.
    """
    return _current.get() or Registry()
