"""What Rave's answers say, typed. No I/O.

All but a mesh's id is optional on the wire, and an odd value must not hide a mesh: it counts as absent.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from ravesvc import names
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError

_log = logging.getLogger(__name__)

_MAX_TEXT_CHARS = 300
# In one answer; a page that is asked for has at most a hundred meshes, and accounts are asked for by eighty.
_MAX_MESHES = 250
_MAX_ACCOUNTS = 500
# In all meshes of an answer together.
_MAX_USERS = 12_500

_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VIDEO_BASE = re.compile(r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(?=/)")


class MeshMode(StrEnum):
    """Which meshes a listing holds."""

    INVITED = "invited"
    FRIENDS = "friends"
    PUBLIC = "public"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class User:
    """An account: a positive id, and the name that others see."""

    id: int
    display_name: str


class Opinion(StrEnum):
    """What a user may think of the video that plays."""

    LIKE = "LIKE"
    SKIP = "SKIP"


class Profile(NamedTuple):
    """What a user says of themselves, each on one line and empty if they don't say it.

    `name` is the one that others see, `country` a code of two letters, `bio` a few sentences.
    """

    name: str
    handle: str
    country: str
    bio: str


class Privacy(NamedTuple):
    """Who finds a room in Rave's lists, and may come without an invitation.

    `public` is all users, `friends` those who are friends of its users, `local` those who are near. With none of them
    only invited users do.
    """

    public: bool
    friends: bool
    local: bool


@dataclass(frozen=True, slots=True)
class Mesh:
    """A room.

    `server` is the authority of its WebSocket, or None if the answer names none; `title` is that of the running
    video, or empty; `invited` is True if it came from the list of our invitations. `users` are the ids of those in
    it. `originator` is the id of the user who made the room, or None if the answer does not say: Rave never says who
    has invited.
    """

    id: str
    server: str | None
    title: str
    invited: bool
    users: tuple[int, ...]
    originator: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Meshes of a mode, each once, those that we are invited to first.

    Attributes:
        complete: whether these are all of them.
        error: what kept us from reading more; None also when no more was wanted.
        note: what is to be said of a list that is too long to be read, or empty.
    """

    meshes: tuple[Mesh, ...]
    complete: bool = True
    error: RaveError | None = None
    note: str = ""


def mesh(answer: Object) -> Mesh:
    """The mesh in an answer about one; raises `RaveError` (BadData) if there is none with a valid id."""
    source = json_fields.get_object(answer, "data")
    _check_user_count([source])
    return _mesh(source, source.get("users"), invited=False)


def page(answer: Object, *, invited: bool) -> tuple[list[Mesh], str | None]:
    """The meshes of one page of a listing, and the cursor of the next page or None.

    An entry without a valid mesh id is left out; a page that is none, or far too long, raises `RaveError` (BadData).
    """
    meshes = []
    entries = json_fields.get_list(answer, "data")
    if len(entries) > _MAX_MESHES:
        raise RaveError(Code.BAD_DATA, f"a page of {len(entries)} meshes, where {_MAX_MESHES} are the limit")
    _check_user_count(entries)
    for entry in entries:
        try:
            source = json_fields.as_object(entry, "entry")
            meshes.append(_mesh(json_fields.get_object(source, "mesh"), source.get("users"), invited=invited))
        except RaveError as e:
            _log.debug("an entry of the mesh list is left out: %s", e)
    return meshes, _next_cursor(answer)


def users(answer: Object) -> dict[int, User]:
    """The users in an answer, by id; raises `RaveError` (BadData) if there is no list of them."""
    found: dict[int, User] = {}
    for entry in json_fields.get_list(answer, "data")[:_MAX_ACCOUNTS]:
        if user_id := _user_id(entry):
            name = _display_name(entry) if isinstance(entry, dict) else ""
            found[user_id] = User(user_id, name or f"User {user_id}")
    return found


def account_id(answer: Object) -> int:
    """The id of the account in an answer about one's own; raises `RaveError` (BadData) if there is none."""
    found = json_fields.get_int(json_fields.opt_object(answer, "data") or answer, "id")
    if found <= 0:
        raise RaveError(Code.BAD_DATA, "id must be positive", key="id")
    return found


def profile(answer: Object) -> Profile:
    """The profile in an answer; raises `RaveError` (BadData) if there is none."""
    data = json_fields.get_object(answer, "data")
    found = json_fields.get_object(data, "profile")
    return Profile(
        name=_display_name(found),
        handle=_text(found, "handle"),
        country=_text(found, "country"),
        bio=_text(json_fields.opt_object(data, "bio") or {}, "bio"),
    )


def privacy(answer: Object) -> Privacy:
    """The privacy in an answer about one mesh; raises `RaveError` (BadData) if it does not say all of it."""
    data = json_fields.get_object(answer, "data")
    return Privacy(*(json_fields.get_bool(data, key) for key in ("isPublic", "isFriend", "isLocal")))


def other_settings(answer: Object) -> dict[str, str]:
    """The settings of a mesh besides its privacy, as the answer about it has them and a change of them takes them."""
    data = json_fields.get_object(answer, "data")
    return {key: value for key in ("playMode", "voipMode") if (value := _text(data, key))}


def video_id(answer: Object) -> str:
    """The id that Rave has given a video; raises `RaveError` (BadData) if there is none that fits into a URL."""
    found = json_fields.get_str(json_fields.get_object(answer, "data"), "id")
    if not _VIDEO_ID.fullmatch(found):
        raise RaveError(Code.BAD_DATA, "Rave has given the video no usable id", key="id")
    return found


def video_base(answer: Object) -> str | None:
    """What the URL of the video begins with that a mesh plays; None if it plays none that has an https URL."""
    url = json_fields.opt_str(json_fields.get_object(answer, "data"), "mediaUrl") or ""
    match = _VIDEO_BASE.match(url)
    return match[0] if match else None


def _mesh(source: Object, users: object, *, invited: bool) -> Mesh:
    text = json_fields.get_str(source, "id")
    try:
        mesh_id = names.mesh_id(text)
    except RaveError as e:
        raise RaveError(Code.BAD_DATA, e.message) from None
    originator = json_fields.as_int(source.get("originator"))
    return Mesh(
        mesh_id,
        _text(source, "server") or None,
        _text(source, "videoTitle"),
        invited,
        tuple(filter(None, map(_user_id, users if isinstance(users, list) else ()))),
        originator if originator is not None and originator > 0 else None,
    )


def _check_user_count(entries: list[Any] | list[Object]) -> None:
    """Raise `RaveError` (BadData) if these meshes have more users than can be read without holding the process up."""
    lists = (entry.get("users") for entry in entries if isinstance(entry, dict))
    count = sum(len(users) for users in lists if isinstance(users, list))
    if count > _MAX_USERS:
        raise RaveError(Code.BAD_DATA, f"an answer with {count} users, where {_MAX_USERS} are the limit")


def _user_id(entry: object) -> int:
    """The id of a user, from an object or a bare number; 0 for a value without a positive id."""
    found = json_fields.as_int(entry.get("id") if isinstance(entry, dict) else entry)
    return found if found is not None and found > 0 else 0


def _display_name(source: Object) -> str:
    return next(filter(None, (_text(source, key).strip() for key in ("displayName", "name", "handle"))), "")


def _text(source: Object, key: str) -> str:
    """A text that logs, terminals and the bus can take; strangers write titles and names."""
    return printable(source.get(key), _MAX_TEXT_CHARS)


def _next_cursor(answer: Object) -> str | None:
    """The cursor in `paging.next`, an absolute URL of which nothing else is used: its host might be a stranger's."""
    paging = json_fields.opt_object(answer, "paging")
    url = json_fields.opt_str(paging, "next") if paging is not None else None
    if not url:
        return None
    try:
        cursors = parse_qs(urlsplit(url).query).get("cursor")
    except ValueError:
        cursors = None
    if not cursors:
        raise RaveError(Code.BAD_DATA, "paging.next holds no cursor", key="paging.next")
    return cursors[0]
