"""A store in memory, which fails when told to."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ravesvc.errors import Code, RaveError
from ravesvc.store.chat_change_log import ChangeRecord, NotRecordedError
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, Host, IgnoredUser
from ravesvc.store.room_document import DocumentKind, DocumentSize, RoomDocument, size

WHEN = datetime(2024, 1, 8, 10, tzinfo=UTC)
DOWN = RaveError(Code.STORE, "the server does not answer", hint="start it")
DAMAGED = RaveError(Code.BAD_FILE, "state.db is damaged", hint="restore a backup")


def credentials(email: str = "bot@example.test", **known: object) -> Credentials:
    """Made-up credentials; those of one address are always the same."""
    name = email.partition("@")[0].lower()
    made = Credentials(
        email=email,
        device_id=f"device-of-{name}",
        ssaid=f"ssaid-of-{name}",
        parse_id="AbCdEf1234",
        parse_token=f"parse-token-of-{name}",
        auth_token=f"auth-token-of-{name}",
        user_id=900000001,
    )
    return dataclasses.replace(made, **known)  # type: ignore[arg-type]


def admin(user: int) -> Admin:
    return Admin(user_id=user, added_by=0, added_at=WHEN)


def permission(command: str, *, requires_admin: bool = True) -> CommandPermission:
    return CommandPermission(
        command=command, requires_admin=requires_admin, description="", updated_at=WHEN, updated_by=0
    )


class FakeStore:
    """A `Store`. What has been written stays over `close` and `open`.

    Attributes:
        contents, documents: what it holds; a test may put something else there, as another program would.
        failure: what every call fails with as long as it is set.
        unanswered: what the next change fails with although it is carried out.
        gate: every call waits for it; set at first.
        calls: the names of the calls so far, in order.
        waiting_calls: how many calls wait for `gate` now.
    """

    engine = "embedded"

    def __init__(self, contents: Contents | None = None) -> None:
        self.contents = contents or Contents()
        self.documents: dict[tuple[str, DocumentKind, str], RoomDocument] = {}
        self.failure: Exception | None = None
        self.unanswered: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[str] = []
        self.waiting_calls = 0
        self.is_open = False
        self.holder: Host | None = None

    async def open(self) -> None:
        assert not self.is_open, "opened twice"
        await self._call("open")
        self.is_open = True

    async def close(self) -> None:
        self.calls.append("close")
        self.is_open = False

    async def read(self) -> Contents:
        assert self.is_open
        await self._call("read")
        return self.contents

    async def replace(self, contents: Contents) -> None:
        await self._write("replace", contents)

    async def save_credentials(self, credentials: Credentials) -> None:
        contents = dataclasses.replace(self.contents, credentials=credentials, unusable="")
        await self._write("save_credentials", contents)

    async def remove_credentials(self) -> bool:
        there = bool(self.contents.credentials or self.contents.unusable)
        await self._write("remove_credentials", dataclasses.replace(self.contents, credentials=None, unusable=""))
        return there

    async def add_admin(self, admin: Admin) -> bool:
        active = {each.user_id for each in self.contents.admins if each.active}
        others = tuple(each for each in self.contents.admins if each.user_id != admin.user_id)
        owners = {each.user_id for each in self.contents.admins if each.owner}
        changed = admin.user_id not in (owners if admin.owner else active)
        admins = (*others, admin) if changed else self.contents.admins
        await self._write("add_admin", dataclasses.replace(self.contents, admins=admins))
        return changed

    async def remove_admin(self, user_id: int) -> bool:
        active = {each.user_id for each in self.contents.admins if each.active}
        if active == {user_id}:
            raise RaveError(Code.LAST_ADMIN, "the last admin can't be removed")
        admins = tuple(
            dataclasses.replace(each, active=False) if each.user_id == user_id else each
            for each in self.contents.admins
        )
        await self._write("remove_admin", dataclasses.replace(self.contents, admins=admins))
        return user_id in active

    async def set_permission(self, permission: CommandPermission) -> None:
        others = self._permissions_but(permission.command)
        await self._write("set_permission", dataclasses.replace(self.contents, permissions=(*others, permission)))

    async def remove_permission(self, command: str) -> bool:
        others = self._permissions_but(command)
        changed = len(others) < len(self.contents.permissions)
        await self._write("remove_permission", dataclasses.replace(self.contents, permissions=others))
        return changed

    async def register_host(self, host: Host) -> Host:
        await self._call("hold")
        self.holder = self.holder or host
        return self.holder

    async def take_over(self, host: Host) -> None:
        await self._call("take_over")
        self.holder = host

    async def release(self, host: Host) -> None:
        await self._call("release")
        if self.holder and self.holder.id == host.id:
            self.holder = None

    def _permissions_but(self, command: str) -> tuple[CommandPermission, ...]:
        return tuple(each for each in self.contents.permissions if each.command != command)

    async def ignore_user(self, ignored: IgnoredUser) -> bool:
        changed = ignored.user_id not in {each.user_id for each in self.contents.ignored}
        entries = (*self.contents.ignored, ignored) if changed else self.contents.ignored
        await self._write("ignore_user", dataclasses.replace(self.contents, ignored=entries))
        return changed

    async def unignore_user(self, user_id: int) -> bool:
        others = tuple(each for each in self.contents.ignored if each.user_id != user_id)
        changed = len(others) < len(self.contents.ignored)
        await self._write("unignore_user", dataclasses.replace(self.contents, ignored=others))
        return changed

    async def forget_user(self, user_id: int) -> int:
        contents = self.contents
        kept = tuple(
            dataclasses.replace(each, added_by=0 if each.added_by == user_id else each.added_by)
            for each in contents.admins
            if each.active or each.user_id != user_id
        )
        await self._write("forget_user", dataclasses.replace(contents, admins=kept))
        return sum(each not in kept for each in contents.admins)

    async def list_documents(self) -> list[DocumentSize]:
        await self._call("list_documents")
        return [
            DocumentSize(mesh=mesh, kind=kind, name=name, size=size(each.text), updated_at=each.updated_at)
            for (mesh, kind, name), each in sorted(self.documents.items())
        ]

    async def read_document(self, mesh: str, kind: DocumentKind, name: str) -> RoomDocument | None:
        await self._call("read_document")
        return self.documents.get((mesh, kind, name))

    async def write_document(self, document: RoomDocument) -> None:
        await self._call("write_document")
        self.documents[document.mesh, document.kind, document.name] = document

    async def read_room(self, mesh: str) -> list[RoomDocument]:
        await self._call("read_room")
        return [each for _, each in sorted(self.documents.items()) if each.mesh == mesh]

    async def replace_room(self, mesh: str, new: Sequence[RoomDocument]) -> None:
        await self._call("replace_room")
        others = {key: each for key, each in self.documents.items() if each.mesh != mesh}
        self.documents = others | {(each.mesh, each.kind, each.name): each for each in new}

    async def _write(self, name: str, contents: Contents) -> None:
        assert self.is_open
        before = self.contents
        await self._call(name)
        assert self.contents is before, "two changes at once"
        self.contents = contents
        if self.unanswered:
            failure, self.unanswered = self.unanswered, None
            raise failure

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        self.waiting_calls += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting_calls -= 1
        if self.failure:
            raise self.failure


class FakeCopy:
    """A copy in memory; `kept` is what it holds."""

    def __init__(self, kept: Contents | None = None) -> None:
        self.kept = kept

    def read(self) -> Contents | None:
        return self.kept

    def write(self, contents: Contents) -> None:
        self.kept = contents


class FakeRecord(ChangeRecord):
    """A record of changes in memory.

    Attributes:
        failure: what writing fails with as long as it is set.
        hook: called after each writing.
    """

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.failure: NotRecordedError | None = None
        self.hook: Callable[[], None] = lambda: None

    def _save(self, text: str) -> None:
        if self.failure:
            raise self.failure
        self.hook()
