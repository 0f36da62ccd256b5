"""One connection to the mesh after another, with the delays and the last attempt that `ReconnectPolicy` decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from ravesvc.api import failures, tls
from ravesvc.api.client import Api
from ravesvc.api.dial import Ports
from ravesvc.api.models import Mesh
from ravesvc.bot.command import BotInfo
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.config.worker_settings import MeshSettings, Session
from ravesvc.errors import Code, RaveError
from ravesvc.mesh.chat_form_memory import ChatFormMemory
from ravesvc.mesh.departure import Departure
from ravesvc.mesh.parent_link import ConnectAdvice
from ravesvc.mesh.reconnect_policy import ReconnectPolicy
from ravesvc.names import ExitStatus
from ravesvc.room import address
from ravesvc.room.chat import OwnMessages
from ravesvc.room.close import Close, CloseKind
from ravesvc.room.room import Room
from ravesvc.room.server_clock import ServerClock

_log = logging.getLogger(__name__)

_NORMAL_CLOSURE = 1000
# An attempt waits for the parent's advice no longer than this: a parent that hangs must not keep a mesh without bot.
_ADVICE_TIMEOUT_S = 2.0
_NEW_SESSION_TIMEOUT_S = 5.0
# Until the parent gives us one.
NO_SESSION = Session(device_id="", ssaid="", user_id=0, auth_token="")


if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import ParentLink

    # No process needs protocols to run, and each would cost a bot 5 KB.
    from ravesvc.room.listener import RoomListener

    class RoomUser(RoomListener, Protocol):
        """The bot's side: it hears what happens in the open room, and of each room that it gets and loses."""

        @property
        def lang(self) -> str:
            """The language of the messages in a new room."""

        def on_connecting(self) -> None:
            """An attempt begins; what was heard in a room that did not open is out of date."""

        def on_opened(self, room: Room) -> None:
            """The server has let the bot in; what was said meanwhile has come already."""

        def on_ended(self) -> None:
            """The room is open no more."""


class ConnectLoop:
    """Connects to the mesh and, until an attempt was the last one, connects again.

    Attributes:
        room: the open one; None while there is no connection.
        last_error: why there is no connection, in words; empty while there is one.
        chat_forms: how the servers want chat.
    """

    def __init__(
        self,
        *,
        mesh: str,
        settings: MeshSettings,
        session: Session | None,
        api: Api,
        ports: Ports,
        link: ParentLink,
        facts: BotInfo,
        departure: Departure,
        user: RoomUser,
        ask_for_session: Callable[[], Awaitable[None]],
        on_unshown: Callable[[], None],
    ) -> None:
        """Prepare it.

        Args:
            mesh: its id.
            settings: as the worker got them.
            session: of the start, which may be older than the parent's; None if there was none.
            api: asks Rave for the mesh's server.
            ports: to which the bot may connect.
            link: to the parent, which is told how it goes.
            facts: gets title and server of the mesh.
            departure: gets the news that the mesh is gone.
            user: gets each `Room`.
            ask_for_session: asks the parent for the session, and calls `use_session`; raises `RaveError`.
            on_unshown: called when one more message has had no echo.
        """
        self.mesh = mesh
        self.room: Room | None = None
        self.last_error = ""
        self.chat_forms = ChatFormMemory(settings.chat_form, link.parent.chat_form, on_unshown)
        self._settings = settings
        self._session = session or NO_SESSION
        self._api = api
        self._ports = ports
        self._link = link
        self._facts = facts
        self._departure = departure
        self._user = user
        self._ask_for_session = ask_for_session
        self._policy = ReconnectPolicy(settings.max_connection_attempts, settings.connection_failure_window)
        self._own_messages = OwnMessages()
        self._server_clock = ServerClock()
        # Set to end the wait between two attempts.
        self._connect_now = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None

    @property
    def failures(self) -> int:
        """How many attempts in a row have failed."""
        return self._policy.failures

    async def run(self) -> ExitStatus:
        """Connect again and again; returns the status to end with after the last attempt."""
        advice = await self._connect_advice()
        # Failures of the processes before this one count as well. The parent tells of them once: from the first
        # attempt on this process counts by itself, and would else count its own twice.
        self._policy.restore(advice.failures, advice.failing_for)
        while True:
            self._connect_now.clear()
            if advice.pause:
                self._put_off(advice)
            elif (status := await self._connect_once()) is not None:
                return status
            delay = self._policy.delay(random.random())  # noqa: S311 - jitter, not a secret
            self._link.show_status(f"Not connected, next attempt in {delay:.0f} s: {self.last_error}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._connect_now.wait()
            advice = await self._connect_advice()

    def reconnect(self) -> None:
        """Replace the open connection, or make the next attempt at once."""
        self._connect_now.set()
        if self.room:
            self._closing = asyncio.create_task(self.room.close(_NORMAL_CLOSURE, "Reconnecting"))

    def use_session(self, session: Session) -> None:
        """Use it from now on.

        A socket keeps the token with which it was opened, so a new token needs no new socket. Another user or device
        does: the server would go on to take us for the one before.
        """
        before, self._session = self._session, session
        if session == before:
            return
        self._api.set_session(session)
        _log.info("The bot has got a new session from the orchestrator")
        if session.peer_id != before.peer_id:
            self.reconnect()

    async def close(self) -> None:
        """Close the open room."""
        if self.room:
            await self.room.close(_NORMAL_CLOSURE, "Normal closure")

    async def _connect_advice(self) -> ConnectAdvice:
        """What the parent says before an attempt; that nothing stands against it when it does not answer soon."""
        try:
            async with asyncio.timeout(_ADVICE_TIMEOUT_S):
                return await self._link.parent.connect_advice()
        except (TimeoutError, RaveError) as e:
            _log.debug("The orchestrator gave no advice before the attempt to connect: %s", e)
            return ConnectAdvice()

    def _put_off(self, advice: ConnectAdvice) -> None:
        """Make no attempt now: Rave has asked another bot for a pause, and would ask this one for the same."""
        self._policy.paused(advice.pause)
        if self.last_error != advice.why:
            self.last_error = advice.why
            self._link.emit("Disconnected", advice.why)
            _log.info("The bot waits before it connects: %s", advice.why)

    async def _connect_once(self) -> ExitStatus | None:
        """One connection from the attempt to its end; returns the status to end with, if it was the last."""
        room: Room | None = None
        # The parent may replace it at each await below; this attempt goes by the one that it has begun with.
        session = self._session
        if session is NO_SESSION:
            why = "there is no session, neither from the start nor since"
            return self._failed(RaveError(Code.LOGIN_NEEDED, why, hint=self._link.advice.login), None)
        self._user.on_connecting()
        already_there = False
        try:
            mesh = await self._api.mesh(self.mesh)
            already_there = session.user_id in mesh.users
            room = self._make_room(mesh, session)
            await room.open()
        except RaveError as e:
            pause_s = failures.pause(e)
            if pause_s is not None:
                self._asked_to_pause(e, pause_s, self._facts.server if room else self._settings.servers.api_host)
                return None
            if e.code is Code.UNAUTHORIZED and await self._has_new_session(session):
                return None
            if already_there and e.code is Code.FORBIDDEN:
                e = _probably_elsewhere(e)
            return self._failed(e, room.closed.kind if room and room.closed else None)
        finally:
            # The bot asks nothing for hours now. Hundreds of idle connections would burden Rave and this machine.
            self._api.drop_idle()
        room.set_initial_users(mesh.users)
        self._opened(room)
        if session.peer_id != self._session.peer_id:
            # A session of another user came after `_make_room`. `use_session` could not close this room, which was
            # not open yet.
            self.reconnect()
        close = await room.run()
        return self._ended(close)

    async def _has_new_session(self, refused: Session) -> bool:
        """Whether the parent has another token than the refused one.

        An operator's login replaces the token while bots connect. Rave refuses the old one then, but the parent's
        news of the new one may still be on its way. Without this question the bot would end as one that needs a
        login, just after it was made.
        """
        with contextlib.suppress(RaveError, TimeoutError):
            async with asyncio.timeout(_NEW_SESSION_TIMEOUT_S):
                await self._ask_for_session()
        if self._session.auth_token == refused.auth_token:
            return False
        _log.info("Rave has refused the session, but the orchestrator has a new one")
        self._connect_now.set()
        return True

    def _make_room(self, mesh: Mesh, session: Session) -> Room:
        if not mesh.server:
            raise RaveError(Code.BAD_DATA, "Rave names no server for the mesh")
        server = address.parse(mesh.server)
        self._ports.require(server.host, server.port, self._settings.proxy)
        self._facts.title, self._facts.server = mesh.title, server.host
        self._link.show_status(f"Connecting to {server}")
        return Room(
            mesh_id=self.mesh,
            server=mesh.server,
            session=session,
            ssl_context=tls.context(self._settings.tls, server.host),
            proxy=self._settings.proxy,
            listener=self._user,
            lang=self._user.lang,
            own_messages=self._own_messages,
            chat_forms=self.chat_forms.of(server.host),
            ask_chat_form=self.chat_forms.ask,
            server_clock=self._server_clock,
        )

    def _opened(self, room: Room) -> None:
        self.room = room
        self._policy.opened()
        self.last_error = ""
        self._user.on_opened(room)

    def _asked_to_pause(self, error: RaveError, seconds: float, host: str) -> None:
        """A server asks for a pause. That is no failure of this mesh, and the parent makes all bots keep it."""
        seconds = self._policy.paused(seconds)
        self.last_error = f"{failures.pause_words(host, seconds)}: {error.message}"
        self._link.emit("RateLimited", host, max(1, round(seconds)))
        _log.warning("No connection: %s", self.last_error, extra=about(event=LogEvent.UNREACHABLE))

    def _failed(self, error: RaveError, kind: CloseKind | None) -> ExitStatus | None:
        self.last_error = str(error)
        status = self._policy.failed(error, kind)
        if status is ExitStatus.GONE:
            self._departure.set_exit_status(ExitStatus.GONE, "Left", "the mesh is gone")
        elif status is ExitStatus.LOGIN_NEEDED:
            self._link.emit("Error", self.last_error)
        elif status is not ExitStatus.KICKED:
            self._link.emit("ConnectionFailed", self._policy.failures, self.last_error)
        _log.warning("No connection: %s", error, extra=about(event=LogEvent.UNREACHABLE))
        return status

    def _ended(self, close: Close) -> ExitStatus | None:
        self.room = None
        self._user.on_ended()
        self.last_error = close.reason
        if self._departure.exit_status is None:
            self._link.emit("Disconnected", close.reason)
        _log.info("Disconnected: %s", close.reason, extra=about(event=LogEvent.DISCONNECTED))
        status = self._policy.ended(close.kind, close.held)
        if close.kind is CloseKind.REJECTED:
            self._link.emit("ConnectionFailed", self._policy.failures, close.reason)
        return status


def _probably_elsewhere(refusal: RaveError) -> RaveError:
    """What it most likely means that a server refuses an account which Rave counts among those in the mesh.

    The server may also have missed the end of an earlier connection of ours, which passes.
    """
    text = f"{refusal.message}; the same account is in the mesh already, it is probably connected elsewhere"
    return RaveError(Code.BUSY, text, hint="let it run in one place only")
