"""All that a store holds as JSON, and the blocklist, to move it to another engine or machine, or to keep it.

It comes back exactly as it was. Collections and keys are those of the guide; dates are ISO 8601 in UTC with
milliseconds. It holds secrets.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from ravesvc import names
from ravesvc.blocklist.file import MAX_TEXT_CHARS
from ravesvc.blocklist.model import MAX_COUNT, PERMANENT_REASONS, Block, Reason
from ravesvc.common import fd_files, json_fields
from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError
from ravesvc.store import credentials_file as account
from ravesvc.store import room_document
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, IgnoredUser, StoreEntry, command_key
from ravesvc.store.room_document import DocumentKind, RoomDocument

Entry = TypeVar("Entry")

# More than all rooms may keep, JSON in JSON included. A larger file is the wrong one, and could fill the memory.
MAX_FILE_BYTES = 48 * 1024 * 1024

_VERSION = 1
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_EPOCH = datetime.fromtimestamp(0, UTC)
# The last day that a date can name; what lasts longer lasts for ever.
_LAST_MS = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What an export holds.

    `rooms` is None if it says nothing of what rooms remember, as those of version 0.1.0. `blocks` are entries of the
    blocklist, with times in milliseconds since the epoch; exports of earlier versions have none.
    """

    contents: Contents
    rooms: tuple[RoomDocument, ...] | None = None
    blocks: tuple[Block, ...] = ()


def to_json(exported: Export) -> str:
    """The text of an export; the same contents always give the same."""
    return "".join(_parts(exported))


def write(descriptor: int, exported: Export) -> None:
    """Put an export in the place of what an open file of another process holds, and close the descriptor.

    It blocks as long as the disk does. Raises `RaveError` (InvalidArgument) for what is no regular file, or can't be
    written.
    """
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                # Writing to a pipe or a device might never end.
                raise RaveError(Code.INVALID_ARGUMENT, "an export goes to a regular file")
            file.seek(0)
            file.truncate()
            file.writelines(_parts(exported))
    except OSError as e:
        raise RaveError(Code.INVALID_ARGUMENT, f"the export can't be written: {e.strerror}") from e


def _parts(exported: Export) -> Iterator[str]:
    """The text in small parts: all of it at once takes several times its size."""
    yield from json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(_document(exported))
    yield "\n"


def _document(exported: Export) -> dict[str, Any]:
    contents = exported.contents
    document: dict[str, Any] = {
        "version": _VERSION,
        "credentials": contents.credentials and _of_credentials(contents.credentials),
        "admin_users": [_of_admin(each) for each in sorted(contents.admins, key=lambda admin: admin.user_id)],
        "command_permissions": [
            _of_permission(each) for each in sorted(contents.permissions, key=lambda permission: permission.command)
        ],
        "ignored_users": [_of_ignored(each) for each in sorted(contents.ignored, key=lambda one: one.user_id)],
    }
    if exported.rooms is not None:
        document["room_documents"] = [_of_room_document(each) for each in sorted(exported.rooms, key=_room_key)]
    if exported.blocks:
        document["blocked_meshes"] = [_of_block(each) for each in sorted(exported.blocks, key=lambda one: one.mesh)]
    return document


def from_json(text: str) -> Export:
    """Read what `to_json` has made; raises `RaveError` (BadData), which says where, and quotes nothing."""
    top = json_fields.parse_object(text, "the export")
    version = json_fields.get_int(top, "version")
    if version != _VERSION:
        hint = "import it with the version of ravesvc that has exported it, or a later one"
        raise RaveError(Code.BAD_DATA, f"the export has version {version}, not {_VERSION}", hint=hint, key="version")
    # Every part has to be there: the import of half a file would remove the other half from the store.
    if "credentials" not in top:
        raise RaveError(Code.BAD_DATA, "credentials must be an object or null, but is missing", key="credentials")
    source = json_fields.opt_object(top, "credentials")
    contents = Contents(
        credentials=None if source is None else _credentials(source),
        admins=_entries(top, "admin_users", _admin, lambda admin: admin.user_id),
        permissions=_entries(top, "command_permissions", _permission, lambda permission: permission.command),
        # Exports of version 0.1.0 have none.
        ignored=_entries(top, "ignored_users", _ignored, lambda one: one.user_id) if "ignored_users" in top else (),
    )
    rooms = _entries(top, "room_documents", _room_document, _room_key) if "room_documents" in top else None
    blocks = _entries(top, "blocked_meshes", _block, lambda block: block.mesh) if "blocked_meshes" in top else ()
    return Export(contents=contents, rooms=rooms, blocks=blocks)


def entry_to_object(entry: StoreEntry) -> json_fields.Object:
    """One entry, with the collection that it is of."""
    match entry:
        case Admin():
            return {"collection": "admin_users", **_of_admin(entry)}
        case CommandPermission():
            return {"collection": "command_permissions", **_of_permission(entry)}
        case IgnoredUser():
            return {"collection": "ignored_users", **_of_ignored(entry)}


def entry_from_object(source: json_fields.Object) -> StoreEntry:
    """Read what `entry_to_object` has made; raises `RaveError` (BadData)."""
    match json_fields.get_str(source, "collection"):
        case "admin_users":
            return _admin(source)
        case "command_permissions":
            return _permission(source)
        case "ignored_users":
            return _ignored(source)
    raise RaveError(Code.BAD_DATA, "collection must be one of an export", key="collection")


def read(descriptor: int) -> Export:
    """Read an export from the start of an open file of another process; its position there makes no difference.

    It blocks as long as the disk does. Raises `RaveError`: InvalidArgument and BadData as `fd_files.read`, with
    at most `MAX_FILE_BYTES`; BadData as `from_json`.
    """
    return from_json(fd_files.read(descriptor, "the export", MAX_FILE_BYTES))


def _of_credentials(credentials: Credentials) -> dict[str, Any]:
    document = account.to_object(credentials)
    if credentials.updated_at:
        document["updatedAt"] = of_date(credentials.updated_at)
    return document


def _credentials(source: json_fields.Object) -> Credentials:
    with _at("credentials"):
        updated_at = None if source.get("updatedAt") is None else date(source, "updatedAt")
        return dataclasses.replace(account.from_object(source), updated_at=updated_at)


def _entries(
    top: json_fields.Object, name: str, read: Callable[[json_fields.Object], Entry], key: Callable[[Entry], Any]
) -> tuple[Entry, ...]:
    found: dict[Any, Entry] = {}
    for number, source in enumerate(json_fields.get_list(top, name)):
        with _at(f"{name}[{number}]"):
            entry = read(json_fields.as_object(source, "the entry"))
            if key(entry) in found:
                raise RaveError(Code.BAD_DATA, "it is there a second time")
            found[key(entry)] = entry
    return tuple(found[each] for each in sorted(found))


def _of_admin(admin: Admin) -> json_fields.Object:
    return {
        "userId": admin.user_id,
        "addedBy": admin.added_by,
        "addedAt": of_date(admin.added_at),
        "isActive": admin.active,
    }


def _of_permission(permission: CommandPermission) -> json_fields.Object:
    return {
        "commandName": permission.command,
        "requiresAdmin": permission.requires_admin,
        "description": permission.description,
        "updatedAt": of_date(permission.updated_at),
        "updatedBy": permission.updated_by,
    }


def _of_ignored(one: IgnoredUser) -> json_fields.Object:
    return {"userId": one.user_id, "addedBy": one.added_by, "addedAt": of_date(one.added_at)}


def _ignored(source: json_fields.Object) -> IgnoredUser:
    return IgnoredUser(user_id=_person(source), added_by=_user(source, "addedBy"), added_at=date(source, "addedAt"))


def _person(source: json_fields.Object) -> int:
    user_id = _user(source, "userId")
    if not user_id:
        raise RaveError(Code.BAD_DATA, "userId must be a user id", key="userId")
    return user_id


def _admin(source: json_fields.Object) -> Admin:
    return Admin(
        user_id=_person(source),
        added_by=_user(source, "addedBy"),
        added_at=date(source, "addedAt"),
        active=json_fields.get_bool(source, "isActive"),
    )


def _permission(source: json_fields.Object) -> CommandPermission:
    # Earlier versions have exported names in other spellings.
    name = _text(source, "commandName")
    command = command_key(name)
    if not command or name != name.strip().lower():
        raise RaveError(Code.BAD_DATA, "commandName must be a name in lower case", key="commandName")
    return CommandPermission(
        command=command,
        requires_admin=json_fields.get_bool(source, "requiresAdmin"),
        description=_text(source, "description"),
        updated_at=date(source, "updatedAt"),
        updated_by=_user(source, "updatedBy"),
    )


def _room_key(document: RoomDocument) -> tuple[str, str, str]:
    return document.mesh, document.kind, document.name


def _of_room_document(document: RoomDocument) -> dict[str, Any]:
    return {
        "meshId": document.mesh,
        "kind": document.kind.value,
        "name": document.name,
        "updatedAt": of_date(document.updated_at),
        "text": document.text,
    }


def _room_document(source: json_fields.Object) -> RoomDocument:
    kind, name = _text(source, "kind"), _text(source, "name")
    if kind not in tuple(DocumentKind):
        raise RaveError(Code.BAD_DATA, "kind must be document or history", key="kind")
    if not room_document.is_name(name):
        raise RaveError(Code.BAD_DATA, "name must be a word in lower case", key="name")
    mesh = names.ALL_MESHES if source.get("meshId") == names.ALL_MESHES else _mesh(source)
    try:
        text = room_document.to_text(room_document.parse(_text(source, "text")))
    except RaveError as e:
        raise RaveError(Code.BAD_DATA, f"text makes no sense: {e.message}", key="text") from e
    return RoomDocument(
        mesh=mesh,
        kind=DocumentKind(kind),
        name=name,
        text=text,
        updated_at=date(source, "updatedAt"),
    )


def _of_block(block: Block) -> json_fields.Object:
    return {
        "meshId": block.mesh,
        "title": block.title,
        "reason": block.reason.value,
        "blockedAt": of_date(_from_ms(block.since)),
        "blockedUntil": None if block.until is None or block.until > _LAST_MS else of_date(_from_ms(block.until)),
        "detail": block.detail,
        "actor": block.actor,
        "count": block.count,
    }


def _block(source: json_fields.Object) -> Block:
    reason = _text(source, "reason")
    if reason not in tuple(Reason):
        raise RaveError(Code.BAD_DATA, f"reason must be one of {', '.join(Reason)}", key="reason")
    title, detail, actor = (printable(_text(source, key), MAX_TEXT_CHARS) for key in ("title", "detail", "actor"))
    for_ever = source.get("blockedUntil") is None or reason in PERMANENT_REASONS
    return Block(
        mesh=_mesh(source),
        title=title,
        reason=Reason(reason),
        since=_to_ms(date(source, "blockedAt")),
        until=None if for_ever else _to_ms(date(source, "blockedUntil")),
        detail=detail,
        actor=actor,
        count=min(max(1, json_fields.get_int(source, "count")), MAX_COUNT),
    )


def _from_ms(milliseconds: int) -> datetime:
    """A time since the epoch, within the range of dates."""
    return _EPOCH + timedelta(milliseconds=min(max(0, milliseconds), _LAST_MS))


def _to_ms(date: datetime) -> int:
    return (date - _EPOCH) // timedelta(milliseconds=1)


def _mesh(source: json_fields.Object) -> str:
    try:
        return names.mesh_id(_text(source, "meshId"))
    except RaveError as e:
        raise RaveError(Code.BAD_DATA, "meshId must be the id of a mesh", key="meshId") from e


def _user(source: json_fields.Object, key: str) -> int:
    """A user id, or 0 for an operator."""
    number = json_fields.get_int(source, key)
    if number < 0:
        raise RaveError(Code.BAD_DATA, f"{key} must not be negative", key=key)
    return number


def _text(source: json_fields.Object, key: str) -> str:
    """A text that a database takes: JSON may hold half of a surrogate pair, UTF-8 may not."""
    text = json_fields.get_str(source, key)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise RaveError(Code.BAD_DATA, f"{key} must be Unicode text", key=key)
    return text


def of_date(date: datetime) -> str:
    """A date as text."""
    return date.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def date(source: json_fields.Object, key: str) -> datetime:
    """Read what `of_date` has made; raises `RaveError` (BadData)."""
    text = json_fields.get_str(source, key)
    try:
        found = datetime.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or found < _EPOCH:
        text = f"{key} must be a date since 1970 in UTC with milliseconds, like 2024-01-08T10:00:00.000Z"
        raise RaveError(Code.BAD_DATA, text, key=key)
    return found


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say where in the export the trouble is."""
    try:
        yield
    except RaveError as e:
        raise RaveError(
            e.code, f"{place} of the export can't be used: {e.message}", hint=e.hint, **e.attributes
        ) from e
