"""What workers ask of the service, on the bus.

A caller counts as a worker when its process belongs to the unit of a mesh.
"""

from __future__ import annotations

from ravesvc import names
from ravesvc.bus import Call, Interface, Variant, handles_missing_action, method
from ravesvc.core.bot_requests import BotRequests
from ravesvc.core.video_requests import Videos
from ravesvc.media.video_list import videos_text
from ravesvc.orchestrator.worker_client import Workers


class BackendObject(Interface):
    """What the bots ask of the service, at /org/ravesvc/Rave1/backend of org.ravesvc.Rave1.

    For processes of rave-mesh@.service alone, which the service verifies by their unit: any other caller gets
    AccessDenied. An actor is the chat user for whom a bot speaks, 0 if it does not know. An actor who is no admin, or
    (but for AllowLeave) not in the caller's mesh, gets AccessDenied: the service asks Rave, and an error of that
    (Network, RateLimited and others) is the error of the change. When a change is answered it is safe on disk, and
    every bot that answers within two seconds knows of it.
    """

    interface = names.BACKEND_INTERFACE

    def __init__(
        self,
        workers: Workers,
        requests: BotRequests,
        videos: Videos[int],
    ) -> None:
        """Answer the bots that `workers` has verified."""

        @handles_missing_action
        async def verified(call: Call, _action: str | None) -> None:
            await workers.mesh_of(call.sender)

        super().__init__(verified)
        self._workers = workers
        self._videos = videos
        self._requests = requests

    @method(returns={"users": "at"})
    async def get_admins(self, call: Call) -> list[int]:
        """The user ids of all admins. Errors: StoreUnavailable until the store is read."""
        return sorted(self._requests.admins())

    @method(returns={"permissions": "a{sb}"})
    async def get_permissions(self, call: Call) -> dict[str, bool]:
        """Whether a command is for admins only, by command, where that was changed.

        Errors: StoreUnavailable until the store is read.
        """
        return self._requests.permissions()

    @method(returns={"failures": "u"})
    async def get_attempts(self, call: Call) -> int:
        """The failures of GetConnectAdvice alone: bots of version 0.1.0 ask for them."""
        failures, _ = self._requests.failures(await self._workers.mesh_of(call.sender))
        return failures

    @method(returns={"failures": "u", "failing_usec": "t", "pause_usec": "t", "why": "s"})
    async def get_connect_advice(self, call: Call) -> tuple[int, int, int, str]:
        """What a bot has to know before it tries to connect to its mesh.

        It is how many attempts in a row have failed, in its process or in earlier ones; how long ago the first of
        them did; for how long nothing is to be asked of Rave because it wants a pause (0: it does not); and the
        reason in words.
        """
        mesh = await self._workers.mesh_of(call.sender)
        failures, failing_for = self._requests.failures(mesh)
        pause, why = self._requests.pause(mesh)
        return failures, int(failing_for * 1_000_000), int(pause * 1_000_000), why

    @method(returns={"form": "s"})
    async def get_chat_form(self, call: Call) -> str:
        """The form in which servers such as the caller's show chat: request, notification, or empty."""
        return self._requests.chat_form(await self._workers.mesh_of(call.sender))

    @method(returns={"modules": "a(sss)"})
    async def get_entry_points(self, call: Call) -> list[list[str]]:
        """What installed packages offer as commands: name, module and version, by module."""
        return [[*each] for each in self._requests.entry_points]

    @method(returns={"files": "a(ss)"})
    async def get_tried_plugins(self, call: Call) -> list[list[str]]:
        """The new versions of plugins that the caller's room tries: name of the file, and digest of its content."""
        return [[*each] for each in self._requests.tried_plugins(await self._workers.mesh_of(call.sender))]

    @method(returns={"credentials": "a{sv}"})
    async def get_credentials(self, call: Call) -> dict[str, Variant]:
        """device_id (s), ssaid (s), user_id (t), auth_token (s).

        More keys may come.

        Errors: LoginNeeded, Config (nothing to sign requests with), StoreUnavailable (it may hold some).
        """
        session = self._requests.session()
        return {
            "device_id": Variant("s", session.device_id),
            "ssaid": Variant("s", session.ssaid),
            "user_id": Variant("t", session.user_id),
            "auth_token": Variant("s", session.auth_token),
        }

    @method(takes={"actor": "t", "user": "t"}, returns={"added": "b"})
    async def add_admin(self, call: Call, actor: int, user: int) -> bool:
        """Make a user an admin; false if they are one already. Errors: InvalidArgument, StoreUnavailable."""
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.add_admin(mesh, actor, user)

    @method(takes={"actor": "t", "code": "s"}, returns={"added": "b"})
    async def claim_admin(self, call: Call, actor: int, code: str) -> bool:
        """Make the actor, who is no admin yet, one by the code of IssueClaim; false if they are one already.

        The code is used up, and after five wrong ones it is void.

        Errors: AccessDenied (a wrong code, or none was issued), InvalidArgument, StoreUnavailable.
        """
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.claim_admin(mesh, actor, code)

    @method(takes={"actor": "t", "user": "t"}, returns={"removed": "b"})
    async def remove_admin(self, call: Call, actor: int, user: int) -> bool:
        """Take the right away; false if they have none. Errors: InvalidArgument, LastAdmin, StoreUnavailable."""
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.remove_admin(mesh, actor, user)

    @method(returns={"users": "at"})
    async def get_ignored_users(self, call: Call) -> list[int]:
        """The user ids of those whom no bot listens to. Errors: StoreUnavailable until the store is read."""
        return sorted(self._requests.ignored_users())

    @method(takes={"actor": "t", "user": "t"}, returns={"ignored": "b"})
    async def ignore_user(self, call: Call, actor: int, user: int) -> bool:
        """Have no bot listen to a user; false if none does.

        Errors: InvalidArgument (also for an admin), StoreUnavailable.
        """
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.ignore_user(mesh, actor, user)

    @method(takes={"actor": "t", "user": "t"}, returns={"removed": "b"})
    async def unignore_user(self, call: Call, actor: int, user: int) -> bool:
        """Have bots listen to a user again; false if they do. Errors: InvalidArgument, StoreUnavailable."""
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.unignore_user(mesh, actor, user)

    @method(takes={"actor": "t", "command": "s", "requires_admin": "b", "description": "s"})
    async def set_permission(
        self,
        call: Call,
        actor: int,
        command: str,
        requires_admin: bool,  # noqa: FBT001 - as it comes from the bus
        description: str,
    ) -> None:
        """Say whom a command is for; the description is for people who read the store.

        Errors: InvalidArgument (also for a command whose permission can't be changed), StoreUnavailable.
        """
        mesh = await self._workers.mesh_of(call.sender)
        await self._requests.set_permission(mesh, actor, command, requires_admin, description)

    @method(takes={"actor": "t", "command": "s"}, returns={"removed": "b"})
    async def remove_permission(self, call: Call, actor: int, command: str) -> bool:
        """Reset a command to its default permission; false if that is so already.

        Errors: InvalidArgument, StoreUnavailable.
        """
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.remove_permission(mesh, actor, command)

    @method(takes={"actor": "t"}, returns={"admins": "u", "permissions": "u"})
    async def refresh(self, call: Call, actor: int) -> tuple[int, int]:
        """As Refresh of Store. Errors: StoreUnavailable."""
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.refresh(mesh, actor)

    @method(takes={"actor": "t"}, returns={"seconds": "u"})
    async def relogin(self, call: Call, actor: int) -> int:
        """As Login of Account, with the account's own address."""
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.relogin(mesh, actor)

    @method(takes={"actor": "t"})
    async def allow_leave(self, call: Call, actor: int) -> None:
        """Return if the actor may have the bot leave its mesh for good.

        That is an admin, or every user if the command leave is open to all.

        Errors: StoreUnavailable until the store is read.
        """
        mesh = await self._workers.mesh_of(call.sender)
        self._requests.allow_leave(mesh, actor)

    @method(takes={"actor": "t", "words": "s"}, returns={"videos": "s"})
    async def search_videos(self, call: Call, actor: int, words: str) -> str:
        """Videos that fit some words, the best first, as JSON.

        It is an object whose key videos has a list of at most ten objects with provider, id, url, title, author,
        seconds (null if unknown), live, mature, thumbnail and views. There are limits for the actor, the room and the
        host.

        Errors: Config (no provider can search), RateLimited (a limit, or the provider's for the day),
        InvalidArgument, NotRunning (the helper is not there), Network, Timeout, Tls, ServerError, BadData.
        """
        return videos_text(await self._videos.search(await self._workers.mesh_of(call.sender), actor, words))

    @method(takes={"actor": "t", "link": "s"}, returns={"videos": "s"})
    async def look_up_video(self, call: Call, actor: int, link: str) -> str:
        """The video that a link leads to, as a list of one.

        Errors: as SearchVideos; InvalidArgument for a link that leads to no video, NotFound if it is gone, Forbidden
        if it may not be shown outside of the provider's page.
        """
        return videos_text([await self._videos.look_up(await self._workers.mesh_of(call.sender), actor, link)])

    @method(takes={"actor": "t", "provider": "s", "id": "s"}, returns={"picture": "h"})
    async def fetch_picture(self, call: Call, actor: int, provider: str, video_id: str) -> int:
        """The picture of a video, in a sealed file in memory of at most 2 MiB. Errors: as LookUpVideo."""
        return await self._videos.picture(await self._workers.mesh_of(call.sender), actor, provider, video_id)

    @method(takes={"name": "s"}, returns={"found": "b", "text": "s"})
    async def read_document(self, call: Call, name: str) -> tuple[bool, str]:
        """A document that the caller's room remembers: JSON, and whether there is one of that name.

        A name begins with a letter and has at most 32 letters in lower case, digits, - and _.

        Errors: InvalidArgument, RateLimited (four in a second in the long run), StoreUnavailable.
        """
        mesh = await self._workers.mesh_of(call.sender)
        text = await self._requests.read_document(mesh, name)
        return text is not None, text or ""

    @method(takes={"name": "s", "text": "s"})
    async def write_document(self, call: Call, name: str, text: str) -> None:
        """Put a JSON object or list in the place of a document of the caller's room.

        What users who want to be forgotten have in it may be left out.

        Errors: InvalidArgument (also when the room has no place for it), RateLimited (one in a second in the long
        run, with AppendHistory), StoreUnavailable.
        """
        mesh = await self._workers.mesh_of(call.sender)
        await self._requests.write_document(mesh, name, text)

    @method(takes={"name": "s"}, returns={"text": "s", "version": "s"})
    async def read_shared(self, call: Call, name: str) -> tuple[str, str]:
        """A document that all rooms share: JSON, and its version, both empty if there is none of that name.

        Errors: as ReadDocument.
        """
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.read_shared(mesh, name)

    @method(takes={"name": "s", "text": "s", "version": "s"}, returns={"written": "b"})
    async def write_shared(self, call: Call, name: str, text: str, version: str) -> bool:
        """Put a JSON object or list in the place of a version of a document that all rooms share.

        Nothing is written if it has another version by now: read it again.

        Errors: as WriteDocument.
        """
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.write_shared(mesh, name, text, version)

    @method(takes={"name": "s", "entry": "s"})
    async def append_history(self, call: Call, name: str, entry: str) -> None:
        """Add a JSON object to a history of the caller's room, whose oldest entries give way.

        Its field time is set to the seconds since the epoch.

        Errors: as WriteDocument.
        """
        mesh = await self._workers.mesh_of(call.sender)
        await self._requests.append_history(mesh, name, entry)

    @method(takes={"name": "s", "count": "u"}, returns={"entries": "as"})
    async def read_history(self, call: Call, name: str, count: int) -> list[str]:
        """The latest entries of a history, at most count, the oldest of them first. Errors: as ReadDocument."""
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.read_history(mesh, name, count)

    @method(takes={"actor": "t"}, returns={"entries": "u"})
    async def forget_user(self, call: Call, actor: int) -> int:
        """Remove what is kept of the actor, in all rooms, as ForgetUser of Store.

        Errors: InvalidArgument (also for an admin, and for who is ignored), AccessDenied (Rave does not list the
        actor in the mesh), Busy, RateLimited, Network, Refused, StoreUnavailable.
        """
        mesh = await self._workers.mesh_of(call.sender)
        return await self._requests.forget_user(mesh, actor)

    @method()
    async def login_ended(self, call: Call) -> None:
        """Return when the login that is under way, or was the last one, has succeeded.

        Errors: what made it fail; NotRunning if there was none.
        """
        mesh = await self._workers.mesh_of(call.sender)
        await self._requests.login_ended(mesh)
