"""Helpers: files whose names begin with `_`, which plugins of the same directory import: `from _scores import add`.

What a plugin imports is read together with it, so a change of it is a change of the plugin, and an import in a
function gets the version that is in force. Each plugin has its own copy: what a helper starts and remembers belongs
to the plugin. An import statement asks the `__import__` of the builtins of its module, so no other code sees one.
"""

from __future__ import annotations

import builtins
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

from ravesvc.bot.plugin_tasks import OWNER, PluginTasks
from ravesvc.common.plugin_files import HELPER_PREFIX
from ravesvc.errors import Code, RaveError

# Of one plugin.
_MAX_HELPERS = 32
_NAME = re.compile(rb"(?<![\w.])_\w+")


class PluginHelper(NamedTuple):
    """A file, and what it had when its plugin was read."""

    path: Path
    content: bytes


def is_helper(path: Path) -> bool:
    """Whether a file is imported by plugins, and none itself."""
    return path.name.startswith(HELPER_PREFIX)


def find(name: str, directories: Iterable[Path]) -> Path | None:
    """The file of a helper, in the first of the directories that has it."""
    paths = (directory / f"{name}.py" for directory in directories)
    return next((path for path in paths if path.exists()), None)


def read_helpers(
    content: bytes, find_helper: Callable[[str], Path | None], read: Callable[[Path], bytes]
) -> dict[str, PluginHelper]:
    """The helpers that a plugin with this content imports, and those that they import, by name.

    Raises what `read` raises, and `RaveError` (BadFile) for too many.
    """
    found: dict[str, PluginHelper] = {}
    contents = [content]
    while contents:
        importing = contents.pop()
        # Most files import none, and need not be compiled to learn that.
        written = {name.decode(errors="ignore") for name in _NAME.findall(importing)} - found.keys()
        paths = {name: path for name in written if (path := find_helper(name))}
        imported = paths.keys() & _names(importing) if paths else frozenset()
        for name in sorted(imported):
            if len(found) >= _MAX_HELPERS:
                raise RaveError(Code.BAD_FILE, f"it imports more than {_MAX_HELPERS} files")
            found[name] = PluginHelper(paths[name], read(paths[name]))
            contents.append(found[name].content)
    return found


def _names(content: bytes) -> set[str]:
    """All names in a program; empty if it is none, which is told when it is executed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            codes = [compile(content, "", "exec", dont_inherit=True)]
        except Exception:  # noqa: BLE001 - any, as of code that is nested too deeply
            return set()
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += (each for each in code.co_consts if isinstance(each, CodeType))
    return names


class PluginModules:
    """The modules of one edition of a plugin: its own, and those of its helpers."""

    def __init__(self, name: str, path: Path, helpers: Mapping[str, PluginHelper], tasks: PluginTasks) -> None:
        """`name` is that of the plugin's module, `path` its file; `tasks` are the plugin's."""
        self._name = name
        self._path = path
        self._helpers = helpers
        self._tasks = tasks
        self._imported: dict[str, ModuleType] = {}

    def execute(self, content: bytes) -> None:
        """Execute the plugin. Raises anything; the modules of the edition before are then as they were."""
        names = [self._name, *(f"{self._name}.{name}" for name in self._helpers)]
        before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        try:
            self._execute(self._new_module(self._name, self._path), content)
        except BaseException:
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(before)
            raise

    def _new_module(self, name: str, path: Path) -> ModuleType:
        module = ModuleType(name)
        module.__file__ = str(path)
        module.__dict__[OWNER] = self._tasks
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._import}
        # Where dataclasses and others look for the module of a class.
        sys.modules[name] = module
        return module

    def _execute(self, module: ModuleType, content: bytes) -> None:
        exec(compile(content, str(module.__file__), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - root's code, as was made sure of

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - as Python calls them
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """In place of `__import__`, for the modules of this plugin."""
        if level == 0 and name in self._helpers:
            return self._imported.get(name) or self._import_helper(name)
        try:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        except ModuleNotFoundError as error:
            if error.name and error.name == name.partition(".")[0] and (why := self._why_not(name)):
                raise ModuleNotFoundError(f"{error}: {why}", name=error.name) from None
            raise

    def _import_helper(self, name: str) -> ModuleType:
        helper = self._helpers[name]
        # While it is executed, those that it imports may import it, as with any module.
        self._imported[name] = module = self._new_module(f"{self._name}.{name}", helper.path)
        try:
            self._execute(module, helper.content)
        except BaseException:
            del self._imported[name]
            del sys.modules[module.__name__]
            raise
        return module

    def _why_not(self, name: str) -> str:
        """Why the plugin can't import what looks like a file beside it; empty for anything else."""
        if name.startswith(HELPER_PREFIX) and "." in name:
            return f"a file beside {self._path.name} is no package"
        if name.startswith(HELPER_PREFIX):
            return f"no import statement had found {name}.py when {self._path.name} was loaded"
        if name.isidentifier() and self._path.with_name(f"{name}.py").exists():
            return f"{name}.py is a plugin; only files whose names begin with {HELPER_PREFIX} can be imported"
        return ""
