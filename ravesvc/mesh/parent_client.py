"""Calls the parent over the bus: its interface `.Backend` has admins, permissions, session, videos and documents.

The chat shows what fails here. So an error has the parent's text or one of ours; that of the bus goes to the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ravesvc import names
from ravesvc.bot.backend import MAX_DOCUMENT_BYTES, Counts, EntryPoint
from ravesvc.bot.command_names import Permission
from ravesvc.bus import Bus, errors
from ravesvc.common import json_fields
from ravesvc.common.picture import Picture
from ravesvc.common.plugin_files import FileVersion
from ravesvc.common.translation import RemoteText
from ravesvc.common.video import Video
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.media.video_list import read_videos
from ravesvc.mesh.parent_link import ConnectAdvice

# The parent answers a change when it is safe on disk and all running bots use it.
_READ_TIMEOUT_S = 10.0
_CHANGE_TIMEOUT_S = 25.0
# A search or a picture: systemd may have to start the video helper, which then asks the provider.
_PROVIDER_TIMEOUT_S = 30.0
# Until Rave has sent the mail of a login, which may take it long.
_MAIL_TIMEOUT_S = 60.0
# The user has ten minutes to follow the link in the mail.
_LOGIN_TIMEOUT_S = 660.0


class ParentClient:
    """Calls the parent. Implements `ParentApi`.

    Every method raises `RaveError`: the parent's own error, NotRunning without an answer in time, or BadData for an
    answer of the wrong form.
    """

    def __init__(self, bus: Callable[[], Bus | None]) -> None:
        """`bus` returns the connection to call over, None while there is none."""
        self._bus = bus

    async def admins(self) -> frozenset[int]:
        """See `ParentApi`."""
        match await self._call("GetAdmins", timeout=_READ_TIMEOUT_S):
            case [list(users)]:
                return frozenset(_number(user) for user in users)
        raise _bad_answer()

    async def permissions(self) -> dict[str, Permission]:
        """See `ParentApi`."""
        match await self._call("GetPermissions", timeout=_READ_TIMEOUT_S):
            case [dict(needs)]:
                return {_text(command): _permission(admin) for command, admin in needs.items()}
        raise _bad_answer()

    async def ignored_users(self) -> frozenset[int]:
        """See `ParentApi`."""
        match await self._call("GetIgnoredUsers", timeout=_READ_TIMEOUT_S):
            case [list(users)]:
                return frozenset(_number(user) for user in users)
        raise _bad_answer()

    async def connect_advice(self) -> ConnectAdvice:
        """See `ParentApi`."""
        match await self._call("GetConnectAdvice", timeout=_READ_TIMEOUT_S):
            case [failures, failing_usec, pause_usec, why]:
                return ConnectAdvice(
                    failures=_number(failures),
                    failing_for=_number(failing_usec) / 1_000_000,
                    pause=_number(pause_usec) / 1_000_000,
                    why=_text(why),
                )
        raise _bad_answer()

    async def chat_form(self) -> str:
        """See `ParentApi`."""
        match await self._call("GetChatForm", timeout=_READ_TIMEOUT_S):
            case [form]:
                return _text(form)
        raise _bad_answer()

    async def entry_points(self) -> list[EntryPoint]:
        """See `ParentApi`."""
        match await self._call("GetEntryPoints", timeout=_READ_TIMEOUT_S):
            case [list(found)]:
                return [_entry_point(each) for each in found]
        raise _bad_answer()

    async def tried_plugins(self) -> list[FileVersion]:
        """See `ParentApi`."""
        match await self._call("GetTriedPlugins", timeout=_READ_TIMEOUT_S):
            case [list(found)]:
                return [_plugin_file(each) for each in found]
        raise _bad_answer()

    async def session(self) -> Session:
        """See `ParentApi`."""
        match await self._call("GetCredentials", timeout=_READ_TIMEOUT_S):
            case [dict(credentials)]:
                try:
                    return Session.from_object(credentials)
                except RaveError as e:
                    raise _bad_answer() from e
        raise _bad_answer()

    async def add_admin(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _boolean(await self._call("AddAdmin", "tt", actor, user))

    async def claim_admin(self, actor: int, code: str) -> bool:
        """See `Backend`."""
        return _boolean(await self._call("ClaimAdmin", "ts", actor, code))

    async def remove_admin(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _boolean(await self._call("RemoveAdmin", "tt", actor, user))

    async def ignore_user(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _boolean(await self._call("IgnoreUser", "tt", actor, user))

    async def unignore_user(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _boolean(await self._call("UnignoreUser", "tt", actor, user))

    async def set_permission(self, actor: int, command: str, permission: Permission, description: str) -> None:
        """See `Backend`."""
        await self._call("SetPermission", "tsbs", actor, command, permission is Permission.ADMIN, description)

    async def remove_permission(self, actor: int, command: str) -> bool:
        """See `Backend`."""
        return _boolean(await self._call("RemovePermission", "ts", actor, command))

    async def refresh(self, actor: int) -> Counts:
        """See `Backend`."""
        match await self._call("Refresh", "t", actor):
            case [admins, permissions]:
                return Counts(_number(admins), _number(permissions))
        raise _bad_answer()

    async def relogin(self, actor: int) -> int:
        """See `Backend`."""
        match await self._call("Relogin", "t", actor, timeout=_MAIL_TIMEOUT_S):
            case [seconds]:
                return _number(seconds)
        raise _bad_answer()

    async def allow_leave(self, actor: int) -> None:
        """See `Backend`."""
        await self._call("AllowLeave", "t", actor, timeout=_READ_TIMEOUT_S)

    async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
        """See `Backend`."""
        return _videos(await self._call("SearchVideos", "ts", actor, words, timeout=_PROVIDER_TIMEOUT_S))

    async def look_up_video(self, actor: int, link: str) -> Video:
        """See `Backend`."""
        match _videos(await self._call("LookUpVideo", "ts", actor, link, timeout=_PROVIDER_TIMEOUT_S)):
            case [video]:
                return video
        raise _bad_answer()

    async def fetch_picture(self, actor: int, video: Video) -> Picture:
        """See `Backend`."""
        match await self._call("FetchPicture", "tss", actor, *video.key, timeout=_PROVIDER_TIMEOUT_S):
            case [int(descriptor)]:
                # `Picture` checks what the descriptor is, and closes it if that is no picture.
                return Picture(descriptor)
        raise _bad_answer()

    async def read_document(self, name: str) -> str | None:
        """See `Backend`."""
        match await self._call("ReadDocument", "s", name, timeout=_READ_TIMEOUT_S):
            case [bool(found), str(text)]:
                return text if found else None
        raise _bad_answer()

    async def write_document(self, name: str, text: str) -> None:
        """See `Backend`."""
        await self._call("WriteDocument", "ss", name, _checked_size(text))

    async def read_shared(self, name: str) -> tuple[str, str]:
        """See `Backend`."""
        match await self._call("ReadShared", "s", name, timeout=_READ_TIMEOUT_S):
            case [str(text), str(version)]:
                return text, version
        raise _bad_answer()

    async def write_shared(self, name: str, text: str, version: str) -> bool:
        """See `Backend`."""
        match await self._call("WriteShared", "sss", name, _checked_size(text), version):
            case [bool(written)]:
                return written
        raise _bad_answer()

    async def append_history(self, name: str, entry: str) -> None:
        """See `Backend`."""
        await self._call("AppendHistory", "ss", name, _checked_size(entry))

    async def read_history(self, name: str, count: int) -> list[str]:
        """See `Backend`."""
        match await self._call("ReadHistory", "su", name, count, timeout=_READ_TIMEOUT_S):
            case [list(entries)]:
                return [_text(entry) for entry in entries]
        raise _bad_answer()

    async def forget_user(self, actor: int) -> int:
        """See `Backend`."""
        match await self._call("ForgetUser", "t", actor):
            case [removed]:
                return _number(removed)
        raise _bad_answer()

    async def login_ended(self) -> None:
        """See `Backend`."""
        await self._call("LoginEnded", timeout=_LOGIN_TIMEOUT_S)

    async def _call(
        self,
        member: str,
        signature: str = "",
        *args: Any,
        timeout: float = _CHANGE_TIMEOUT_S,  # noqa: ASYNC109 - passed on to the bus, which keeps it
    ) -> list[Any]:
        bus = self._bus()
        if bus is None:
            raise _no_answer("not on the message bus")
        parent = names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE
        try:
            return await bus.call(*parent, member, signature, *args, timeout=timeout)
        except RaveError as e:
            if isinstance(e.__cause__, ValueError):
                # The bus can't encode an argument, such as a number that is too large: the user typed it.
                raise RaveError(Code.INVALID_ARGUMENT, "that is no value to work with") from e
            raise _parents_error(e) or _no_answer(str(e)) from e


def _parents_error(error: RaveError) -> RaveError | None:
    """The parent's error, or None if it is the bus's: no parent, no answer in time, no such method."""
    name, said = str(error.attributes.get("error_name", "")), str(error.attributes.get("said", ""))
    ours = name.startswith(names.ERROR_PREFIX) or name == errors.ACCESS_DENIED
    # Closed: the parent went away before it had answered.
    if not (ours and said) or error.code is Code.CLOSED:
        return None
    return RaveError(error.code, RemoteText(said), incident=error.incident)


def _no_answer(why: str) -> RaveError:
    return RaveError(
        Code.NOT_RUNNING, "the service behind this bot does not answer", hint="try again in a while", why=why
    )


def _bad_answer() -> RaveError:
    return RaveError(Code.BAD_DATA, "the service behind this bot gives an answer that makes no sense")


def _number(value: object) -> int:
    # The bus has types, so a text of digits is as wrong as any other.
    if not isinstance(value, int) or json_fields.as_int(value) is None:
        raise _bad_answer()
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _bad_answer()
    return value


def _checked_size(text: str) -> str:
    """The text, if the parent takes as much. The bus would refuse a call that is too long in words of its own."""
    if len(text.encode(errors="replace")) > MAX_DOCUMENT_BYTES:
        raise RaveError(
            Code.INVALID_ARGUMENT, f"a room can keep no more than {MAX_DOCUMENT_BYTES // 1024} KiB of that"
        )
    return text


def _permission(admin: object) -> Permission:
    if not isinstance(admin, bool):
        raise _bad_answer()
    return Permission.ADMIN if admin else Permission.USER


def _entry_point(value: object) -> EntryPoint:
    match value:
        case [str(name), str(module), str(version)]:
            return EntryPoint(name, module, version)
    raise _bad_answer()


def _plugin_file(value: object) -> FileVersion:
    match value:
        # A name with a directory in it would lead elsewhere.
        case [str(name), str(digest)] if "/" not in name:
            return FileVersion(name, digest)
    raise _bad_answer()


def _videos(answer: list[Any]) -> list[Video]:
    match answer:
        case [str(text)]:
            try:
                return read_videos(text)
            except RaveError as e:
                raise _bad_answer() from e
    raise _bad_answer()


def _boolean(answer: list[Any]) -> bool:
    match answer:
        case [bool(value)]:
            return value
    raise _bad_answer()
