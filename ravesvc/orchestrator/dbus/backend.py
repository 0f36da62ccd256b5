"""What the children ask of the parent, on the bus: a desk that only they come to.

A caller counts as a child when its process belongs to the unit of a mesh. packaging/dbus has the contract as XML.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from ravesvc import names
from ravesvc.bot.plugins import EntryPoint
from ravesvc.bus import Call, Interface, Variant, handles_missing_action, method
from ravesvc.core.bot_requests import BotRequests
from ravesvc.core.video_requests import Videos
from ravesvc.errors import RaveError, with_incident
from ravesvc.media.video_list import videos_text
from ravesvc.orchestrator.worker_client import Workers


class BackendObject(Interface):
    """For verified children only. A change is answered when all children know of it."""

    interface = names.BACKEND_INTERFACE

    def __init__(
        self,
        workers: Workers,
        requests: BotRequests,
        videos: Videos[int],
        entry_points: Callable[[], Sequence[EntryPoint]],
        pause: Callable[[str], tuple[float, str]],
        chat_form: Callable[[str], str],
    ) -> None:
        """Serve what these know.

        Args:
            entry_points: those that are known.
            chat_form: in which form other bots have learned to send chat to servers such as that of a mesh.
            pause: for how many seconds the bot of a mesh is to leave Rave alone, and why.
        """

        @handles_missing_action
        async def verified(call: Call, _action: str | None) -> None:
            await workers.mesh_of(call.sender)

        super().__init__(verified)
        self._workers = workers
        self._videos = videos
        self._desk = requests
        self._entry_points = entry_points
        self._pause = pause
        self._chat_form = chat_form

    @method(returns={"users": "at"})
    async def get_admins(self, call: Call) -> list[int]:
        """The user ids of all admins. Errors: StoreUnavailable until the store is read."""
        return sorted(self._desk.admins())

    @method(returns={"permissions": "a{sb}"})
    async def get_permissions(self, call: Call) -> dict[str, bool]:
        """Whether a command is for admins only, by command, where that was changed. Errors: StoreUnavailable."""
        return self._desk.permissions()

    @method(returns={"failures": "u"})
    async def get_attempts(self, call: Call) -> int:
        """The failures of GetConnectAdvice alone: bots of version 0.1.0 ask for them."""
        failures, _ = self._desk.failures(await self._workers.mesh_of(call.sender))
        return failures

    @method(returns={"failures": "u", "failing_usec": "t", "pause_usec": "t", "why": "s"})
    async def get_connect_advice(self, call: Call) -> tuple[int, int, int, str]:
        """What a bot has to know before it tries to connect to its mesh.

        `failures` in a row, in its process or in earlier ones, the first of them `failing_usec` ago; and a pause that
        Rave asks for, with its reason.
        """
        mesh = await self._workers.mesh_of(call.sender)
        failures, failing_for = self._desk.failures(mesh)
        pause, why = self._pause(mesh)
        return failures, int(failing_for * 1_000_000), int(pause * 1_000_000), why

    @method(returns={"form": "s"})
    async def get_chat_form(self, call: Call) -> str:
        """The form in which other bots say that servers such as the caller's show chat; empty if none knows."""
        return self._chat_form(await self._workers.mesh_of(call.sender))

    @method(returns={"modules": "a(sss)"})
    async def get_entry_points(self, call: Call) -> list[list[str]]:
        """Name, module and version of what installed packages offer as commands."""
        return [[*each] for each in self._entry_points()]

    @method(returns={"credentials": "a{sv}"})
    async def get_credentials(self, call: Call) -> dict[str, Variant]:
        """What a child needs of the account. Errors: LoginNeeded, Config, StoreUnavailable."""
        session = self._desk.session()
        return {
            "device_id": Variant("s", session.device_id),
            "ssaid": Variant("s", session.ssaid),
            "user_id": Variant("t", session.user_id),
            "auth_token": Variant("s", session.auth_token),
        }

    @method(takes={"actor": "t", "user": "t"}, returns={"added": "b"})
    async def add_admin(self, call: Call, actor: int, user: int) -> bool:
        """Make somebody an admin. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.add_admin(mesh, actor, user)

    @method(takes={"actor": "t", "code": "s"}, returns={"added": "b"})
    async def claim_admin(self, call: Call, actor: int, code: str) -> bool:
        """Make the actor an admin by a code. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.claim_admin(mesh, actor, code)

    @method(takes={"actor": "t", "user": "t"}, returns={"removed": "b"})
    async def remove_admin(self, call: Call, actor: int, user: int) -> bool:
        """Take the right away. Errors: AccessDenied, InvalidArgument, LastAdmin, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.remove_admin(mesh, actor, user)

    @method(returns={"users": "at"})
    async def get_ignored_users(self, call: Call) -> list[int]:
        """The user ids of those whom no bot listens to. Errors: StoreUnavailable until the store is read."""
        return sorted(self._desk.ignored_users())

    @method(takes={"actor": "t", "user": "t"}, returns={"ignored": "b"})
    async def ignore_user(self, call: Call, actor: int, user: int) -> bool:
        """Have no bot listen to a user. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.ignore_user(mesh, actor, user)

    @method(takes={"actor": "t", "user": "t"}, returns={"removed": "b"})
    async def unignore_user(self, call: Call, actor: int, user: int) -> bool:
        """Have bots listen to a user again. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.unignore_user(mesh, actor, user)

    @method(takes={"actor": "t", "command": "s", "requires_admin": "b", "description": "s"})
    async def set_permission(
        self,
        call: Call,
        actor: int,
        command: str,
        requires_admin: bool,  # noqa: FBT001 - as it comes from the bus
        description: str,
    ) -> None:
        """Say whom a command is for. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._asking(call) as mesh:
            await self._desk.set_permission(mesh, actor, command, requires_admin, description)

    @method(takes={"actor": "t", "command": "s"}, returns={"removed": "b"})
    async def remove_permission(self, call: Call, actor: int, command: str) -> bool:
        """Reset a command to its default permission. Errors: AccessDenied, InvalidArgument, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.remove_permission(mesh, actor, command)

    @method(takes={"actor": "t"}, returns={"admins": "u", "permissions": "u"})
    async def refresh(self, call: Call, actor: int) -> tuple[int, int]:
        """Read everything again, everywhere. Errors: AccessDenied, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.refresh(mesh, actor)

    @method(takes={"actor": "t"}, returns={"seconds": "u"})
    async def relogin(self, call: Call, actor: int) -> int:
        """Begin to log in again; returns when the mail is sent, with the time to follow its link.

        Errors: AccessDenied, Busy, LoginNeeded, StoreUnavailable, Refused, Network.
        """
        async with self._asking(call) as mesh:
            return await self._desk.relogin(mesh, actor)

    @method(takes={"actor": "t"})
    async def allow_leave(self, call: Call, actor: int) -> None:
        """Return if the user may send the bot away from their mesh. Errors: AccessDenied, StoreUnavailable."""
        async with self._asking(call) as mesh:
            self._desk.allow_leave(mesh, actor)

    @method(takes={"actor": "t", "words": "s"}, returns={"videos": "s"})
    async def search_videos(self, call: Call, actor: int, words: str) -> str:
        """Videos that fit some words, as JSON. Errors: see the XML."""
        return videos_text(await self._videos.search(await self._workers.mesh_of(call.sender), actor, words))

    @method(takes={"actor": "t", "link": "s"}, returns={"videos": "s"})
    async def look_up_video(self, call: Call, actor: int, link: str) -> str:
        """The one video that a link leads to, as JSON. Errors: see the XML."""
        return videos_text([await self._videos.look_up(await self._workers.mesh_of(call.sender), actor, link)])

    @method(takes={"actor": "t", "provider": "s", "id": "s"}, returns={"picture": "h"})
    async def fetch_picture(self, call: Call, actor: int, provider: str, video_id: str) -> int:
        """The picture of a video. Errors: see the XML."""
        return await self._videos.picture(await self._workers.mesh_of(call.sender), actor, provider, video_id)

    @method(takes={"name": "s"}, returns={"found": "b", "text": "s"})
    async def read_document(self, call: Call, name: str) -> tuple[bool, str]:
        """A document of the caller's room. Errors: InvalidArgument, RateLimited, StoreUnavailable."""
        async with self._asking(call) as mesh:
            text = await self._desk.read_document(mesh, name)
            return text is not None, text or ""

    @method(takes={"name": "s", "text": "s"})
    async def write_document(self, call: Call, name: str, text: str) -> None:
        """Put JSON in the place of a document. Errors: InvalidArgument, RateLimited, StoreUnavailable."""
        async with self._asking(call) as mesh:
            await self._desk.write_document(mesh, name, text)

    @method(takes={"name": "s", "entry": "s"})
    async def append_history(self, call: Call, name: str, entry: str) -> None:
        """Add a JSON object to a history. Errors: InvalidArgument, RateLimited, StoreUnavailable."""
        async with self._asking(call) as mesh:
            await self._desk.append_history(mesh, name, entry)

    @method(takes={"name": "s", "count": "u"}, returns={"entries": "as"})
    async def read_history(self, call: Call, name: str, count: int) -> list[str]:
        """The latest entries of a history, oldest first. Errors: InvalidArgument, RateLimited, StoreUnavailable."""
        async with self._asking(call) as mesh:
            return await self._desk.read_history(mesh, name, count)

    @method(takes={"actor": "t"}, returns={"entries": "u"})
    async def forget_user(self, call: Call, actor: int) -> int:
        """Remove what is kept of the actor, whom Rave must list in the mesh.

        Errors: InvalidArgument, AccessDenied, Busy, RateLimited, Network, Refused, StoreUnavailable.
        """
        async with self._asking(call) as mesh:
            return await self._desk.forget_user(mesh, actor)

    @method()
    async def login_ended(self, call: Call) -> None:
        """Return when the login that is under way, or was the last one, has succeeded; else what made it fail."""
        async with self._asking(call) as mesh:
            await self._desk.login_ended(mesh)

    @contextlib.asynccontextmanager
    async def _asking(self, call: Call) -> AsyncIterator[str]:
        """The mesh whose child asks. An error on the bus is a sentence alone, so the id goes into that."""
        try:
            yield await self._workers.mesh_of(call.sender)
        except RaveError as e:
            incident = e.attributes.get("incident")
            if not incident:
                raise
            # The child takes it over for its answer and its own log.
            raise RaveError(e.code, with_incident(e.message, str(incident))) from e
