"""The operator's plugins: files of a directory, and modules of installed packages, executed in this process.

A user who can write there can make every bot do anything, so only root may. A file that fails to load changes nothing
else: its previous version stays, all other files work, and the error with its file and line is reported.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ravesvc.bot.backend import EntryPoint, PluginInfo
from ravesvc.bot.command import Registry
from ravesvc.bot.last_step import NO_MARK, LastStep, Mark
from ravesvc.bot.plugin_helpers import PluginHelper, PluginModules, find, read_helpers
from ravesvc.bot.plugin_tasks import OWNER, PluginTasks, watch_tasks
from ravesvc.bot.registration import registering
from ravesvc.bot.step_timeout import AlarmTimeout
from ravesvc.common import plugin_files
from ravesvc.common.plugin_files import FileVersion
from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

# For one file. Half of the watchdog's time may have passed before it starts.
_LOAD_TIMEOUT_S = 10.0
_MAX_ERROR_CHARS = 300
_MAX_ERRORS = 16
# That many are named. All of them run. With the errors they have to fit into a message of 64 KiB, whatever they are
# called: a bot that sends a larger one is killed.
_MAX_LOADED = 48
_MAX_VERSION_CHARS = 24
_MAX_COMMANDS_CHARS = 80
# Of a digest, which tells people the versions of one file apart.
_VERSION_CHARS = 8
# Of a version that has ended the process before this one.
_OFF = "it is off, because the bot has ended while it ran (change it, or stop and start the bot)"


class Sources(NamedTuple):
    """Where plugins come from.

    Attributes:
        directory: has the files; it need not exist.
        owners: the users, besides root, who may own the files: the user who runs the bots without the service.
        registries: what the program has registered that the bots are a part of.
        secrets: what the operator hands over to plugins, by name.
        libraries: has modules that plugins may import, of the same owners; it need not exist. None for no such place.
        last_step: notes which plugin runs, for the next process; None where bots have no process of their own.
    """

    directory: Path
    owners: frozenset[int] = frozenset()
    registries: tuple[Registry, ...] = ()
    secrets: Mapping[str, str] = MappingProxyType({})
    libraries: Path | None = None
    last_step: LastStep | None = None


if TYPE_CHECKING:

    class Runs(Protocol):
        """What runs the handlers of plugins: the bot."""

        def start_plugin(self, part: Registry) -> None:
            """A plugin, or a new version of it, is in force."""

        async def end_plugin(self, part: Registry) -> None:
            """It no longer is; returns when nothing of it runs."""


class _FoundCommands(NamedTuple):
    """Something to load. Nothing has to be done as long as `edition` is the same; `execute` may raise anything.

    `version` tells people one edition from another.
    """

    source: str
    module: str
    edition: bytes
    version: str
    execute: Callable[[PluginTasks], None]


class _Loaded(NamedTuple):
    edition: bytes
    version: str
    registry: Registry


class PluginLoader:
    """Keeps a registry in line with the directory and the entry points."""

    def __init__(
        self,
        registry: Registry,
        sources: Sources,
        on_errors: Callable[[list[str]], None],
        bot: Callable[[], Runs],
    ) -> None:
        """Prepare it.

        Args:
            registry: has the built-in commands already, and gets those of plugins, given now or read later.
            sources: of all others.
            on_errors: called with all `errors` whenever they have changed.
            bot: runs them; asked for it when the first is loaded.
        """
        self._registry = registry
        self._directory = sources.directory
        self._owners = {plugin_files.ROOT_UID} | sources.owners
        self._registries = sources.registries
        self._libraries = sources.libraries
        self._last_step = sources.last_step
        # By the names of files: where versions are that are tried here, and what they have.
        self._tried: dict[str, tuple[Path, bytes]] = {}
        self._on_errors = on_errors
        self._bot = bot
        registry.include(self._registries)
        self._bot_commands = registry.owners()
        self._loaded: dict[str, _Loaded] = {}
        self._running: list[Registry] = []
        self._load_errors: dict[str, str] = {}  # to load, by source
        self._runtime_errors: dict[str, str] = {}  # while running, the last one by source
        self._announced_errors: list[str] = []

    @property
    def errors(self) -> list[str]:
        """What is wrong now, in sentences that begin with a file or package; the first of too many."""
        errors = list(self._load_errors.values()) + [
            f"{source}: {what}" for source, what in self._runtime_errors.items()
        ]
        return [printable(error, _MAX_ERROR_CHARS) for error in errors[:_MAX_ERRORS]]

    @property
    def loaded(self) -> list[PluginInfo]:
        """The files and modules whose plugins are in force; the first of too many."""
        return [
            PluginInfo(
                printable(source, _MAX_ERROR_CHARS),
                printable(each.version, _MAX_VERSION_CHARS),
                _shortened(printable(_names(each.registry), _MAX_COMMANDS_CHARS + 1)),
            )
            for source, each in sorted(self._loaded.items())[:_MAX_LOADED]
        ]

    @property
    def unloaded(self) -> list[str]:
        """The names of files and packages that could not be loaded, without their directory."""
        return [Path(source).name for source in list(self._load_errors)[:_MAX_ERRORS]]

    def report_failure(self, source: str, what: str) -> None:
        """Record that a handler of a source has failed. Kept until the next `read`."""
        self._runtime_errors[source] = what
        self._announce_errors()

    async def read(self, entry_points: Iterable[EntryPoint], tried: Sequence[FileVersion] = ()) -> None:
        """Load what is new, has changed or has failed before, and drop what is gone.

        Args:
            entry_points: what installed packages have.
            tried: the versions of files that are tried in this room, in place of those that are in force elsewhere.
        """
        self._load_errors.clear()
        self._runtime_errors.clear()
        self._tried = {each.name: version for each in tried if (version := self._find_tried(each))}
        self._add_libraries()
        found = [*self._files(), *self._modules(entry_points)]
        kept = {each.source: self._loaded[each.source] for each in found if self._is_unchanged(each)}
        taken = dict(self._bot_commands)
        for source, unchanged in kept.items():
            _add_names(taken, source, unchanged)
        in_force: dict[str, _Loaded] = {}
        for each in found:
            loaded = kept.get(each.source) or self._load(each, taken) or self._loaded.get(each.source)
            if loaded:
                in_force[each.source] = loaded
                _add_names(taken, each.source, loaded)
            # Loading takes time: let the event loop serve the mesh between two files.
            await asyncio.sleep(0)
        for source in self._loaded.keys() - in_force.keys():
            log.info("Plugins gone: %s", source)
        self._loaded = in_force
        registries = [*self._registries, *(loaded.registry for loaded in in_force.values())]
        self._registry.include(registries)
        self._announce_errors()
        await self._run(registries)

    async def close(self) -> None:
        """End all plugins."""
        await self._run([])

    async def _run(self, registries: list[Registry]) -> None:
        """Have the bot run these, and end all others that it runs."""
        before, self._running = self._running, registries
        await asyncio.gather(*(self._end(registry) for registry in before if registry not in registries))
        for registry in registries:
            if registry not in before:
                self._bot().start_plugin(registry)

    async def _end(self, registry: Registry) -> None:
        await self._bot().end_plugin(registry)
        # The tasks of a registry that was given are of the program, whose other bots share it.
        if registry not in self._registries:
            await registry.tasks.close()

    def _is_unchanged(self, found: _FoundCommands) -> bool:
        loaded = self._loaded.get(found.source)
        return loaded is not None and loaded.edition == found.edition

    def _load(self, found: _FoundCommands, taken: dict[str, str]) -> _Loaded | None:
        if self._last_step and self._last_step.off.get(found.source) == found.version:
            self._record_load_error(found.source, f"{found.source}: {_OFF}")
            return None
        mark = self._last_step.mark(found.source, found.version) if self._last_step else NO_MARK
        try:
            registry = _execute(found, taken, mark)
        except RaveError as error:
            self._record_load_error(found.source, str(error))
            if self._last_step and (loaded := self._loaded.get(found.source)):
                # That version runs on, and is the one to blame.
                self._last_step.mark(found.source, loaded.version)
            return None
        log.info("Plugins read: %s (%s)", found.source, _names(registry) or "none")
        return _Loaded(found.edition, found.version, registry)

    def _files(self) -> Iterator[_FoundCommands]:
        try:
            if not self._directory.exists():
                return
            plugin_files.require_owner(self._directory.stat(), self._owners)
            paths = plugin_files.paths(self._directory)
        except (OSError, RaveError) as error:
            self._record_load_error(str(self._directory), f"{self._directory}: {plugin_files.failure(error)}")
            paths = [Path(source) for source in self._loaded if Path(source).parent == self._directory]
        for path in sorted({*paths, *(self._directory / name for name in self._tried)}):
            if not is_plugin(path):
                continue
            try:
                new, content = self._tried.get(path.name) or (path, plugin_files.read_trusted(path, self._owners))
                yield _file(path, content, read_helpers(content, self._find_helper, self._read_helper), new)
            except (OSError, RaveError) as error:
                self._record_load_error(str(path), f"{path}: {plugin_files.failure(error)}")
                if loaded := self._loaded.get(str(path)):
                    yield _FoundCommands(str(path), "", loaded.edition, loaded.version, _do_nothing)

    def _add_libraries(self) -> None:
        if self._libraries:
            try:
                add_libraries(self._libraries, self._owners)
            except RaveError as error:
                self._record_load_error(str(self._libraries), str(error))

    def _find_tried(self, file: FileVersion) -> tuple[Path, bytes] | None:
        """Where the version of a file that is tried here is, and its content.

        None if there is none, or if all meshes have it by now.
        """
        new = self._directory / plugin_files.CANARY_DIRECTORY / file.name
        try:
            # Who may write there could put a link to any file of root's there.
            with plugin_files.naming(new.parent):
                plugin_files.require_owner(new.parent.stat(), self._owners)
            content = plugin_files.read_trusted(new, self._owners)
        except (OSError, RaveError) as error:
            # When it has held, root moves it into the place of the former version.
            if not plugin_files.has_digest(self._directory / file.name, file.digest):
                self._record_load_error(str(new), f"{new}: {plugin_files.failure(error)}")
            return None
        if plugin_files.digest(content) != file.digest:
            self._record_load_error(str(new), f"{new}: it has changed since it is tried (begin anew)")
            return None
        return new, content

    def _find_helper(self, name: str) -> Path | None:
        new, _ = self._tried.get(f"{name}.py", (None, b""))
        return new or find(name, [self._directory])

    def _read_helper(self, path: Path) -> bytes:
        new, content = self._tried.get(path.name, (None, b""))
        if new == path:
            return content
        with plugin_files.naming(path):
            return plugin_files.read_trusted(path, self._owners)

    def _modules(self, entry_points: Iterable[EntryPoint]) -> Iterator[_FoundCommands]:
        # A package may name a module twice.
        for name, each in {each.module: each for each in entry_points}.items():
            parts = name.split(".")
            if parts[0] == "ravesvc" or not all(part.isidentifier() for part in parts):
                self._record_load_error(
                    name, f"{name}: the entry point {each.name} has to name a module of its package"
                )
            else:
                yield _module(each)

    def _record_load_error(self, source: str, error: str) -> None:
        self._load_errors[source] = error
        log.error("Plugins: %s", printable(error, _MAX_ERROR_CHARS))

    def _announce_errors(self) -> None:
        errors = self.errors
        if errors != self._announced_errors:
            self._announced_errors = errors
            self._on_errors(errors)


def add_libraries(directory: Path, owners: AbstractSet[int]) -> None:
    """Let plugins import the modules in a directory, if it exists, after all others: they replace none of those.

    They must belong to one of these users, and no other may write them: `RaveError` (BadFile) names one that does not
    fit, and then nothing in the directory can be imported. It is looked at once: what has been imported stays.
    """
    if str(directory) not in sys.path and directory.exists():
        for path in (directory, *directory.rglob("*")):
            with plugin_files.naming(path):
                plugin_files.require_owner(path.stat(), owners)
        sys.path.append(str(directory))


def is_plugin(path: Path) -> bool:
    """Whether bots load a file of this name."""
    return path.suffix == ".py" and not path.name.startswith((".", plugin_files.HELPER_PREFIX))


class FileWithHelpers(NamedTuple):
    """A file of plugins with the helpers that it imports, of any owner, from its directory."""

    path: Path
    content: bytes
    helpers: Mapping[str, PluginHelper]

    @classmethod
    def read(cls, path: Path) -> FileWithHelpers:
        """Read them. Raises `RaveError` (BadFile) with the path of what can't be read."""
        content = plugin_files.read(path)
        return cls(path, content, read_helpers(content, lambda name: find(name, [path.parent]), plugin_files.read))

    def execute(self, taken: Mapping[str, str]) -> Registry:
        """What the file registers, which may have none of the commands in `taken`.

        Raises `RaveError` (BadFile) with file and line of what is wrong.
        """
        return _execute(_file(*self), taken, NO_MARK)


def load_file(path: Path, taken: Mapping[str, str]) -> Registry:
    """The same for the file at a path. Raises what the file raises, and `RaveError` (BadFile) if it can't be read."""
    registry = Registry(str(path), taken)
    watch_tasks()
    with registering(registry):
        _file(*FileWithHelpers.read(path)).execute(registry.tasks)
    return registry


def _execute(found: _FoundCommands, taken: Mapping[str, str], mark: Mark) -> Registry:
    """What it registers. Raises `RaveError` (BadFile) with file and line of what is wrong."""
    registry = Registry(found.source, taken, mark)
    watch_tasks()
    try:
        with registering(registry), mark, AlarmTimeout(_LOAD_TIMEOUT_S):
            found.execute(registry.tasks)
    except BaseException as error:
        # Also one that is no Exception, which would end the bot. Nothing waits here, so each is the file's own.
        where = _location(error, found.module) or found.source
        raise RaveError(Code.BAD_FILE, f"{where}: {_reason(error)}") from error
    return registry


def _names(registry: Registry) -> str:
    return ", ".join(command.name for command in registry.commands())


def _shortened(names: str) -> str:
    return names if len(names) <= _MAX_COMMANDS_CHARS else f"{names[: _MAX_COMMANDS_CHARS - 1]}…"


def _add_names(taken: dict[str, str], source: str, loaded: _Loaded) -> None:
    for key in loaded.registry.owners():
        taken.setdefault(key, source)


def _file(
    path: Path, content: bytes, helpers: Mapping[str, PluginHelper], written_in: Path | None = None
) -> _FoundCommands:
    """A file of plugins. A version of it that is tried is written in another one, which its errors name."""
    name = f"rave_commands_{path.stem}"
    # All of it: a change of a helper is one of the plugin.
    edition = b"\0".join(
        [content, *(part for key, each in sorted(helpers.items()) for part in (key.encode(), each.content))]
    )

    def execute(tasks: PluginTasks) -> None:
        PluginModules(name, written_in or path, helpers, tasks).execute(content)

    return _FoundCommands(str(path), name, edition, plugin_files.digest(edition)[:_VERSION_CHARS], execute)


def _module(entry_point: EntryPoint) -> _FoundCommands:
    name = entry_point.module

    def execute(tasks: PluginTasks) -> None:
        # An import does nothing for what is loaded already.
        for loaded in _loaded_modules(name):
            del sys.modules[loaded]
        importlib.import_module(name)
        for loaded in _loaded_modules(name):
            sys.modules[loaded].__dict__[OWNER] = tasks

    return _FoundCommands(name, name, repr(entry_point).encode(), entry_point.version, execute)


def _loaded_modules(name: str) -> list[str]:
    """The module and those in it, of those that were imported."""
    return [each for each in sys.modules if each == name or each.startswith(f"{name}.")]


def _do_nothing(tasks: PluginTasks) -> None:
    """For what is loaded already."""


def _location(error: BaseException, module: str) -> str:
    """File and line of the module where it went wrong; empty if that is somewhere else."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    # A step that took too long was interrupted; its place is in the traceback of the cause.
    for each in error, error.__cause__:
        frames = traceback.walk_tb(each.__traceback__ if each else None)
        places = [
            (frame.f_code.co_filename, line) for frame, line in frames if _is_of_module(frame.f_globals, module)
        ]
        if places:
            return f"{places[-1][0]}, line {places[-1][1]}"
    return ""


def _is_of_module(namespace: dict[str, object], module: str) -> bool:
    name = str(namespace.get("__name__", ""))
    return name == module or name.startswith(f"{module}.")


def _reason(error: BaseException) -> str:
    if isinstance(error, RaveError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
