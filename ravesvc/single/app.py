"""The parent's parts without systemd and D-Bus, wired together around the rooms of this process."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from pathlib import Path

from ravesvc.api.models import Listing
from ravesvc.blocklist.blocklist import Blocklist, log_change
from ravesvc.blocklist.model import BlocklistChange, Reason, What
from ravesvc.bot.plugins import EntryPoint, Sources
from ravesvc.common.atomic_files import access_hint
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.steady_clock import Clock
from ravesvc.common.text import count
from ravesvc.config.media_settings import read_key
from ravesvc.config.options import Config
from ravesvc.core import command_packages, validation
from ravesvc.core.account import Account
from ravesvc.core.admin_claims import Claims
from ravesvc.core.bot_requests import BotRequests
from ravesvc.core.chat_limits import ChatRules
from ravesvc.core.host_record import HostRecord, this_host
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import usual_chat_form
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.rave_client import RaveClient
from ravesvc.core.reconciler import Fleet
from ravesvc.core.room_memory import RoomMemory
from ravesvc.core.scope_file import ScopeFile
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.video_requests import Videos
from ravesvc.errors import Code, RaveError
from ravesvc.media.library import Library, open_library
from ravesvc.names import Announcement
from ravesvc.single.host import RoomParent
from ravesvc.single.task_runner import TaskRunner
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change_log import ChangeRecord
from ravesvc.store.factory import make_store
from ravesvc.store.permissions_cache import PermissionsCache

log = logging.getLogger(__name__)

# Beside the embedded store, whichever store is in use.
_COPY = "permissions.json"
_CHANGES = "changes.json"
_SCOPE = "discovery.json"
_LOCK = "single.lock"
_VIDEOS = "videos.db"

# How long the end waits until what the last bots have taught is saved.
_SAVE_GRACE_S = 5.0


class App:
    """Lives once, from `open` to `close`, in one event loop.

    Raises `RaveError` (Config) for a database that can't be one.
    """

    def __init__(self, settings: Config, commands: Sources) -> None:
        self._settings = settings
        self._blocks = Blocklist(
            settings.blocklist_persist_path,
            settings.blocklist_duration,
            Clock(),
            announce=self._block_changed,
            changed=lambda: None,
            advice=settings.advice,
        )
        self._starts = StartPolicy(settings.servers.api_host, settings.starts_per_minute)
        self._access = RaveClient(settings, self._starts.pauses, changed=self._log_progress)
        store = make_store(
            settings.database,
            settings.state_path,
            lambda answers: self._state.reachable(answers),
            settings.advice.restart,
        )
        self._state = CachedStore(
            store,
            self._tell,
            lambda: None,
            copy=PermissionsCache(settings.state_path.with_name(_COPY)),
            record=ChangeRecord(settings.state_path.with_name(_CHANGES)),
        )
        # Beside a service of the same machine it must not run either.
        self._hosts = HostRecord(store, this_host("-single"), lambda: self._host_lost.set(), advice=settings.advice)
        self._host_lost = asyncio.Event()
        self._account = Account(settings, self._state, self._account_changed, ended=self._login_ended)
        self._discovery = Discovery(self._meshes, settings.discovery_interval, self._round_ended)
        self._discovery.hold(RaveError(Code.NOT_RUNNING, "it is still starting"))
        self._entry_points: list[EntryPoint] = []
        self._claims = Claims(settings.advice.claim)
        rules = ChatRules(
            admins_by_chat=settings.admins_by_chat,
            hourly_changes_per_mesh=settings.hourly_changes_per_mesh,
            hourly_changes=settings.hourly_changes,
        )
        presence = PresenceCheck(self._access.users)
        self._memory = RoomMemory(
            self._state,
            settings.history_retention,
            in_use=lambda: self._fleet.in_use(),
            tell_forget=lambda user: self._fleet.forget_user(user),
            presence=presence,
        )
        desk = BotRequests(
            self._blocks, self._state, self._account, self._claims, self._memory, presence, rules, self._refresh
        )
        self._user: int | None = None
        self._scope = ScopeFile(settings.state_path.with_name(_SCOPE))
        self._runner = TaskRunner(
            settings,
            parent=lambda mesh: RoomParent(
                mesh, desk, self._videos, lambda: self._entry_points, self._fleet.pause, self._chat_form
            ),
            session=lambda: self._account.session,
            commands=commands,
        )
        self._fleet = Fleet(
            runner=self._runner,
            census=self._discovery.census,
            blocks=self._blocks,
            limit=settings.max_processes,
            per_user=settings.max_meshes_per_user,
            trusted=lambda: self._state.admins | {self._user or 0},
            interval=settings.status_poll_interval,
            changed=lambda record: None,
            leave=self._leave,
            answers=self._answers,
            own_user=lambda: self._user or 0,
            starts=self._starts,
            advice=settings.advice,
        )
        self.records = self._fleet.records
        self._refused = False
        self._empty = False
        self._ready = self._closing = False
        self._lock: int | None = None
        self._library: Library | None = None
        self._videos: Videos[bytes]

    async def open(self) -> None:
        """Take the files, and read store and account. Raises `RaveError`: Busy, BadFile."""
        self._lock = _take(self._settings)
        await self._state.start()
        await self._account.adopt()

    async def log_in(self, email: str) -> None:
        """Get the account by a link in a mail; raises as `Account` does."""
        seconds = await self._account.login(email)
        log.info("A mail is on its way: follow the link in it within %s", count(round(seconds / 60), "minute"))
        await self._account.login_ended()

    async def add_admin(self, user: int) -> bool:
        """Make somebody an admin; False if they are one already. Raises InvalidArgument, StoreUnavailable."""
        # Nobody else has added the first one.
        return await self._state.add_admin(validation.user_id(user), added_by=user)

    def first_claim(self) -> str:
        """A code for the first admin, see `Claims`; empty if there is an admin, or the store can't be used."""
        return self._claims.issue() if not self._state.error and not self._state.admins else ""

    async def start(self) -> None:
        """Begin to look for meshes. Raises `RaveError` for what only a person can mend: Config, LoginNeeded, BadFile.

        Raises Busy when another program has the account. A store that can't be reached is none of that: it is tried
        again.
        """
        if not self._state.error:
            await self._hosts.look()
            self._insist_on_host()
            self._host_lost.clear()
        await self._blocks.start()
        if self._blocks.error:
            raise self._blocks.error
        obstacle = self._account.obstacle
        if obstacle and obstacle.code is Code.CONFIG:
            raise self._account.lacking()
        if obstacle and obstacle.code is Code.LOGIN_NEEDED:
            if self._account.identity_missing:
                hint = f"set that in {self._settings.file}, then {self._way_in()}"
                raise RaveError(Code.LOGIN_NEEDED, obstacle.message, hint=hint)
            raise RaveError(Code.LOGIN_NEEDED, f"there is no account: {obstacle.hint}", hint=self._way_in())
        self._entry_points = await asyncio.to_thread(command_packages.find)
        self._library = _open_library(self._settings)
        self._videos = Videos(self._library, self._settings.videos)
        self._discovery.census.enter(self._scope.load())
        await self._fleet.start()
        self._ready = True
        self._account_changed()

    async def work(self, stopped: asyncio.Event) -> None:
        """Look for meshes and save what is learnt of them until `stopped` is set; then have all bots leave."""
        waits = (
            stopped.wait(),
            self._discovery.run(),
            self._fleet.health.run(),
            self._blocks.work(),
            self._state.work(),
            self._hosts.run(),
            self._memory.run(),
            self._until_lost(),
        )
        tasks = [asyncio.create_task(wait) for wait in waits]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._closing = True
            self._fleet.stop_planning()
            await self._runner.stop_all()
            await self._fleet.close(grace_s=_SAVE_GRACE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not self._state.error:
                await self._hosts.release()

    async def _until_lost(self) -> None:
        """Wait until another program has the account; raises Busy then."""
        while True:
            await self._host_lost.wait()
            self._host_lost.clear()
            self._insist_on_host()

    def _insist_on_host(self) -> None:
        if self._hosts.obstacle:
            raise self._hosts.obstacle

    async def close(self) -> None:
        """Save what is not saved yet, and let go of the files."""
        await self._account.close()
        await self._access.close()
        if self._library:
            self._library.close()
        await self._blocks.close()
        await self._state.close()
        if self._lock is not None:
            os.close(self._lock)

    async def _meshes(self) -> Listing:
        """A round of discovery; what somebody has done to the blocklist by hand counts from the next one on."""
        await self._blocks.reload()
        await self._scope.keep(self._discovery.census.scope)
        return await self._access.meshes(self._fleet.enough)

    async def _answers(self) -> bool:
        if self._closing or self._account.obstacle or self._discovery.error:
            return False
        return await self._discovery.check()

    async def _leave(self, mesh: str) -> None:
        """Leave a mesh on Rave's side, and see that lists know it: whatever has it afterwards is a new invitation."""
        await self._access.leave(mesh)
        self._discovery.ask()

    async def _tell(self, announcement: Announcement) -> None:
        """Something in the store has changed: let everybody know, first of all ourselves."""
        if announcement is Announcement.CREDENTIALS:
            await self._account.adopt()
        await self._runner.broadcast(announcement)

    def _chat_form(self, mesh: str) -> str:
        """The form in which other bots have learned to send chat to servers such as that of a mesh."""
        return usual_chat_form(mesh, self._fleet.records)

    async def _refresh(self) -> None:
        """Read everything again, and let everybody ask again, whether anything differs or not."""
        # Own commands need no store.
        self._entry_points = await asyncio.to_thread(command_packages.find)
        await self._tell(Announcement.COMMANDS)
        await self._state.refresh()
        for announcement in Announcement:
            if announcement is not Announcement.COMMANDS:
                await self._tell(announcement)

    def _log_progress(self) -> None:
        """Say what the start waits for; a round that fails is logged as such."""
        if self._access.progress and not (self._discovery.last_good or self._discovery.error):
            log.info("%s", self._access.progress)

    def _account_changed(self) -> None:
        """There is another session, or none; or all is ready for the first one."""
        session, obstacle = self._account.session, self._account.obstacle
        self._access.use(session)
        if not self._ready:
            return
        if session is None:
            assert obstacle, "else there is a session"
            log.error("No mesh is joined: %s", obstacle, extra=about(event=LogEvent.NOTHING_STARTS))
            self._discovery.hold(obstacle)
            if self._user is not None and self._state.loaded and not self._state.has_account:
                # It was taken out of the store; one that Rave refuses, or that can't be read, stays in its meshes.
                log.warning("There is no account any more: its meshes are stopped")
                self._user = None
                self._discovery.census.forget_for_good()
                self._fleet.reconcile()
            return
        if self._discovery.census.enter(self._access.scope):
            log.warning("From now on it is %s: what is listed takes the place of the former ones", self._access.scope)
        self._user = session.user_id
        self._starts.outages.clear()
        self._discovery.session_changed()
        self._discovery.release()

    def _login_ended(self, error: RaveError | None) -> None:
        if error is None and self._ready:
            # Also for the same session, which Rave may have refused until now.
            self._starts.outages.clear()
            self._discovery.session_changed()

    def _round_ended(self) -> None:
        refused, self._refused = self._refused, self._discovery.login_needed
        if self._refused and not refused:
            log.error("Rave refuses the session: %s", self._way_in())
        if self._discovery.listed:
            self._fleet.reconcile()
            self._say_empty()

    def _say_empty(self) -> None:
        """Say once that there is no room to be in: without an invitation all else looks well."""
        was_empty, self._empty = self._empty, not self._discovery.census.meshes
        if self._empty and not was_empty:
            log.info(
                "Rave lists no mesh for this account (mesh_mode: %s): invite it to one", self._settings.mesh_mode
            )

    def _block_changed(self, change: BlocklistChange) -> None:
        """An entry came, or went; it is on disk."""
        log_change(change)
        if change.what is What.BLOCKED and change.block.reason is Reason.LEFT:
            # As in `_leave`; here the bot has left by itself.
            self._discovery.ask()
        self._fleet.block_changed(change)

    def _way_in(self) -> str:
        path = self._settings.credentials_path
        return f"{self._settings.advice.login}, or lay a credentials.json there: {path}"


def _take(settings: Config) -> int:
    """Make the directories of the state, and keep others like us out of them; returns the lock.

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
