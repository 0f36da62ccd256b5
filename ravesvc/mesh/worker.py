"""The life of a child: connect, run the bot in the mesh, come back when the connection is lost, end for a reason."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence

from ravesvc import __version__
from ravesvc.api import tls
from ravesvc.api.client import Api
from ravesvc.api.models import Mesh
from ravesvc.bot.bot import Bot
from ravesvc.bot.builtin import register
from ravesvc.bot.command import Registry
from ravesvc.bot.facts import Facts
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bus import Variant
from ravesvc.errors import Code, RaveError
from ravesvc.mesh.attempts import Attempts
from ravesvc.mesh.object import Presence, WorkerObject
from ravesvc.names import ExitStatus
from ravesvc.notify import notify, notify_ready
from ravesvc.room import address
from ravesvc.room.chat import ChatMessage, OwnMessages
from ravesvc.room.close import Close, CloseKind
from ravesvc.room.room import Room
from ravesvc.settings import MeshSettings, Session

_log = logging.getLogger(__name__)

_NORMAL_CLOSURE = 1000
_EARLY_KEPT = 32


class Worker:
    """One mesh. It is the listener of its rooms, one after another, and passes on to the bot what it hears."""

    def __init__(self, mesh: str, settings: MeshSettings, session: Session) -> None:
        self._mesh = mesh
        self._settings = settings
        self._session = session
        self._facts = Facts(version=__version__)
        self._attempts = Attempts(settings.max_connection_attempts)
        self._own_messages = OwnMessages()
        self._room: Room | None = None
        self._early: deque[ChatMessage] = deque(maxlen=_EARLY_KEPT)
        self._kicked = False
        self._last_error = ""
        self._restart = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._api = Api(servers=settings.servers, identity=settings.identity, session=session, tls=settings.tls)
        registry = Registry()
        register(registry)
        self._bot = Bot(
            facts=self._facts,
            registry=registry,
            permissions=StaticPermissions(),
            prefixes=settings.command_prefix,
            typing_delay=settings.typing_delay,
            lookup=self._names,
        )
        self._presence = Presence(mesh, lambda: WorkerObject(self._status, self._reconnect), self._announce)

    async def run(self, stopped: asyncio.Event) -> ExitStatus:
        """Live until `stopped` is set, or for as long as there is a point in it."""
        try:
            await self._presence.join()
        except RaveError as e:
            # The mesh matters more; `keep` goes on trying.
            _log.warning("Not on the message bus: %s", e)
        await notify_ready()
        tasks = [
            asyncio.create_task(self._live()),
            asyncio.create_task(self._wait(stopped)),
            asyncio.create_task(self._presence.keep()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            status = next(task for task in tasks if task.done()).result()
            assert status is not None, "presence is kept for ever"
        finally:
            notify("STOPPING=1", "STATUS=Ending")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()
        # A kick outweighs a stop at the same time: the exit status is all of it that a parent sees who was away.
        return ExitStatus.KICKED if self._kicked else status

    async def _wait(self, stopped: asyncio.Event) -> ExitStatus:
        await stopped.wait()
        return ExitStatus.STOPPED

    async def _close(self) -> None:
        if self._room:
            await self._room.close(_NORMAL_CLOSURE, "Normal closure")
        await self._bot.close()
        await self._api.close()
        await self._presence.leave()

    async def _live(self) -> ExitStatus:
        """One connection after another."""
        while True:
            self._restart.clear()
            status = await self._connection()
            if status is not None:
                return status
            delay = self._attempts.delay(random.random())  # noqa: S311 - jitter, not a secret
            notify(f"STATUS=Not connected, next attempt in {delay:.0f} s: {self._last_error}")
            try:
                await asyncio.wait_for(self._restart.wait(), delay)
            except TimeoutError:
                continue

    async def _connection(self) -> ExitStatus | None:
        """One connection from the attempt to its end; returns the status to end with, if it was the last."""
        room: Room | None = None
        self._early.clear()
        try:
            mesh = await self._api.mesh(self._mesh)
            room = self._make_room(mesh)
            await room.open()
        except RaveError as e:
            return self._failed(e, room.closed.kind if room and room.closed else None)
        finally:
            # A child asks nothing for hours; an idle connection for each would burden both sides.
            self._api.drop_idle()
        room.baseline(user.id for user in mesh.users)
        self._opened(room)
        close = await room.run()
        return self._ended(close)

    def _make_room(self, mesh: Mesh) -> Room:
        if not mesh.server:
            raise RaveError(Code.BAD_DATA, "Rave names no server for the mesh")
        server = address.parse(mesh.server)
        self._facts.title, self._facts.server = mesh.title, server.host
        notify(f"STATUS=Connecting to {server}")
        return Room(
            mesh_id=self._mesh,
            server=mesh.server,
            session=self._session,
            ssl_context=tls.context(self._settings.tls, server.host),
            listener=self,
            lang=self._settings.lang,
            own_messages=self._own_messages,
        )

    def _opened(self, room: Room) -> None:
        self._room = room
        self._last_error = ""
        self._facts.connected_since = time.monotonic()
        self._bot.attach(room)
        while self._early:
            self._bot.on_chat(self._early.popleft())
        self._presence.emit("Connected")
        self._say_status()
        _log.info("Connected to %s", self._facts.server)

    def _failed(self, error: RaveError, kind: CloseKind | None) -> ExitStatus | None:
        self._last_error = str(error)
        status = self._attempts.failed(error, kind)
        if status is ExitStatus.GONE:
            self._presence.emit("Left", "the mesh is gone")
        elif status is ExitStatus.LOGIN_NEEDED:
            self._presence.emit("Error", self._last_error)
        elif status is not ExitStatus.KICKED:
            self._presence.emit("ConnectionFailed", self._attempts.failures, self._last_error)
        _log.warning("No connection: %s", error)
        return status

    def _ended(self, close: Close) -> ExitStatus | None:
        self._room = None
        self._bot.detach()
        self._facts.connected_since = None
        self._facts.reconnects += 1
        self._last_error = close.reason
        self._presence.emit("Disconnected", close.reason)
        _log.info("Disconnected: %s", close.reason)
        status = self._attempts.ended(close.kind, close.held)
        if close.kind is CloseKind.REJECTED:
            self._presence.emit("ConnectionFailed", self._attempts.failures, close.reason)
        return status

    def on_chat(self, message: ChatMessage) -> None:
        """See `RoomListener`."""
        if self._room:
            self._bot.on_chat(message)
        else:
            # Let in already, but not told so yet.
            self._early.append(message)

    def on_joined(self, users: frozenset[int]) -> None:
        """See `RoomListener`."""
        self._bot.on_joined(users)
        self._say_status()

    def on_left(self, users: frozenset[int]) -> None:
        """See `RoomListener`."""
        self._bot.on_left(users)
        self._say_status()

    def on_kicked(self) -> None:
        """See `RoomListener`. Reported before anything else: the server may cut the connection at any moment."""
        self._kicked = True
        self._presence.emit("Kicked")
        self._bot.on_kicked()

    def _announce(self) -> None:
        """Say where we are, to a bus that has not heard of us yet."""
        self._presence.emit("Ready")
        if self._room:
            self._presence.emit("Connected")

    def _reconnect(self) -> None:
        """Another connection at once, whether there is one or the next attempt is being waited for."""
        self._restart.set()
        if self._room:
            self._closing = asyncio.create_task(self._room.close(_NORMAL_CLOSURE, "Reconnecting"))

    def _status(self) -> dict[str, Variant]:
        return {
            "Connected": Variant("b", self._room is not None),
            "Title": Variant("s", self._facts.title),
            "Server": Variant("s", self._facts.server),
            "Users": Variant("u", len(self._room.users) if self._room else 0),
            "Reconnects": Variant("u", self._facts.reconnects),
            "Attempts": Variant("u", self._attempts.failures),
            "LastError": Variant("s", self._last_error),
            "Version": Variant("s", __version__),
        }

    def _say_status(self) -> None:
        if self._room:
            users = len(self._room.users)
            title = f" ({self._facts.title})" if self._facts.title else ""
            notify(f"STATUS=Connected to {self._facts.server}{title}, {users} users")

    async def _names(self, users: Sequence[int]) -> Mapping[int, str]:
        found = await self._api.users(users)
        self._api.drop_idle()
        return {user.id: user.display_name for user in found.values()}
