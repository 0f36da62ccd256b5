"""The life of a worker: connect, run the bot in the mesh, come back when the connection is lost, end for a reason."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from ravesvc.api import failures, tls
from ravesvc.api.client import Api
from ravesvc.api.dial import Ports
from ravesvc.api.models import Mesh
from ravesvc.api.room_api import HttpRoomApi
from ravesvc.api.upload import Uploads
from ravesvc.bot import admin, builtin, moderation, privacy, settings_commands, video_commands
from ravesvc.bot.bot import Bot
from ravesvc.bot.command import BotInfo, Registry
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.player import Player
from ravesvc.bot.plugins import PluginLoader
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.text import count
from ravesvc.config.worker_options import AUTO
from ravesvc.config.worker_settings import STABLE_AFTER_S, Edition, MeshSettings, Session
from ravesvc.errors import Code, RaveError
from ravesvc.mesh.host import ConnectAdvice, Status, WorkerControl, WorkerHost
from ravesvc.mesh.parent_sync import ParentSync
from ravesvc.mesh.reconnect_policy import ReconnectPolicy
from ravesvc.mesh.request_guard import RequestGuard
from ravesvc.mesh.solitude import Solitude
from ravesvc.names import Announcement, ExitStatus
from ravesvc.room import address
from ravesvc.room.changes import Change
from ravesvc.room.chat import ChatMessage, OwnMessages
from ravesvc.room.chat_form import ChatForm, ChatForms
from ravesvc.room.close import Close, CloseKind
from ravesvc.room.room import Room
from ravesvc.room.server_clock import ServerClock

_log = logging.getLogger(__name__)

_NORMAL_CLOSURE = 1000
# Servers that a mesh has been on, whose form of chat is remembered.
_MAX_SERVERS = 16
_MAX_BUFFERED_CHAT = 32
# Users whose names are told.
_MAX_LISTED_USERS = 200
# Seconds that the mesh waits for the parent's word.
_PARENT_TIMEOUT_S = 5.0
# Before an attempt: one that hangs must not keep a mesh without its bot.
_ADVICE_TIMEOUT_S = 2.0
# Until somebody says who we are.
_NO_SESSION = Session(device_id="", ssaid="", user_id=0, auth_token="")


class Worker:
    """One mesh. It is the listener of its rooms, one after another, and passes on to the bot what it hears."""

    def __init__(
        self,
        mesh: str,
        settings: MeshSettings,
        edition: Edition,
        session: Session | None,
        link: Callable[[WorkerControl], WorkerHost],
    ) -> None:
        """Prepare it.

        Args:
            session: that of the start, older than what the parent says; None if there was none.
            link: makes what ties it to whoever runs it.
        """
        self.mesh = mesh
        self.edition = edition
        self._settings = settings
        self._session = session or _NO_SESSION
        self._facts = BotInfo(version=edition.version)
        self._attempts = ReconnectPolicy(settings.max_connection_attempts, settings.connection_failure_window)
        self._own_messages = OwnMessages()
        self._server_clock = ServerClock()
        self._chat_forms: dict[str, ChatForms] = {}  # by the host of a server
        self._unshown_elsewhere = 0  # on servers that are no longer in it
        self._room: Room | None = None
        self._buffered_chat: deque[ChatMessage] = deque(maxlen=_MAX_BUFFERED_CHAT)
        # The first of the ways in which a bot is in its mesh no more, which no later event can change.
        self._exit_status: ExitStatus | None = None
        self._left = asyncio.Event()
        self._last_error = ""
        self._restart = asyncio.Event()
        self._solitude = Solitude(settings.leave_when_alone)
        self._lonely: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._api = Api(
            servers=settings.servers,
            identity=settings.identity,
            session=self._session,
            tls=settings.tls,
            proxy=settings.proxy,
            progress=self._show_progress,
        )
        self._link = link(self)
        self._ports = Ports(settings.connect_ports, self._link.advice.apply)
        host = settings.servers.api_host
        self._requests = RequestGuard(self._api, host, functools.partial(self._link.emit, "RateLimited"))
        parent = self._parent = self._link.parent
        registry = Registry()
        builtin.register(registry)
        admin.register(registry, parent, self._leave, lambda: self._own.unloaded)
        moderation.register(registry, parent)
        self._room_settings = SettingsKeeper(parent, self._use_settings)
        settings_commands.register(registry, self._room_settings)
        privacy.register(registry, parent)
        self._own = PluginLoader(registry, self._link.commands, self._say_command_errors)
        rave = HttpRoomApi(
            self._api,
            mesh,
            settings.unconfirmed_calls,
            Uploads(settings.tls, settings.proxy, settings.servers.api_host, self._ports),
            asking=self._requests.request,
        )
        self._bot = Bot(
            facts=self._facts,
            registry=registry,
            permissions=None,
            first_admin=self._link.advice.first_admin,
            prefixes=settings.command_prefix,
            lang=settings.lang,
            typing_delay=settings.typing_delay,
            lookup=self._names,
            rave=rave,
            ignored_users=settings.ignored_users,
            on_plugin_failure=self._own.report_failure,
        )
        self._player = Player(self._bot, rave, parent)
        self._bot.watch(self._player.on_change)
        video_commands.register(registry, self._player, parent)
        self._follower = ParentSync(
            parent,
            announce=self._announce,
            permissions=self._use_permissions,
            ignored=self._use_ignored,
            session=self._use_session,
            commands=self._own.read,
        )

    async def run(self, stopped: asyncio.Event) -> ExitStatus:
        """Live until `stopped` is set, or for as long as there is a point in it."""
        try:
            await self._link.join()
        except RaveError as e:
            # The mesh matters more; `keep` goes on trying.
            _log.warning("Not on the message bus: %s", e)
        # The parent may be away. What packages have, only it knows.
        await self._own.read([])
        await self._link.ready()
        tasks = [
            asyncio.create_task(self._connect_loop()),
            asyncio.create_task(self._wait(self._left, ExitStatus.LEFT)),
            asyncio.create_task(self._wait(stopped, ExitStatus.STOPPED)),
            asyncio.create_task(self._follower.keep()),
            asyncio.create_task(self._link.keep()),
            asyncio.create_task(self._room_settings.run()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            status = next(task for task in tasks if task.done()).result()
            assert status is not None, "what is kept is kept for ever"
        finally:
            self._link.ending()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()
        # It outweighs a stop at the same time: the exit status is all of it that a parent sees who was away.
        return status if self._exit_status is None else self._exit_status

    def status(self) -> Status:
        """See `WorkerControl`."""
        since = self._facts.connected_since
        lasted = time.monotonic() - since if since is not None else 0.0
        return Status(
            connected=self._room is not None,
            lasted=lasted,
            title=self._facts.title,
            server=self._facts.server,
            users=len(self._room.users) if self._room else 0,
            reconnects=self._facts.reconnects,
            # What went wrong before a connection that holds is over.
            attempts=self._attempts.failures if lasted < STABLE_AFTER_S else 0,
            last_error=self._last_error,
            command_errors=tuple(self._own.errors),
            unshown=self._unshown,
            chat_form=self._learned_form,
        )

    async def users(self) -> tuple[list[tuple[int, str]], int]:
        """See `WorkerControl`."""
        present = sorted(self._room.users) if self._room else []
        return await self._bot.names(present[:_MAX_LISTED_USERS]), len(present)

    def reconnect(self) -> None:
        """See `WorkerControl`."""
        self._restart.set()
        if self._room:
            self._closing = asyncio.create_task(self._room.close(_NORMAL_CLOSURE, "Reconnecting"))

    async def refresh(self, what: Announcement) -> None:
        """See `WorkerControl`."""
        await self._follower.refresh(what)

    def forget_user(self, user: int) -> None:
        """See `WorkerControl`."""
        self._bot.forget_user(user)
        self._player.forget_user(user)

    def met(self) -> None:
        """See `WorkerControl`."""
        self._follower.met()

    async def _wait(self, event: asyncio.Event, status: ExitStatus) -> ExitStatus:
        await event.wait()
        return status

    async def _close(self) -> None:
        if self._lonely:
            self._lonely.cancel()
        if self._leaving:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)
        if self._room:
            await self._room.close(_NORMAL_CLOSURE, "Normal closure")
        await self._player.close()
        await self._bot.close()
        self._requests.close()
        await self._api.close()
        await self._link.leave()

    async def _connect_loop(self) -> ExitStatus:
        """One connection after another, once the parent has told what it knows or has had its time."""
        self._link.tell("Asking the orchestrator for session and permissions")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARENT_TIMEOUT_S):
                await self._follower.asked.wait()
        advice = await self._connect_advice()
        # Those of earlier processes count. A parent that is away is not asked for them again: ours count then.
        self._attempts.resume(advice.failures, advice.failing_for)
        while True:
            self._restart.clear()
            if advice.pause:
                self._put_off(advice)
            elif (status := await self._connection()) is not None:
                return status
            delay = self._attempts.delay(random.random())  # noqa: S311 - jitter, not a secret
            self._link.tell(f"Not connected, next attempt in {delay:.0f} s: {self._last_error}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._restart.wait()
            advice = await self._connect_advice()

    async def _connect_advice(self) -> ConnectAdvice:
        """What the parent says before an attempt; nothing to heed when it does not answer soon."""
        try:
            async with asyncio.timeout(_ADVICE_TIMEOUT_S):
                return await self._parent.connect_advice()
        except (TimeoutError, RaveError) as e:
            _log.debug("No advice from the orchestrator: %s", e)
            return ConnectAdvice()

    def _put_off(self, advice: ConnectAdvice) -> None:
        """Rave has asked others for a pause, so we don't ask it either."""
        self._attempts.paused(advice.pause)
        if self._last_error != advice.why:
            self._last_error = advice.why
            self._link.emit("Disconnected", advice.why)
            _log.info("The attempt to connect is put off: %s", advice.why)

    async def _connection(self) -> ExitStatus | None:
        """One connection from the attempt to its end; returns the status to end with, if it was the last."""
        room: Room | None = None
        session = self._session
        if session is _NO_SESSION:
            why = "there is no session, neither from the start nor since"
            return self._failed(RaveError(Code.LOGIN_NEEDED, why, hint=self._link.advice.login), None)
        self._buffered_chat.clear()
        already_there = False
        try:
            mesh = await self._api.mesh(self.mesh)
            already_there = session.user_id in mesh.users
            room = self._make_room(mesh, session)
            await room.open()
        except RaveError as e:
            asked = failures.pause(e)
            if asked is not None:
                self._asked_to_pause(e, asked, self._facts.server if room else self._settings.servers.api_host)
                return None
            if e.code is Code.UNAUTHORIZED and await self._renewed(session):
                return None
            if already_there and e.code is Code.FORBIDDEN:
                e = _elsewhere(e)
            return self._failed(e, room.closed.kind if room and room.closed else None)
        finally:
            # A child asks nothing for hours; an idle connection for each would burden both sides.
            self._api.drop_idle()
        room.set_initial_users(mesh.users)
        self._opened(room)
        if session.peer_id != self._session.peer_id:
            # We became somebody else while being let in.
            self.reconnect()
        close = await room.run()
        return self._ended(close)

    async def _renewed(self, refused: Session) -> bool:
        """Whether the parent has another token than the one refused: a login may have crossed the attempt."""
        with contextlib.suppress(RaveError, TimeoutError):
            async with asyncio.timeout(_PARENT_TIMEOUT_S):
                await self._follower.refresh(Announcement.CREDENTIALS)
        if self._session.auth_token == refused.auth_token:
            return False
        _log.info("The session was refused, but there is a new one")
        self._restart.set()
        return True

    def _make_room(self, mesh: Mesh, session: Session) -> Room:
        if not mesh.server:
            raise RaveError(Code.BAD_DATA, "Rave names no server for the mesh")
        server = address.parse(mesh.server)
        self._ports.require(server.host, server.port, self._settings.proxy)
        self._facts.title, self._facts.server = mesh.title, server.host
        self._link.tell(f"Connecting to {server}")
        return Room(
            mesh_id=self.mesh,
            server=mesh.server,
            session=session,
            ssl_context=tls.context(self._settings.tls, server.host),
            proxy=self._settings.proxy,
            listener=self,
            lang=self._room_settings.settings.lang or self._settings.lang,
            own_messages=self._own_messages,
            chat_forms=self._forms_of(server.host),
            ask_chat_form=self._ask_chat_form,
            server_clock=self._server_clock,
        )

    def _forms_of(self, host: str) -> ChatForms:
        """What is known of how a server wants chat; of a new one, it is likely that it is as the one before."""
        forms = self._chat_forms.pop(host, None)
        if forms is None:
            fixed = None if self._settings.chat_form == AUTO else ChatForm(self._settings.chat_form)
            before = next(reversed(self._chat_forms.values()), None)
            first = before.form if before else ChatForm.REQUEST
            forms = ChatForms(fixed, time.monotonic, first=first, on_unshown=self._say_status)
        # The newest last.
        self._chat_forms[host] = forms
        while len(self._chat_forms) > _MAX_SERVERS:
            gone = self._chat_forms.pop(next(iter(self._chat_forms)))
            self._unshown_elsewhere += gone.unshown
        return forms

    async def _ask_chat_form(self, forms: ChatForms) -> None:
        """Begin with the form that other bots have learned, which saves us the wait for an echo."""
        try:
            async with asyncio.timeout(_ADVICE_TIMEOUT_S):
                form = await self._parent.chat_form()
        except (TimeoutError, RaveError) as e:
            _log.debug("No word on how other bots send chat: %s", e)
            return
        if form in tuple(ChatForm):
            forms.suggest(ChatForm(form))

    @property
    def _unshown(self) -> int:
        """How many of our messages have had no echo."""
        return self._unshown_elsewhere + sum(forms.unshown for forms in self._chat_forms.values())

    @property
    def _learned_form(self) -> str:
        """The form in which the current server is known to show chat; empty while that is not known."""
        forms = self._chat_forms.get(self._facts.server)
        return forms.form.value if forms and forms.known else ""

    def _opened(self, room: Room) -> None:
        self._room = room
        self._attempts.opened()
        self._last_error = ""
        self._facts.connected_since = time.monotonic()
        self._bot.attach(room)
        while self._buffered_chat:
            self._bot.on_chat(self._buffered_chat.popleft())
        self._look_round()
        self._link.emit("Connected")
        self._say_status()
        _log.info("Connected to %s", self._facts.server, extra=about(event=LogEvent.CONNECTED))

    def _asked_to_pause(self, error: RaveError, seconds: float, host: str) -> None:
        """A server asks for a pause: that is no failure of the mesh, and concerns all who ask that server."""
        seconds = self._attempts.paused(seconds)
        self._last_error = f"{failures.pause_words(host, seconds)}: {error.message}"
        self._link.emit("RateLimited", host, max(1, round(seconds)))
        _log.warning("No connection: %s", self._last_error, extra=about(event=LogEvent.UNREACHABLE))

    def _failed(self, error: RaveError, kind: CloseKind | None) -> ExitStatus | None:
        self._last_error = str(error)
        status = self._attempts.failed(error, kind)
        if status is ExitStatus.GONE:
            self._set_exit_status(ExitStatus.GONE, "Left", "the mesh is gone")
        elif status is ExitStatus.LOGIN_NEEDED:
            self._link.emit("Error", self._last_error)
        elif status is not ExitStatus.KICKED:
            self._link.emit("ConnectionFailed", self._attempts.failures, self._last_error)
        _log.warning("No connection: %s", error, extra=about(event=LogEvent.UNREACHABLE))
        return status

    def _ended(self, close: Close) -> ExitStatus | None:
        self._room = None
        self._look_round()
        self._bot.detach()
        self._facts.connected_since = None
        self._facts.reconnects += 1
        self._last_error = close.reason
        if self._exit_status is None:
            self._link.emit("Disconnected", close.reason)
        _log.info("Disconnected: %s", close.reason, extra=about(event=LogEvent.DISCONNECTED))
        status = self._attempts.ended(close.kind, close.held)
        if close.kind is CloseKind.REJECTED:
            self._link.emit("ConnectionFailed", self._attempts.failures, close.reason)
        return status

    def on_chat(self, message: ChatMessage) -> None:
        """See `RoomListener`."""
        if self._room:
            self._bot.on_chat(message)
        else:
            # Let in already, but not told so yet.
            self._buffered_chat.append(message)

    def on_joined(self, users: frozenset[int]) -> None:
        """See `RoomListener`."""
        self._look_round()
        self._bot.on_joined(users)
        self._say_status()

    def on_left(self, users: frozenset[int]) -> None:
        """See `RoomListener`."""
        self._look_round()
        self._bot.on_left(users)
        self._say_status()

    def on_change(self, change: Change) -> None:
        """See `RoomListener`."""
        self._bot.on_change(change)

    def on_kicked(self) -> None:
        """See `RoomListener`. Reported before anything else: the server may cut the connection at any moment."""
        self._set_exit_status(ExitStatus.KICKED, "Kicked")
        self._bot.on_kicked()

    async def _leave(self) -> None:
        """Leave the mesh for good. Raises `RaveError` when Rave does not let us; then we stay."""
        try:
            await self._api.leave(self.mesh)
        finally:
            self._api.drop_idle()
        _log.info("Left the mesh, as an admin has ordered")
        self._set_exit_status(ExitStatus.LEFT, "Left", "an admin said so")
        self._left.set()

    def _look_round(self) -> None:
        """See who is there, and leave in time when no human is.

        While we are not connected we can't tell: users who have come back meanwhile are found by the next connection.
        """
        if self._lonely:
            self._lonely.cancel()
            self._lonely = None
        if self._room is None:
            return
        loop = asyncio.get_running_loop()
        # Other devices of our account are no company.
        self._solitude.look(len(self._room.users - {self._room.own_user_id}), loop.time())
        if self._solitude.leave_at is not None:
            self._lonely = loop.call_at(self._solitude.leave_at, self._go_alone)

    def _go_alone(self) -> None:
        self._leaving = asyncio.create_task(self._leave_alone())

    async def _leave_alone(self) -> None:
        """Leave an empty room, and keep the invitation: we are welcome when there is company again."""
        try:
            await self._api.depart(self.mesh)
        except RaveError as e:
            # The end of the connection says the same.
            _log.warning("%s", e)
        finally:
            self._api.drop_idle()
        _log.info("Left the mesh, because it was alone there")
        self._set_exit_status(ExitStatus.ALONE, "Left", "it was alone there")
        self._left.set()

    def _set_exit_status(self, status: ExitStatus, signal: str, *args: str) -> None:
        """Say that we are in the mesh no more, and why; only the first reason counts."""
        if self._exit_status is None:
            self._exit_status = status
            self._link.emit(signal, *args)

    def _show_progress(self, text: str) -> None:
        # A bot that is in its mesh looks up names, and says that it is connected.
        if self._room is None:
            self._link.tell(text)

    def _announce(self) -> None:
        """Say where we are, to a bus or a parent that has not heard of us yet."""
        self._link.emit("Ready")
        if self._room:
            self._link.emit("Connected")

    def _say_command_errors(self, errors: list[str]) -> None:
        self._link.emit("CommandErrors", errors)

    def _use_permissions(self, permissions: StaticPermissions) -> None:
        self._bot.permissions = permissions

    def _use_settings(self, settings: RoomSettings) -> None:
        self._bot.apply_settings(settings)
        self._player.schedule_step()
        if self._room:
            self._room.lang = settings.lang or self._settings.lang

    def _use_ignored(self, users: frozenset[int]) -> None:
        self._bot.ignored_users = users | set(self._settings.ignored_users)

    def _use_session(self, session: Session) -> None:
        """Use it from now on. A socket keeps its token for life, so only another identity needs another socket."""
        before, self._session = self._session, session
        if session == before:
            return
        self._api.set_session(session)
        _log.info("There is a new session")
        if session.peer_id != before.peer_id:
            self.reconnect()

    def _say_status(self) -> None:
        if self._room:
            users = count(len(self._room.users), "user")
            title = f" ({self._facts.title})" if self._facts.title else ""
            unshown = f"; {count(self._unshown, 'message')} had no echo" if self._unshown else ""
            self._link.tell(f"Connected to {self._facts.server}{title}, {users}{unshown}")

    async def _names(self, users: Sequence[int]) -> Mapping[int, str]:
        with self._requests.request():
            found = await self._api.users(users)
        return {user.id: user.display_name for user in found.values()}


def _elsewhere(refusal: RaveError) -> RaveError:
    """What a server most likely means that turns away an account that Rave counts among those in the mesh.

    It may also have missed the end of a connection of ours; that passes.
    """
    text = f"{refusal.message}; the same account is in the mesh already, it is probably connected elsewhere"
    return RaveError(Code.BUSY, text, hint="let it run in one place only")
