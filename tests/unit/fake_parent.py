"""The parent on a private bus, as far as its bots ask it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, Variant, allow_all, method
from ravesvc.common.video import Video
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.media.video_list import videos_text
from ravesvc.names import Announcement
from tests.unit.bus_fakes import connected


class FakeParent(Interface):
    """What it knows and how it fails is set by the test; `asked` is every question with its arguments.

    While `gates` has an event for a method, it waits for that between looking up the answer and giving it.
    """

    interface = names.BACKEND_INTERFACE

    def __init__(self, session: Session | None = None) -> None:
        super().__init__(allow_all)
        self.admin_users: set[int] = set()
        self.ignored_users: set[int] = set()
        self.overrides: dict[str, bool] = {}
        self.documents: dict[str, str] = {}
        # With their versions.
        self.shared: dict[str, tuple[str, str]] = {}
        self.histories: dict[str, list[str]] = {}
        self.chat_form = ""
        self.attempts = 0
        self.failing_usec = 0
        self.pause_usec = 0
        self.session = session
        self.entry_points: list[list[str]] = []
        self.tried_plugins: list[list[str]] = []
        self.failures: dict[str, RaveError] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.videos: list[Video] = []
        self.picture = b""
        self.asked: list[tuple[Any, ...]] = []
        self.waiting = 0
        self.bus: Bus

    def times(self, member: str) -> int:
        """How often a method was called."""
        return [asked[0] for asked in self.asked].count(member)

    async def announce(self, mesh: str, what: Announcement) -> None:
        """Tell a bot that something has changed; raises what it answers."""
        await self.bus.call(names.worker_name(mesh), names.worker_path(mesh), names.WORKER_INTERFACE, what)

    async def _answer(self, call: Call, *args: Any, value: Any = None) -> Any:
        self.asked.append((call.member, *args))
        failure = self.failures.get(call.member)
        if call.member in self.gates:
            self.waiting += 1
            await self.gates[call.member].wait()
        if failure:
            raise failure
        return value

    @method(returns={"users": "at"})
    async def get_admins(self, call: Call) -> Any:
        return await self._answer(call, value=sorted(self.admin_users))

    @method(returns={"permissions": "a{sb}"})
    async def get_permissions(self, call: Call) -> Any:
        return await self._answer(call, value=dict(self.overrides))

    @method(returns={"users": "at"})
    async def get_ignored_users(self, call: Call) -> Any:
        return await self._answer(call, value=sorted(self.ignored_users))

    @method(takes={"actor": "t", "user": "t"}, returns={"ignored": "b"})
    async def ignore_user(self, call: Call, actor: int, user: int) -> Any:
        ignored = await self._answer(call, actor, user, value=user not in self.ignored_users)
        self.ignored_users.add(user)
        return ignored

    @method(takes={"actor": "t", "user": "t"}, returns={"removed": "b"})
    async def unignore_user(self, call: Call, actor: int, user: int) -> Any:
        removed = await self._answer(call, actor, user, value=user in self.ignored_users)
        self.ignored_users.discard(user)
        return removed

    @method(returns={"failures": "u", "failing_usec": "t", "pause_usec": "t", "why": "s"})
    async def get_connect_advice(self, call: Call) -> Any:
        return await self._answer(call, value=(self.attempts, self.failing_usec, self.pause_usec, "api.test: pause"))

    @method(returns={"form": "s"})
    async def get_chat_form(self, call: Call) -> Any:
        return await self._answer(call, value=self.chat_form)

    @method(returns={"modules": "a(sss)"})
    async def get_entry_points(self, call: Call) -> Any:
        return await self._answer(call, value=list(self.entry_points))

    @method(returns={"files": "a(ss)"})
    async def get_tried_plugins(self, call: Call) -> Any:
        return await self._answer(call, value=list(self.tried_plugins))

    @method(returns={"credentials": "a{sv}"})
    async def get_credentials(self, call: Call) -> Any:
        session = self.session
        if session is None:
            await self._answer(call)
            raise RaveError(Code.LOGIN_NEEDED, "login needed", hint="run ravectl login")
        values = {
            "device_id": Variant("s", session.device_id),
            "ssaid": Variant("s", session.ssaid),
            "user_id": Variant("t", session.user_id),
            "auth_token": Variant("s", session.auth_token),
        }
        return await self._answer(call, value=values)

    @method(takes={"actor": "t", "user": "t"}, returns={"added": "b"})
    async def add_admin(self, call: Call, actor: int, user: int) -> Any:
        added = await self._answer(call, actor, user, value=user not in self.admin_users)
        self.admin_users.add(user)
        return added

    @method(takes={"actor": "t", "code": "s"}, returns={"added": "b"})
    async def claim_admin(self, call: Call, actor: int, code: str) -> Any:
        return await self._answer(call, actor, code, value=True)

    @method(takes={"actor": "t", "user": "t"}, returns={"removed": "b"})
    async def remove_admin(self, call: Call, actor: int, user: int) -> Any:
        removed = await self._answer(call, actor, user, value=user in self.admin_users)
        self.admin_users.discard(user)
        return removed

    @method(takes={"actor": "t", "command": "s", "requires_admin": "b", "description": "s"})
    async def set_permission(
        self, call: Call, actor: int, command: str, requires_admin: bool, description: str
    ) -> None:
        await self._answer(call, actor, command, requires_admin, description)
        self.overrides[command] = requires_admin

    @method(takes={"actor": "t", "command": "s"}, returns={"removed": "b"})
    async def remove_permission(self, call: Call, actor: int, command: str) -> Any:
        await self._answer(call, actor, command)
        return self.overrides.pop(command, None) is not None

    @method(takes={"actor": "t"}, returns={"admins": "u", "permissions": "u"})
    async def refresh(self, call: Call, actor: int) -> Any:
        return await self._answer(call, actor, value=(len(self.admin_users), len(self.overrides)))

    @method(takes={"actor": "t"}, returns={"seconds": "u"})
    async def relogin(self, call: Call, actor: int) -> Any:
        return await self._answer(call, actor, value=600)

    @method(takes={"actor": "t"})
    async def allow_leave(self, call: Call, actor: int) -> None:
        await self._answer(call, actor)

    @method(takes={"actor": "t", "words": "s"}, returns={"videos": "s"})
    async def search_videos(self, call: Call, actor: int, words: str) -> Any:
        return await self._answer(call, actor, words, value=videos_text(self.videos))

    @method(takes={"actor": "t", "link": "s"}, returns={"videos": "s"})
    async def look_up_video(self, call: Call, actor: int, link: str) -> Any:
        return await self._answer(call, actor, link, value=videos_text(self.videos[:1]))

    @method(takes={"actor": "t", "provider": "s", "id": "s"}, returns={"picture": "h"})
    async def fetch_picture(self, call: Call, actor: int, provider: str, video_id: str) -> Any:
        await self._answer(call, actor, provider, video_id)
        descriptor = os.memfd_create("picture", os.MFD_CLOEXEC)
        os.write(descriptor, self.picture)
        return descriptor

    @method(takes={"name": "s"}, returns={"found": "b", "text": "s"})
    async def read_document(self, call: Call, name: str) -> Any:
        text = self.documents.get(name)
        return await self._answer(call, name, value=(text is not None, text or ""))

    @method(takes={"name": "s", "text": "s"})
    async def write_document(self, call: Call, name: str, text: str) -> None:
        await self._answer(call, name, text)
        self.documents[name] = text

    @method(takes={"name": "s"}, returns={"text": "s", "version": "s"})
    async def read_shared(self, call: Call, name: str) -> Any:
        return await self._answer(call, name, value=self.shared.get(name, ("", "")))

    @method(takes={"name": "s", "text": "s", "version": "s"}, returns={"written": "b"})
    async def write_shared(self, call: Call, name: str, text: str, version: str) -> Any:
        _, former = self.shared.get(name, ("", ""))
        if former == version:
            self.shared[name] = text, f"{former}+"
        return await self._answer(call, name, text, version, value=former == version)

    @method(takes={"name": "s", "entry": "s"})
    async def append_history(self, call: Call, name: str, entry: str) -> None:
        await self._answer(call, name, entry)
        self.histories.setdefault(name, []).append(entry)

    @method(takes={"name": "s", "count": "u"}, returns={"entries": "as"})
    async def read_history(self, call: Call, name: str, count: int) -> Any:
        return await self._answer(call, name, count, value=self.histories.get(name, [])[-count:])

    @method(takes={"actor": "t"}, returns={"entries": "u"})
    async def forget_user(self, call: Call, actor: int) -> Any:
        return await self._answer(call, actor, value=3)

    @method()
    async def login_ended(self, call: Call) -> None:
        await self._answer(call)


@contextlib.asynccontextmanager
async def parent_on(address: str, fake: FakeParent | Interface) -> AsyncIterator[Bus]:
    """Put a parent on the bus, under its name; away again at the end."""
    async with connected(address) as (bus,):
        bus.export(names.BACKEND_PATH, fake)
        if isinstance(fake, FakeParent):
            fake.bus = bus
        await bus.request_name(names.BUS_NAME)
        yield bus
        bus.unexport(names.BACKEND_PATH)
