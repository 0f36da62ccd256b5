"""The link of a worker to a parent in the same process: requests and reports are method calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ravesvc.bot.backend import Counts, EntryPoint
from ravesvc.bot.command_names import Permission
from ravesvc.bot.plugins import Sources
from ravesvc.common.picture import Picture
from ravesvc.common.plugin_files import FileVersion
from ravesvc.common.video import Video
from ravesvc.config.advice import FOR_ONE_PROCESS
from ravesvc.config.worker_settings import Session
from ravesvc.core.bot_requests import BotRequests
from ravesvc.core.video_requests import Videos
from ravesvc.mesh.parent_link import ConnectAdvice

if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import WorkerControl


class LocalParent:
    """The parent as the bot of one mesh sees it. Implements `ravesvc.mesh.parent_link.ParentApi`."""

    def __init__(
        self,
        mesh: str,
        requests: BotRequests,
        videos: Videos[bytes],
    ) -> None:
        self._mesh = mesh
        self._requests = requests
        self._videos = videos

    async def admins(self) -> frozenset[int]:
        """See `ParentApi`."""
        return self._requests.admins()

    async def permissions(self) -> dict[str, Permission]:
        """See `ParentApi`."""
        return {
            command: Permission.ADMIN if admin else Permission.USER
            for command, admin in self._requests.permissions().items()
        }

    async def ignored_users(self) -> frozenset[int]:
        """See `ParentApi`."""
        return self._requests.ignored_users()

    async def connect_advice(self) -> ConnectAdvice:
        """See `ParentApi`."""
        failures, failing_for = self._requests.failures(self._mesh)
        pause, why = self._requests.pause(self._mesh)
        return ConnectAdvice(failures=failures, failing_for=failing_for, pause=pause, why=why)

    async def chat_form(self) -> str:
        """See `ParentApi`."""
        return self._requests.chat_form(self._mesh)

    async def entry_points(self) -> list[EntryPoint]:
        """See `ParentApi`."""
        return list(self._requests.entry_points)

    async def tried_plugins(self) -> list[FileVersion]:
        """See `ParentApi`."""
        return self._requests.tried_plugins(self._mesh)

    async def session(self) -> Session:
        """See `ParentApi`."""
        return self._requests.session()

    async def add_admin(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return await self._requests.add_admin(self._mesh, actor, user)

    async def claim_admin(self, actor: int, code: str) -> bool:
        """See `Backend`."""
        return await self._requests.claim_admin(self._mesh, actor, code)

    async def remove_admin(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return await self._requests.remove_admin(self._mesh, actor, user)

    async def ignore_user(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return await self._requests.ignore_user(self._mesh, actor, user)

    async def unignore_user(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return await self._requests.unignore_user(self._mesh, actor, user)

    async def set_permission(self, actor: int, command: str, permission: Permission, description: str) -> None:
        """See `Backend`."""
        await self._requests.set_permission(self._mesh, actor, command, permission is Permission.ADMIN, description)

    async def remove_permission(self, actor: int, command: str) -> bool:
        """See `Backend`."""
        return await self._requests.remove_permission(self._mesh, actor, command)

    async def refresh(self, actor: int) -> Counts:
        """See `Backend`."""
        return Counts(*await self._requests.refresh(self._mesh, actor))

    async def relogin(self, actor: int) -> int:
        """See `Backend`."""
        return await self._requests.relogin(self._mesh, actor)

    async def allow_leave(self, actor: int) -> None:
        """See `Backend`."""
        self._requests.allow_leave(self._mesh, actor)

    async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
        """See `Backend`."""
        return await self._videos.search(self._mesh, actor, words)

    async def look_up_video(self, actor: int, link: str) -> Video:
        """See `Backend`."""
        return await self._videos.look_up(self._mesh, actor, link)

    async def fetch_picture(self, actor: int, video: Video) -> Picture:
        """See `Backend`."""
        return Picture(await self._videos.picture(self._mesh, actor, *video.key))

    async def read_document(self, name: str) -> str | None:
        """See `Backend`."""
        return await self._requests.read_document(self._mesh, name)

    async def write_document(self, name: str, text: str) -> None:
        """See `Backend`."""
        await self._requests.write_document(self._mesh, name, text)

    async def read_shared(self, name: str) -> tuple[str, str]:
        """See `Backend`."""
        return await self._requests.read_shared(self._mesh, name)

    async def write_shared(self, name: str, text: str, version: str) -> bool:
        """See `Backend`."""
        return await self._requests.write_shared(self._mesh, name, text, version)

    async def append_history(self, name: str, entry: str) -> None:
        """See `Backend`."""
        await self._requests.append_history(self._mesh, name, entry)

    async def read_history(self, name: str, count: int) -> list[str]:
        """See `Backend`."""
        return await self._requests.read_history(self._mesh, name, count)

    async def forget_user(self, actor: int) -> int:
        """See `Backend`."""
        return await self._requests.forget_user(self._mesh, actor)

    async def login_ended(self) -> None:
        """See `Backend`."""
        await self._requests.login_ended(self._mesh)


class LocalLink:
    """Implements `ravesvc.mesh.parent_link.ParentLink`; `received(mesh, signal, arguments)` takes its signals."""

    advice = FOR_ONE_PROCESS

    def __init__(
        self,
        worker: WorkerControl,
        parent: LocalParent,
        commands: Sources,
        received: Callable[[str, str, Sequence[Any]], None],
    ) -> None:
        self.parent = parent
        self.commands = commands
        self._worker = worker
        self._received = received

    async def join(self) -> None:
        """See `ParentLink`."""
        self._worker.on_new_peer()

    async def keep(self) -> None:
        """See `ParentLink`. The parent does not go away."""
        await asyncio.Event().wait()

    async def leave(self) -> None:
        """See `ParentLink`."""

    async def notify_ready(self) -> None:
        """See `ParentLink`. There is no service manager that waits for it."""

    def emit(self, signal: str, *args: Any) -> None:
        """See `ParentLink`."""
        self._received(self._worker.mesh, signal, args)

    def show_status(self, status: str) -> None:
        """See `ParentLink`. The log says the same."""

    def notify_stopping(self) -> None:
        """See `ParentLink`."""
