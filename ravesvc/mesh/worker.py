"""A worker: ties the connections to one mesh, the bot and the parent together, from the start to the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ravesvc.api.client import Api
from ravesvc.api.dial import Ports
from ravesvc.api.internet import Internet
from ravesvc.api.plugin_http import PluginHttp
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
from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.text import count
from ravesvc.config.worker_settings import STABLE_AFTER_S, Edition, MeshSettings, Session
from ravesvc.errors import RaveError
from ravesvc.mesh.connect_loop import NO_SESSION, ConnectLoop
from ravesvc.mesh.departure import Departure
from ravesvc.mesh.parent_link import Status
from ravesvc.mesh.parent_sync import ParentSync
from ravesvc.mesh.request_guard import RequestGuard
from ravesvc.names import Announcement, ExitStatus
from ravesvc.room.changes import Change
from ravesvc.room.chat import ChatMessage
from ravesvc.room.room import Room

if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import ParentLink, WorkerControl

_log = logging.getLogger(__name__)

# Between being let in and being told so.
_MAX_BUFFERED_CHAT = 32
# Users whose names `list_users` tells.
_MAX_LISTED_USERS = 200
# The first attempt to connect waits for session, admins and permissions no longer than this.
_PARENT_TIMEOUT_S = 5.0


class Worker:
    """Runs the bot in one mesh. Implements `RoomUser` for its connections and `WorkerControl` for its parent."""

    def __init__(
        self,
        mesh: str,
        settings: MeshSettings,
        edition: Edition,
        session: Session | None,
        link: Callable[[WorkerControl], ParentLink],
    ) -> None:
        """Prepare it.

        Args:
            mesh: its id.
            settings: of the start.
            edition: which program and which settings it runs.
            session: of the start, which may be older than the parent's; None if there was none.
            link: makes the link to the parent.
        """
        self.mesh = mesh
        self.edition = edition
        self._settings = settings
        self._facts = BotInfo(version=edition.version)
        self._buffered_chat: deque[ChatMessage] = deque(maxlen=_MAX_BUFFERED_CHAT)
        self._api = Api(
            servers=settings.servers,
            identity=settings.identity,
            session=session or NO_SESSION,
            tls=settings.tls,
            proxy=settings.proxy,
            progress=self._show_progress,
        )
        self._link = link(self)
        parent = self._link.parent
        ports = Ports(settings.connect_ports, self._link.advice.apply)
        host = settings.servers.api_host
        hosts = Internet(settings.tls, settings.proxy, host, ports)
        self._requests = RequestGuard(self._api, host, functools.partial(self._link.emit, "RateLimited"))
        self._departure = Departure(self._api, mesh, settings.leave_when_alone, self._link.emit)
        registry = Registry()
        self.settings: SettingsKeeper = SettingsKeeper(parent, self._use_settings, registry)
        builtin.register(registry)
        admin.register(registry, parent, self._departure.leave_on_order, lambda: self._plugins.unloaded)
        moderation.register(registry, parent)
        settings_commands.register(registry, self.settings)
        privacy.register(registry, parent)
        # After the built-in commands of the bot: it tells an author whose command has the name of one of these.
        self._plugins = PluginLoader(registry, self._link.commands, self._emit_command_errors, lambda: self._bot)
        rave = HttpRoomApi(
            self._api,
            mesh,
            settings.unconfirmed_calls,
            Uploads(hosts),
            asking=self._requests.request,
        )
        finder = VideoFinder(parent)
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
            http=PluginHttp(hosts),
            documents=parent,
            videos=finder,
            secrets=self._link.commands.secrets,
            ignored_users=settings.ignored_users,
            on_plugin_failure=self._plugins.report_failure,
        )
        self._player = Player(self._bot, rave, parent)
        self._bot.watch(self._player.on_change)
        video_commands.register(registry, self._player, parent, finder)
        self._connections = ConnectLoop(
            mesh=mesh,
            settings=settings,
            session=session,
            api=self._api,
            ports=ports,
            link=self._link,
            facts=self._facts,
            departure=self._departure,
            user=self,
            ask_for_session=lambda: self._sync.refresh(Announcement.CREDENTIALS),
            on_unshown=self._show_status,
        )
        self._sync = ParentSync(
            parent,
            announce=self._announce,
            permissions=self._use_permissions,
            ignored=self._use_ignored,
            session=self._connections.use_session,
            commands=self._plugins.read,
        )

    async def run(self, stopped: asyncio.Event) -> ExitStatus:
        """Run until `stopped` is set, or until the bot has left or gives up; returns why."""
        try:
            await self._link.join()
        except RaveError as e:
            # The bot works without the bus, and `keep` goes on trying.
            _log.warning("The bot could not join the message bus: %s", e)
        # The commands in files can be read before the parent answers. Which packages have commands only it knows.
        await self._plugins.read([])
        await self._link.notify_ready()
        tasks = [
            asyncio.create_task(self._connect()),
            asyncio.create_task(self._wait(self._departure.left, ExitStatus.LEFT)),
            asyncio.create_task(self._wait(stopped, ExitStatus.STOPPED)),
            asyncio.create_task(self._sync.keep()),
            asyncio.create_task(self._link.keep()),
            asyncio.create_task(self.settings.run()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            status = next(task for task in tasks if task.done()).result()
            assert status is not None, "only the first three tasks end"
        finally:
            self._link.notify_stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()
        # A kick while systemd stops the unit: the parent may have missed the signal, so the exit status has to say
        # it. With STOPPED the bot would be started again in a mesh that does not want it.
        return status if self._departure.exit_status is None else self._departure.exit_status

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
            # The failures before a stable connection are over.
            attempts=self._connections.failures if lasted < STABLE_AFTER_S else 0,
            last_error=self._connections.last_error,
            plugins=tuple(self._plugins.loaded),
            command_errors=tuple(self._plugins.errors),
            unshown=self._connections.chat_forms.unshown,
            chat_form=self._connections.chat_forms.learned(self._facts.server),
        )

    async def users(self) -> tuple[list[tuple[int, str]], int]:
        """See `WorkerControl`."""
        present = sorted(self._room.users) if self._room else []
        return await self._bot.names(present[:_MAX_LISTED_USERS]), len(present)

    def reconnect(self) -> None:
        """See `WorkerControl`."""
        self._connections.reconnect()

    async def refresh(self, what: Announcement) -> None:
        """See `WorkerControl`."""
        await self._sync.refresh(what)

    async def settle(self) -> None:
        """Return when all that the bot has begun has ended, or does nothing but wait."""
        await self._bot.settle()
        await self._player.settle()

    def forget_user(self, user: int) -> None:
        """See `WorkerControl`."""
        self._bot.forget_user(user)
        self._player.forget_user(user)

    def on_new_peer(self) -> None:
        """See `WorkerControl`."""
        self._sync.on_new_peer()

    async def _wait(self, event: asyncio.Event, status: ExitStatus) -> ExitStatus:
        await event.wait()
        return status

    async def _close(self) -> None:
        # While they can still say something.
        await self._plugins.close()
        await self._departure.close()
        await self._connections.close()
        await self._player.close()
        await self._bot.close()
        self._requests.close()
        await self._api.close()
        await self._link.leave()

    async def _connect(self) -> ExitStatus:
        """Connect as soon as the parent has answered, or has had its time."""
        self._link.show_status("Asking the orchestrator for session and permissions")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARENT_TIMEOUT_S):
                await self._sync.asked.wait()
        return await self._connections.run()

    @property
    def _room(self) -> Room | None:
        return self._connections.room

    @property
    def lang(self) -> str:
        """See `RoomUser`."""
        return self.settings.settings.lang or self._settings.lang

    def on_connecting(self) -> None:
        """See `RoomUser`."""
        self._buffered_chat.clear()

    def on_opened(self, room: Room) -> None:
        """See `RoomUser`."""
        self._facts.connected_since = time.monotonic()
        self._bot.attach(room)
        while self._buffered_chat:
            self._bot.on_chat(self._buffered_chat.popleft())
        self._departure.watch_company(room)
        self._link.emit("Connected")
        self._show_status()
        _log.info("Connected to %s", self._facts.server, extra=about(event=LogEvent.CONNECTED))

    def on_ended(self) -> None:
        """See `RoomUser`."""
        self._departure.watch_company(None)
        self._bot.detach()
        self._facts.connected_since = None
        self._facts.reconnects += 1

    def on_chat(self, message: ChatMessage) -> None:
        """See `RoomListener`."""
        if self._room:
            self._bot.on_chat(message)
        else:
            # The server sends chat before it has told us that we are in.
            self._buffered_chat.append(message)

    def on_joined(self, users: frozenset[int]) -> None:
        """See `RoomListener`."""
        self._departure.watch_company(self._room)
        self._bot.on_joined(users)
        self._show_status()

    def on_left(self, users: frozenset[int]) -> None:
        """See `RoomListener`."""
        self._departure.watch_company(self._room)
        self._bot.on_left(users)
        self._show_status()

    def on_change(self, change: Change) -> None:
        """See `RoomListener`."""
        self._bot.on_change(change)

    def on_kicked(self) -> None:
        """See `RoomListener`. Set first: the end of the connection follows, and must not pass for a mere loss."""
        self._departure.set_exit_status(ExitStatus.KICKED, "Kicked")
        self._bot.on_kicked()

    def _show_progress(self, text: str) -> None:
        # The steps of an attempt. In the room the API is asked for names, and the status has to stay "Connected to".
        if self._room is None:
            self._link.show_status(text)

    def _announce(self) -> None:
        """Tell a bus or a parent that is new to us that we are here, and whether we are connected."""
        self._link.emit("Ready")
        if self._room:
            self._link.emit("Connected")

    def _emit_command_errors(self, errors: list[str]) -> None:
        self._link.emit("CommandErrors", errors)

    def _use_permissions(self, permissions: StaticPermissions) -> None:
        self._bot.permissions = permissions

    def _use_settings(self, settings: RoomSettings) -> None:
        self._bot.apply_settings(settings)
        self._player.schedule_step()
        if self._room:
            self._room.lang = self.lang

    def _use_ignored(self, users: frozenset[int]) -> None:
        self._bot.ignored_users = users | set(self._settings.ignored_users)

    def _show_status(self) -> None:
        if self._room:
            users = count(len(self._room.users), "user")
            title = f" ({self._facts.title})" if self._facts.title else ""
            lost = self._connections.chat_forms.unshown
            unshown = f"; {count(lost, 'message')} had no echo" if lost else ""
            self._link.show_status(f"Connected to {self._facts.server}{title}, {users}{unshown}")

    async def _names(self, users: Sequence[int]) -> Mapping[int, str]:
        with self._requests.request():
            found = await self._api.users(users)
        return {user.id: user.display_name for user in found.values()}
