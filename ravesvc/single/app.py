"""The application of single-process mode: connects the service's core with bots that run as tasks."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ravesvc import names
from ravesvc.blocklist.blocklist import await_saved
from ravesvc.bot.plugins import Sources
from ravesvc.common.atomic_files import access_hint
from ravesvc.common.text import count
from ravesvc.config.media_settings import read_key
from ravesvc.config.options import Config
from ravesvc.core import validation
from ravesvc.core.account import Account
from ravesvc.core.health import Stats, stats
from ravesvc.core.host_record import this_host
from ravesvc.core.service import BotService
from ravesvc.core.video_requests import Videos
from ravesvc.core.worker_status import SettingInfo
from ravesvc.errors import Code, RaveError
from ravesvc.media.library import Library, open_library
from ravesvc.single.local_link import LocalParent
from ravesvc.single.task_runner import TaskRunner
from ravesvc.systemd.logging import show_titles

log = logging.getLogger(__name__)

# Who has stopped, started or unblocked a mesh, as log and blocklist name it.
_ACTOR = "this program"

_LOCK = "single.lock"
_VIDEOS = "videos.db"

# How long the end waits until blocks that follow from the exits of the last bots are saved.
_SAVE_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class RoomHealth:
    """How a room is.

    Attributes:
        state: in a word, as `MeshState.state`.
        healthy: whether its bot runs and answers; one that is not connected tries to be.
        reason: why it is not connected, in words; empty when it is.
    """

    state: str
    healthy: bool
    reason: str


class App:
    """Lives once, from `open` to `close`, in one event loop.

    Raises `RaveError` (Config) for a database that can't be one.
    """

    def __init__(self, settings: Config, commands: Sources) -> None:
        self._settings = settings
        self._runner = TaskRunner(
            settings, parent=self._parent, session=lambda: self._service.account.session, commands=commands
        )
        # The name differs from that of a service on the same machine, since both must not run with one account.
        service = self._service = BotService(
            settings, self._runner, this_host("-single"), commands.directory, self._read_edits
        )
        show_titles(service.reconciler.title)
        service.changed.connect(self._changed)
        service.round_ended.connect(self._round_ended)
        self.records = service.reconciler.records
        self._progress = ""
        self._refused = False
        self._empty = False
        self._lost = asyncio.Event()
        self._lock: int | None = None
        self._library: Library | None = None
        self._videos: Videos[bytes]

    async def open(self) -> None:
        """Lock the state directory, and read store and account. Raises `RaveError`: Busy, BadFile."""
        self._lock = _take(self._settings)
        await self._service.open()

    async def log_in(self, email: str) -> None:
        """Log in by a link in a mail; returns when the link was followed. Raises as `Account.login` does."""
        account = self._service.account
        seconds = await account.login(email)
        log.info("A mail is on its way: follow the link in it within %s", count(round(seconds / 60), "minute"))
        await account.login_ended()

    async def add_admin(self, user: int) -> bool:
        """Make a user an admin; False if they are one already. Raises InvalidArgument, StoreUnavailable."""
        # The first admin has no other who adds them, so they count as added by themselves.
        return await self._service.state.add_admin(validation.user_id(user), added_by=user)

    def first_claim(self) -> str:
        """A code for the first admin, see `Claims`; empty if there is an admin, or the store can't be used."""
        state = self._service.state
        return self._service.claims.issue() if not state.error and not state.admins else ""

    async def start_room(self, mesh: str) -> None:
        """See `BotManager.start_room`."""
        await self._service.reconciler.start_mesh(names.mesh_id(mesh), _ACTOR)

    async def stop_room(self, mesh: str) -> None:
        """See `BotManager.stop_room`."""
        await self._service.reconciler.stop_mesh(names.mesh_id(mesh), _ACTOR)
        await self._runner.ended(mesh)

    async def unblock(self, mesh: str) -> bool:
        """See `BotManager.unblock`."""
        blocklist = self._service.blocklist
        blocked = blocklist.get(names.mesh_id(mesh)) is not None
        await await_saved(mesh, blocklist.remove(mesh, _ACTOR))
        return blocked

    async def refresh(self) -> None:
        """See `BotManager.refresh`."""
        await self._service.refresh()

    async def settings(self, mesh: str) -> list[SettingInfo]:
        """See `BotManager.room_settings`."""
        return (await self._service.reconciler.settings(names.mesh_id(mesh)))[0]

    async def change_setting(self, mesh: str, name: str, value: str) -> SettingInfo:
        """See `BotManager.change_room_setting`."""
        return await self._service.reconciler.change_setting(names.mesh_id(mesh), name, value, _ACTOR)

    async def settle(self, mesh: str) -> None:
        """See `BotManager.settle`."""
        await self._runner.settle(names.mesh_id(mesh))

    def health(self, mesh: str) -> RoomHealth:
        """See `BotManager.health`."""
        record = self._service.reconciler.find(names.mesh_id(mesh))
        if record is None:
            raise RaveError(Code.NO_SUCH_MESH, f"there is no mesh {mesh}", hint="rooms has all", mesh=mesh)
        return RoomHealth(record.state, bool(stats([record.state]).healthy), record.reason)

    def health_stats(self) -> Stats:
        """See `BotManager.health_stats`."""
        return stats(self._service.reconciler.states)

    async def start(self) -> None:
        """Begin discovery. Raises `RaveError`: Config, LoginNeeded, BadFile, which an operator has to fix.

        Raises Busy when another program uses the account. A store that can't be reached raises nothing: it is tried
        again.
        """
        service = self._service
        await service.look_for_other_host()
        self._raise_if_elsewhere()
        await service.blocklist.start()
        if service.blocklist.error:
            raise service.blocklist.error
        self._raise_if_no_account(service.account)
        self._library = _open_library(self._settings)
        self._videos = Videos(self._library, self._settings.videos)
        await service.start()

    async def work(self, stopped: asyncio.Event) -> None:
        """Run all loops until `stopped` is set or another host has taken the account; then have all bots leave.

        The order of the end: first no new bot is started, then all bots leave, then what follows from their exits is
        saved, and only then is the account released. In another order, a kick at the last moment could be lost, or
        another host could begin while bots of this one are still in their rooms.
        """
        waits = (stopped.wait(), self._lost.wait(), *self._service.loops())
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            self._raise_if_elsewhere()
        finally:
            self._service.begin_closing()
            await self._runner.stop_all()
            await self._service.reconciler.close(grace_s=_SAVE_GRACE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not self._service.state.error:
                await self._service.hosts.release()

    async def close(self) -> None:
        """Save what is not saved yet, close all files, and release the lock."""
        if self._library:
            self._library.close()
        await self._service.close()
        if self._lock is not None:
            os.close(self._lock)

    def _parent(self, mesh: str) -> LocalParent:
        """The parent that the bot of a mesh asks."""
        return LocalParent(mesh, self._service.requests, self._videos)

    def _raise_if_elsewhere(self) -> None:
        if self._service.hosts.obstacle:
            raise self._service.hosts.obstacle

    def _raise_if_no_account(self, account: Account) -> None:
        obstacle = account.obstacle
        if obstacle and obstacle.code is Code.CONFIG:
            raise account.lacking()
        if obstacle and obstacle.code is Code.LOGIN_NEEDED:
            if account.identity_missing:
                hint = f"set that in {self._settings.file}, then {self._way_in()}"
                raise RaveError(Code.LOGIN_NEEDED, obstacle.message, hint=hint)
            raise RaveError(Code.LOGIN_NEEDED, f"there is no account: {obstacle.hint}", hint=self._way_in())

    async def _read_edits(self) -> None:
        """Load an operator's edits of the blocklist, before each round of discovery."""
        await self._service.blocklist.reload()

    def _changed(self, _: None) -> None:
        """Log once what the first round of discovery waits for; a round that fails is logged elsewhere."""
        service = self._service
        if service.hosts.obstacle:
            self._lost.set()
        progress, self._progress = self._progress, service.rave.progress
        waiting = not (service.discovery.last_good or service.discovery.error)
        if waiting and self._progress not in ("", progress):
            log.info("%s", self._progress)

    def _round_ended(self, _: None) -> None:
        discovery = self._service.discovery
        refused, self._refused = self._refused, discovery.login_needed
        if self._refused and not refused:
            log.error("Rave refuses the session: %s", self._way_in())
        if discovery.listed:
            self._say_empty()

    def _say_empty(self) -> None:
        """Log once that there is no mesh to join, which looks like a fault although only an invitation lacks."""
        was_empty, self._empty = self._empty, not self._service.discovery.inventory.meshes
        if self._empty and not was_empty:
            log.info(
                "Rave lists no mesh for this account (mesh_mode: %s): invite it to one", self._settings.mesh_mode
            )

    def _way_in(self) -> str:
        path = self._settings.credentials_path
        return f"{self._settings.advice.login}, or put a credentials.json there: {path}"


def _take(settings: Config) -> int:
    """Make the directories of the state, and lock them against other processes; returns the lock's descriptor.

    Raises `RaveError`: BadFile, Busy.
    """
    lock = settings.state_path.with_name(_LOCK)
    try:
        for path in settings.state_path, settings.blocklist_persist_path, settings.credentials_path:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        failed = Path(e.filename)
        place = failed.parent if failed == lock else failed
        hint = access_hint(place, "let rave.yaml name places where you may write")
        raise RaveError(Code.BAD_FILE, f"{e.filename} can't be written: {e.strerror}", hint=hint) from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(descriptor)
        text = f"another process runs with the files in {lock.parent}"
        raise RaveError(Code.BUSY, text, hint="end it, or let rave.yaml name others") from e
    return descriptor


def _open_library(settings: Config) -> Library:
    """The videos, with the provider's key if there is one that can be used."""
    try:
        key = read_key(settings.videos.youtube_key_path)
    except RaveError as e:
        log.warning("Videos can't be searched: %s", e)
        key = ""
    return open_library(settings.media_settings(), key, settings.state_path.with_name(_VIDEOS))
