"""Import a library without modules that it imports and we never use: some cost each of hundreds of bots a MB."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """A stand-in for a module, which is imported at its first use."""

    def __getattr__(self, name: str) -> Any:
        self.withdraw()
        return getattr(importlib.import_module(self.__name__), name)

    def withdraw(self) -> None:
        """Let the next import find the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


@contextlib.contextmanager
def deferred(*modules: str) -> Iterator[None]:
    """Within it, `import` of one of the modules, by its full name, finds a stand-in in its place.

    The library keeps the stand-in, and the module is imported if it ever uses anything of it. Imports after that are
    as usual. A module that was imported before stays as it is.
    """
    stand_ins = [_Deferred(name) for name in modules if name not in sys.modules]
    sys.modules.update({each.__name__: each for each in stand_ins})
    try:
        for each in stand_ins:
            # What did `import a.b` looks for `b` in `a`, where the import of a module leaves it.
            package, _, name = each.__name__.rpartition(".")
            if package:
                setattr(importlib.import_module(package), name, each)
        yield
    finally:
        for each in stand_ins:
            each.withdraw()
