"""The parent as a child sees it: the one who knows admins, permissions and session (`.Backend` on the bus).

What goes wrong here is shown in the chat, so it is told in the parent's own words or in ours; those of the bus go to
the log alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ravesvc import names
from ravesvc.bot.backend import MAX_DOCUMENT_BYTES, Counts
from ravesvc.bot.command_names import Permission
from ravesvc.bot.plugins import EntryPoint
from ravesvc.bus import Bus, errors
from ravesvc.common import json_fields
from ravesvc.common.picture import Picture
from ravesvc.common.translation import RemoteText
from ravesvc.common.video import Video
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.media.video_list import read_videos
from ravesvc.mesh.host import ConnectAdvice

# Seconds. A change is answered when it is safe on disk and all meshes have followed.
_READ_TIMEOUT_S = 10.0
_CHANGE_TIMEOUT_S = 25.0
# A search or a picture: the provider's time, and the helper's to start.
_PROVIDER_TIMEOUT_S = 30.0
# Until the mail is on its way, which Rave may take its time for.
_MAIL_TIMEOUT_S = 60.0
# Somebody has ten minutes to follow the link in it.
_LOGIN_TIMEOUT_S = 660.0


class ParentClient:
    """Asks the parent. `bus` tells the connection to ask over, None while there is none.

    Implements `Parent`. Every method raises `RaveError`: what the parent says, in its words,
    NotRunning when nobody answers, BadData when the answer is none.
    """

    def __init__(self, bus: Callable[[], Bus | None]) -> None:
        self._bus = bus

    async def admins(self) -> frozenset[int]:
        """The user ids of all admins. Raises StoreUnavailable, too, while nobody knows."""
        match await self._ask("GetAdmins", timeout=_READ_TIMEOUT_S):
            case [list(users)]:
                return frozenset(_number(user) for user in users)
        raise _senseless()

    async def permissions(self) -> dict[str, Permission]:
        """Whom commands are for, by name, where somebody has changed that. Raises as `admins` does."""
        match await self._ask("GetPermissions", timeout=_READ_TIMEOUT_S):
            case [dict(needs)]:
                return {_text(command): _permission(admin) for command, admin in needs.items()}
        raise _senseless()

    async def ignored_users(self) -> frozenset[int]:
        """The user ids of those whom not to listen to. Raises as `admins` does."""
        match await self._ask("GetIgnoredUsers", timeout=_READ_TIMEOUT_S):
            case [list(users)]:
                return frozenset(_number(user) for user in users)
        raise _senseless()

    async def connect_advice(self) -> ConnectAdvice:
        """What there is to know before an attempt to connect to our mesh, as far as the parent has heard."""
        match await self._ask("GetConnectAdvice", timeout=_READ_TIMEOUT_S):
            case [failures, failing_usec, pause_usec, why]:
                return ConnectAdvice(
                    failures=_number(failures),
                    failing_for=_number(failing_usec) / 1_000_000,
                    pause=_number(pause_usec) / 1_000_000,
                    why=_text(why),
                )
        raise _senseless()

    async def chat_form(self) -> str:
        """The form in which other bots have learned to send chat to servers such as ours; empty if none has."""
        match await self._ask("GetChatForm", timeout=_READ_TIMEOUT_S):
            case [form]:
                return _text(form)
        raise _senseless()

    async def entry_points(self) -> list[EntryPoint]:
        """The modules with commands that installed packages offer."""
        match await self._ask("GetEntryPoints", timeout=_READ_TIMEOUT_S):
            case [list(found)]:
                return [_entry_point(each) for each in found]
        raise _senseless()

    async def session(self) -> Session:
        """The account's session as it is now. Raises LoginNeeded, too, if there is none."""
        match await self._ask("GetCredentials", timeout=_READ_TIMEOUT_S):
            case [dict(credentials)]:
                try:
                    return Session.from_object(credentials)
                except RaveError as e:
                    raise _senseless() from e
        raise _senseless()

    async def add_admin(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _truth(await self._ask("AddAdmin", "tt", actor, user))

    async def claim_admin(self, actor: int, code: str) -> bool:
        """See `Backend`."""
        return _truth(await self._ask("ClaimAdmin", "ts", actor, code))

    async def remove_admin(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _truth(await self._ask("RemoveAdmin", "tt", actor, user))

    async def ignore_user(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _truth(await self._ask("IgnoreUser", "tt", actor, user))

    async def unignore_user(self, actor: int, user: int) -> bool:
        """See `Backend`."""
        return _truth(await self._ask("UnignoreUser", "tt", actor, user))

    async def set_permission(self, actor: int, command: str, permission: Permission, description: str) -> None:
        """See `Backend`."""
        await self._ask("SetPermission", "tsbs", actor, command, permission is Permission.ADMIN, description)

    async def remove_permission(self, actor: int, command: str) -> bool:
        """See `Backend`."""
        return _truth(await self._ask("RemovePermission", "ts", actor, command))

    async def refresh(self, actor: int) -> Counts:
        """See `Backend`."""
        match await self._ask("Refresh", "t", actor):
            case [admins, permissions]:
                return Counts(_number(admins), _number(permissions))
        raise _senseless()

    async def relogin(self, actor: int) -> int:
        """See `Backend`."""
        match await self._ask("Relogin", "t", actor, timeout=_MAIL_TIMEOUT_S):
            case [seconds]:
                return _number(seconds)
        raise _senseless()

    async def allow_leave(self, actor: int) -> None:
        """See `Backend`."""
        await self._ask("AllowLeave", "t", actor, timeout=_READ_TIMEOUT_S)

    async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
        """See `Backend`."""
        return _videos(await self._ask("SearchVideos", "ts", actor, words, timeout=_PROVIDER_TIMEOUT_S))

    async def look_up_video(self, actor: int, link: str) -> Video:
        """See `Backend`."""
        match _videos(await self._ask("LookUpVideo", "ts", actor, link, timeout=_PROVIDER_TIMEOUT_S)):
            case [video]:
                return video
        raise _senseless()

    async def fetch_picture(self, actor: int, video: Video) -> Picture:
        """See `Backend`."""
        match await self._ask("FetchPicture", "tss", actor, *video.key, timeout=_PROVIDER_TIMEOUT_S):
            case [int(descriptor)]:
                # It looks at the picture; what is none it closes.
                return Picture(descriptor)
        raise _senseless()

    async def read_document(self, name: str) -> str | None:
        """See `Backend`."""
        match await self._ask("ReadDocument", "s", name, timeout=_READ_TIMEOUT_S):
            case [bool(found), str(text)]:
                return text if found else None
        raise _senseless()

    async def write_document(self, name: str, text: str) -> None:
        """See `Backend`."""
        await self._ask("WriteDocument", "ss", name, _short(text))

    async def append_history(self, name: str, entry: str) -> None:
        """See `Backend`."""
        await self._ask("AppendHistory", "ss", name, _short(entry))

    async def read_history(self, name: str, count: int) -> list[str]:
        """See `Backend`."""
        match await self._ask("ReadHistory", "su", name, count, timeout=_READ_TIMEOUT_S):
            case [list(entries)]:
                return [_text(entry) for entry in entries]
        raise _senseless()

    async def forget_user(self, actor: int) -> int:
        """See `Backend`."""
        match await self._ask("ForgetUser", "t", actor):
            case [removed]:
                return _number(removed)
        raise _senseless()

    async def login_ended(self) -> None:
        """See `Backend`."""
        await self._ask("LoginEnded", timeout=_LOGIN_TIMEOUT_S)

    async def _ask(
        self,
        member: str,
        signature: str = "",
        *args: Any,
        timeout: float = _CHANGE_TIMEOUT_S,  # noqa: ASYNC109 - as of the call that it is
    ) -> list[Any]:
        bus = self._bus()
        if bus is None:
            raise _unanswered("not on the message bus")
        parent = names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE
        try:
            return await bus.call(*parent, member, signature, *args, timeout=timeout)
        except RaveError as e:
            if isinstance(e.__cause__, ValueError):
                # Such as a number that is too large, which whoever typed it should know.
                raise RaveError(Code.INVALID_ARGUMENT, "that is no value to work with") from e
            raise _in_its_words(e) or _unanswered(str(e)) from e


def _in_its_words(error: RaveError) -> RaveError | None:
    """The parent's failure, or None if it is the bus's: no parent, none in time, none that knows the method."""
    name, said = str(error.attributes.get("error_name", "")), str(error.attributes.get("said", ""))
    ours = name.startswith(names.ERROR_PREFIX) or name == errors.ACCESS_DENIED
    # Closed: it went away over our question.
    if not (ours and said) or error.code is Code.CLOSED:
        return None
    return RaveError(error.code, RemoteText(said), incident=error.incident)


def _unanswered(why: str) -> RaveError:
    return RaveError(
        Code.NOT_RUNNING, "the service behind this bot does not answer", hint="try again in a while", why=why
    )


def _senseless() -> RaveError:
    return RaveError(Code.BAD_DATA, "the service behind this bot gives an answer that makes no sense")


def _number(value: object) -> int:
    # A text of digits is none here: the bus has types.
    if not isinstance(value, int) or json_fields.as_int(value) is None:
        raise _senseless()
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _senseless()
    return value


def _short(text: str) -> str:
    """JSON that the bus takes: the parent never hears of a call that is too long."""
    if len(text.encode(errors="replace")) > MAX_DOCUMENT_BYTES:
        raise RaveError(
            Code.INVALID_ARGUMENT, f"a room can keep no more than {MAX_DOCUMENT_BYTES // 1024} KiB of that"
        )
    return text


def _permission(admin: object) -> Permission:
    if not isinstance(admin, bool):
        raise _senseless()
    return Permission.ADMIN if admin else Permission.USER


def _entry_point(value: object) -> EntryPoint:
    match value:
        case [str(name), str(module), str(version)]:
            return EntryPoint(name, module, version)
    raise _senseless()


def _videos(answer: list[Any]) -> list[Video]:
    match answer:
        case [str(text)]:
            try:
                return read_videos(text)
            except RaveError as e:
                raise _senseless() from e
    raise _senseless()


def _truth(answer: list[Any]) -> bool:
    match answer:
        case [bool(truth)]:
            return truth
    raise _senseless()
