"""`BotManager`: all bots of an account, for programs that have an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ravesvc import commands, names
from ravesvc.bot.built_in_commands import built_in_commands
from ravesvc.bot.command import Registry
from ravesvc.bot.command_names import Permission
from ravesvc.bot.limits import Cooldown
from ravesvc.bot.plugins import Sources
from ravesvc.commands import CommandHandler
from ravesvc.config import rave_yaml
from ravesvc.config.advice import FOR_ONE_PROCESS
from ravesvc.config.options import Config
from ravesvc.config.rave_yaml import Places
from ravesvc.core.health import Stats
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.worker_status import SettingInfo
from ravesvc.errors import Code, RaveError
from ravesvc.setup.check import warnings, with_authorities
from ravesvc.single import secrets
from ravesvc.single.app import App, RoomHealth

log = logging.getLogger(__name__)

# The source of commands that a program has registered, as the log names it.
_SOURCE = "this program"


class BotManager:
    """Runs a bot in every mesh that the account is invited to, in this process.

        manager = BotManager.from_config("rave.yaml")

        @manager.command("greet", "Greets the user who asks.")
        async def greet(context):
            await context.reply(f"Hello, {await context.display_name()}!")

        asyncio.run(manager.run())

    The program has to set up logging. `ravesvc.systemd.logging.set_up(logging.INFO, "mybot")` makes the log readable,
    and logs an uncaught `RaveError` in words instead of a traceback.
    """

    def __init__(
        self, settings: Config, commands_directory: Path, secrets: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Plugins are loaded from the files in `commands_directory`, if it exists, and get the secrets by name."""
        self._settings = settings
        self._registry = Registry(_SOURCE, built_in_commands().owners())
        # A venv has libraries of its own.
        libraries = Path(names.LIBRARIES_DIRECTORY) if sys.prefix == sys.base_prefix else None
        self._sources = Sources(commands_directory, frozenset({os.geteuid()}), (self._registry,), secrets, libraries)
        self._app: App | None = None
        self._stopped = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> BotManager:
        """Make a manager with the options in a rave.yaml; `path` is `default_config()` if None.

        database.json and commands.d, which the service has in /etc/rave, are in the directory of this file, and so is
        secrets.d, whose files are secrets for plugins, by name. What the service keeps in /var/lib/rave is in
        `state_directory()`, unless the file names other places.

        What is allowed in the file but hardly meant is logged. Raises `RaveError` (Config), with a line for each
        mistake.
        """
        file = default_config() if path is None else Path(path).absolute()
        settings = rave_yaml.with_environment(rave_yaml.load(file, _places(file)), os.environ)
        for warning in warnings(settings):
            log.warning("%s", warning)
        return cls(
            with_authorities(settings), file.with_name("commands.d"), secrets.read(file.with_name("secrets.d"))
        )

    @property
    def settings(self) -> Config:
        """The options from rave.yaml, with defaults for those that it leaves out."""
        return self._settings

    @property
    def rooms(self) -> Mapping[str, MeshState]:
        """The meshes by id, each with its `state` in a word, the `reason` for it, `worker` and `listed`."""
        return dict(self._app.records) if self._app else {}

    def command(
        self,
        name: str,
        description: str,
        *,
        permission: Permission = Permission.USER,
        cooldown: float | Cooldown = 0.0,
        seconds: float | None = None,
        group: str = "",
        usage: str = "",
        example: str = "",
        aliases: Sequence[str] = (),
        checks: Sequence[CommandHandler] = (),
    ) -> Callable[[CommandHandler], CommandHandler]:
        """Register the decorated `async def handler(context, ...)` in all rooms, see `ravesvc.commands.command`.

        Raises `RaveError` (InvalidArgument), in words for the author.
        """
        register = commands.command(
            name,
            description,
            permission=permission,
            cooldown=cooldown,
            seconds=seconds,
            group=group,
            usage=usage,
            example=example,
            aliases=aliases,
            checks=checks,
        )

        def decorate(handler: CommandHandler) -> CommandHandler:
            with self.registering():
                return register(handler)

        return decorate

    @contextlib.contextmanager
    def registering(self) -> Iterator[None]:
        """In this context, decorators of `ravesvc.commands` register commands and event handlers for all rooms."""
        with commands.registering(self._registry):
            yield

    async def login(self, email: str) -> None:
        """Log in by a link in a mail, before `start`; returns when the link was followed.

        Raises `RaveError`: Busy, BadFile, WrongAddress, NotConfirmed, StoreUnavailable, or what Rave says.
        """
        self._insist_on_stopped()
        async with self._opened() as app:
            await app.log_in(email)

    async def add_admin(self, user: int) -> bool:
        """Make a user an admin in all rooms, by user id; False if they are one already. The bots may run meanwhile.

        Raises `RaveError`: InvalidArgument, StoreUnavailable, Busy, BadFile.
        """
        if self._app:
            return await self._app.add_admin(user)
        self._insist_on_stopped()
        async with self._opened() as app:
            return await app.add_admin(user)

    async def stop_room(self, mesh: str) -> None:
        """Have the bot leave one room, and stay out of it until `start_room`; returns when it has left.

        Raises `RaveError`: NotRunning, InvalidArgument, NoSuchMesh, BadFile (it has left, but a restart may forget
        that).
        """
        await self._running.stop_room(mesh)

    async def start_room(self, mesh: str) -> None:
        """Lift what keeps the bot out of a room, but for a kick and an operator's block; it joins soon.

        Raises `RaveError`: NotRunning, InvalidArgument, NoSuchMesh, Blocked, BadFile.
        """
        await self._running.start_room(mesh)

    async def unblock(self, mesh: str) -> bool:
        """Take a room off the blocklist, whatever the reason; False if it was not on it.

        After a kick, users of the room have to invite the bot again. Raises `RaveError`: NotRunning, InvalidArgument,
        BadFile (it is unblocked, but a restart may forget that).
        """
        return await self._running.unblock(mesh)

    async def refresh(self) -> None:
        """Read store and plugins again, also if nothing has changed; returns when all bots go by what is there.

        What is wrong with a plugin is logged, and its former version goes on. Raises `RaveError`: NotRunning.
        """
        await self._running.refresh()

    async def room_settings(self, mesh: str) -> list[SettingInfo]:
        """The settings of a room, of the bot and of plugins; of a long value the first 60 characters.

        Raises `RaveError`: NotRunning, InvalidArgument.
        """
        return await self._running.settings(mesh)

    async def change_room_setting(self, mesh: str, name: str, value: str) -> SettingInfo:
        """Change a setting of a room, as an admin writes it there, and return it; `default` resets it.

        Raises `RaveError`: NotRunning, InvalidArgument, TooLarge, StoreUnavailable, RateLimited.
        """
        return await self._running.change_setting(mesh, name, value)

    async def settle(self, mesh: str) -> None:
        """Wait until the bot of a room has done what it has begun: commands, handlers of events, and answers.

        Those that wait for an answer of a user, and timers, count as done. It takes as long as they take.
        Raises `RaveError`: NotRunning, InvalidArgument.
        """
        await self._running.settle(mesh)

    def health(self, mesh: str) -> RoomHealth:
        """How one room is: `state`, `healthy` and `reason`.

        Raises `RaveError`: NotRunning, InvalidArgument, NoSuchMesh.
        """
        return self._running.health(mesh)

    def health_stats(self) -> Stats:
        """How many rooms there are: `total`, `healthy`, `unhealthy`, `connected`, `disconnected` and `stopped`.

        Healthy ones are connected or disconnected. Raises `RaveError`: NotRunning.
        """
        return self._running.health_stats()

    async def start(self) -> None:
        """Start; returns when discovery has begun, before any bot is in a room.

        Raises `RaveError`: LoginNeeded, Config, BadFile, or Busy when this or another process runs already.
        """
        self._insist_on_stopped()
        app = App(self._settings, self._sources)
        try:
            await app.open()
            await app.start()
        except BaseException:
            await app.close()
            raise
        self._app = app
        self._working = asyncio.create_task(self._work(app))

    async def stop(self) -> None:
        """Have all bots leave their rooms, and return when everything is saved; raises what went wrong before."""
        if self._working:
            if not self._working.done():
                self._stopped.set()
            await asyncio.shield(self._working)

    def first_claim(self) -> str:
        """A code, valid for ten minutes: the user who writes the command `claim` with it in a room becomes an admin.

        Empty while the bots don't run, or when there is an admin already.
        """
        return self._app.first_claim() if self._app else ""

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Start, call `started`, and go on until `stop`, Ctrl-C, SIGTERM or SIGHUP.

        Raises as `start` does, and what ended it otherwise.
        """
        with self._signals():
            await self.start()
            assert self._working
            try:
                started()
                # Shielded, so that the bots leave their rooms in order when this is cancelled.
                await asyncio.shield(self._working)
            finally:
                await self.stop()

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[App]:
        """Open the application without starting bots, and close it at the end."""
        app = App(self._settings, self._sources)
        try:
            await app.open()
            yield app
        finally:
            await app.close()

    async def _work(self, app: App) -> None:
        try:
            await app.work(self._stopped)
        finally:
            self._app = None
            await app.close()
            self._stopped.clear()

    @property
    def _running(self) -> App:
        if self._app is None:
            raise RaveError(Code.NOT_RUNNING, "the bots do not run", hint="start them first")
        return self._app

    def _insist_on_stopped(self) -> None:
        if self._working and not self._working.done():
            raise RaveError(Code.BUSY, "the bots run already", hint="stop them first")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """In this context, SIGINT, SIGTERM and SIGHUP stop the bots; only in the main thread, which gets signals."""
        numbers = [signal.SIGINT, signal.SIGTERM] if threading.current_thread() is threading.main_thread() else []
        # After nohup(1) SIGHUP is ignored, and must stay so.
        if numbers and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        loop = asyncio.get_running_loop()
        for number in numbers:
            loop.add_signal_handler(number, self._stopped.set)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def example_config() -> str:
    """A rave.yaml to begin with: all options with the defaults that they have here, as comments."""
    shipped = importlib.resources.files("ravesvc").joinpath("rave.yaml").read_text(encoding="utf-8")
    # Its first paragraph is about the file of the service, and so are the places that it shows.
    options = shipped.partition("\n\n")[2]
    there, here = Places(), _places(default_config())
    options = options.replace(f"{there.state}/", f"{here.state}/")
    options = options.replace(f"{there.configuration}/", f"{here.configuration}/")
    return f"# The configuration of ravesvc. After a change: {here.advice.restart}.\n\n{options}"


def default_config() -> Path:
    """The default place of rave.yaml: in $XDG_CONFIG_HOME/ravesvc, or else in ~/.config/ravesvc."""
    return _base("XDG_CONFIG_HOME", ".config") / "rave.yaml"


def state_directory() -> Path:
    """The default directory of the state: $XDG_STATE_HOME/ravesvc, or else ~/.local/state/ravesvc."""
    return _base("XDG_STATE_HOME", ".local/state")


def _places(file: Path) -> Places:
    """The default paths that go with a rave.yaml of single-process mode."""
    return Places(state=state_directory(), configuration=file.parent, advice=FOR_ONE_PROCESS)


def _base(variable: str, default: str) -> Path:
    # The XDG base directory specification says to ignore relative paths.
    named = os.environ.get(variable, "")
    return (Path(named) if named.startswith("/") else Path.home() / default) / "ravesvc"
