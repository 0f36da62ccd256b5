"""The documents of MongoDB, typed. Pure.

They may be older than we are: the reference implementation writes a large user id as a double, and people who write
them by hand may put it in quotes. A document that makes no sense raises `RaveError` (BadData).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeAlias, TypeVar

from ravesvc.common import json_fields
from ravesvc.common.text import printable
from ravesvc.config.worker_settings import normalise_token, user_of_peer
from ravesvc.errors import Code, RaveError
from ravesvc.store.model import SILENT_S, Admin, CommandPermission, Credentials, Host, IgnoredUser, command_key
from ravesvc.store.room_document import DocumentKind, DocumentSize, RoomDocument

Entry = TypeVar("Entry")
Document: TypeAlias = Mapping[str, Any]

CREDENTIALS_ID = "bot_credentials"
# The collection of what rooms remember: one document of MongoDB for each document of a room.
ROOM_DOCUMENTS = "room_documents"
# This collection has one document, about the host that uses the account.
HOSTS = "hosts"
HOST_ID = "orchestrator"

# An aggregation by which the server returns the sizes of texts in place of the texts.
SIZES: list[dict[str, Any]] = [
    {"$match": {"text": {"$type": "string"}}},
    {"$project": {"meshId": 1, "kind": 1, "name": 1, "updatedAt": 1, "size": {"$strLenBytes": "$text"}}},
]

_MAX_HOST_NAME_CHARS = 64

_EPOCH = datetime.fromtimestamp(0, UTC)


def credentials(document: Document) -> Credentials:
    """The account. E-mail, device id and ssaid it must have."""
    updated_at = document.get("updatedAt")
    try:
        return Credentials(
            email=_words(document, "email"),
            device_id=_words(document, "deviceId"),
            ssaid=_words(document, "ssaid"),
            parse_id=json_fields.opt_str(document, "parseId") or "",
            parse_token=normalise_token(json_fields.opt_str(document, "parseToken") or ""),
            auth_token=normalise_token(json_fields.opt_str(document, "authToken") or ""),
            user_id=_own_user(document),
            updated_at=updated_at.astimezone(UTC) if isinstance(updated_at, datetime) else None,
        )
    except RaveError as e:
        text = f"{place('credentials', document)} can't be used: {e.message}"
        raise RaveError(Code.BAD_DATA, text, hint="fix it, or delete it and log in again", **e.attributes) from e


def usable(document: Document | None) -> tuple[Credentials | None, str]:
    """The account, or else why its document makes no sense; neither without a document."""
    try:
        return credentials(document) if document else None, ""
    except RaveError as e:
        return None, e.message


def host(document: Document) -> Host:
    """The host that has the account; without a name if it makes no sense."""
    name = printable(document.get("hostName"), _MAX_HOST_NAME_CHARS)
    return Host(id=str(document.get("hostId", "")), name=name or "without a name")


def free_for(host: Host) -> Document:
    """An expression: whether a host may have the account, by its document; times are those of the server."""
    silent = {"$lt": ["$beatAt", {"$subtract": ["$$NOW", int(SILENT_S * 1000)]}]}
    senseless = {"$or": [{"$ne": [{"$type": "$beatAt"}, "date"]}, {"$ne": [{"$type": "$hostId"}, "string"]}]}
    return {"$or": [{"$eq": ["$hostId", {"$literal": host.id}]}, senseless, silent]}


def registration(host: Host, free: object) -> list[Document]:
    """An update: the host has the account where the expression `free` holds; elsewhere nothing changes."""
    new = {"hostId": {"$literal": host.id}, "hostName": {"$literal": host.name}, "beatAt": "$$NOW"}
    return [{"$set": {field: {"$cond": [free, value, f"${field}"]} for field, value in new.items()}}]


def admin(document: Document) -> Admin:
    """An admin, active only where the document says so in plain words."""
    return Admin(
        user_id=_user(document, "userId"),
        added_by=_count(document.get("addedBy")) or 0,
        added_at=_date(document.get("addedAt")),
        active=json_fields.opt_bool(document, "isActive") or False,
    )


def ignored(document: Document) -> IgnoredUser:
    """A user whom no bot listens to."""
    return IgnoredUser(
        user_id=_user(document, "userId"),
        added_by=_count(document.get("addedBy")) or 0,
        added_at=_date(document.get("addedAt")),
    )


def permission(document: Document) -> CommandPermission:
    """Whom a command is for."""
    name = document.get("commandName")
    if not isinstance(name, str):
        name = document.get("_id")
    command = command_key(name) if isinstance(name, str) else ""
    if not command:
        raise RaveError(Code.BAD_DATA, "commandName must be a text", key="commandName")
    description = document.get("description")
    return CommandPermission(
        command=command,
        requires_admin=json_fields.get_bool(document, "requiresAdmin"),
        description=description if isinstance(description, str) else f"Command: {command}",
        updated_at=_date(document.get("updatedAt")),
        updated_by=_count(document.get("updatedBy")) or 0,
    )


def guarded(document: Document) -> CommandPermission | None:
    """What is left of a permission that makes no sense: the command that it names, if any, is for admins."""
    try:
        return permission({**document, "requiresAdmin": True})
    except RaveError:
        return None


def room_document(document: Document) -> RoomDocument:
    """A document of a room."""
    return RoomDocument(
        mesh=_words(document, "meshId"),
        kind=_kind(document),
        name=_words(document, "name"),
        text=_words(document, "text"),
        updated_at=_date(document.get("updatedAt")),
    )


def document_size(document: Document) -> DocumentSize:
    """A document of a room without its text, as `SIZES` gives it."""
    return DocumentSize(
        mesh=_words(document, "meshId"),
        kind=_kind(document),
        name=_words(document, "name"),
        size=json_fields.get_int(document, "size"),
        updated_at=_date(document.get("updatedAt")),
    )


def room_document_id(mesh: str, kind: DocumentKind, name: str) -> str:
    """The `_id` of the document that holds a room's."""
    return f"{mesh}/{kind}/{name}"


def of_room_document(known: RoomDocument) -> dict[str, Any]:
    """The fields of a document, `_id` included."""
    return {
        "_id": room_document_id(known.mesh, known.kind, known.name),
        "meshId": known.mesh,
        "kind": known.kind.value,
        "name": known.name,
        "text": known.text,
        "updatedAt": known.updated_at,
    }


def place(collection: str, document: Document) -> str:
    """Where a document is, in words."""
    return f"document {printable(str(document.get('_id')), 80)} of {collection}"


def by_user(admins: Iterable[Admin]) -> tuple[Admin, ...]:
    """Each user once, in order. Without a unique index there may be several documents: an active one counts."""
    found: dict[int, Admin] = {}
    for one in admins:
        if one.active or one.user_id not in found:
            found[one.user_id] = one
    return tuple(found[user] for user in sorted(found))


def ignored_by_user(found: Iterable[IgnoredUser]) -> tuple[IgnoredUser, ...]:
    """Each user once, in order."""
    by_id = {one.user_id: one for one in found}
    return tuple(by_id[user] for user in sorted(by_id))


def of_credentials(known: Credentials) -> tuple[dict[str, Any], list[str]]:
    """The fields of a document, and the names of those that it must not have, because they are not known."""
    found = {
        "email": known.email,
        "deviceId": known.device_id,
        "ssaid": known.ssaid,
        "parseId": known.parse_id or None,
        "parseToken": known.parse_token or None,
        "authToken": known.auth_token,
        "userId": known.user_id,
        "peerId": known.peer_id,
        "updatedAt": known.updated_at,
    }
    return (
        {key: value for key, value in found.items() if value is not None},
        [key for key, value in found.items() if value is None],
    )


def of_admin(known: Admin) -> dict[str, Any]:
    """The fields of a document."""
    return {
        "userId": known.user_id,
        "addedBy": known.added_by,
        "addedAt": known.added_at,
        "isActive": known.active,
    }


def of_ignored(known: IgnoredUser) -> dict[str, Any]:
    """The fields of a document."""
    return {"userId": known.user_id, "addedBy": known.added_by, "addedAt": known.added_at}


def of_permission(known: CommandPermission) -> dict[str, Any]:
    """The fields of a document."""
    return {
        "commandName": known.command,
        "requiresAdmin": known.requires_admin,
        "description": known.description,
        "updatedAt": known.updated_at,
        "updatedBy": known.updated_by,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection(Generic[Entry]):
    """How entries become documents and back.

    Attributes:
        key: the field that tells documents apart.
        spoilt: what is made of a document that makes no sense.
    """

    name: str
    key: str
    read: Callable[[Document], Entry]
    write: Callable[[Entry], dict[str, Any]]
    spoilt: Callable[[Document], Entry | None]


ADMINS = Collection(name="admin_users", key="userId", read=admin, write=of_admin, spoilt=lambda _: None)
PERMISSIONS = Collection(
    name="command_permissions", key="commandName", read=permission, write=of_permission, spoilt=guarded
)


IGNORED = Collection(name="ignored_users", key="userId", read=ignored, write=of_ignored, spoilt=lambda _: None)


def _words(document: Document, key: str) -> str:
    text = json_fields.get_str(document, key)
    if not text:
        raise RaveError(Code.BAD_DATA, f"{key} must not be empty", key=key)
    return text


def _kind(document: Document) -> DocumentKind:
    kind = json_fields.get_str(document, "kind")
    if kind not in tuple(DocumentKind):
        raise RaveError(Code.BAD_DATA, "kind must be document or history", key="kind")
    return DocumentKind(kind)


def _user(document: Document, key: str) -> int:
    # User 0 stands for chat messages without a user id, so it can't be an admin or an ignored user.
    user = _count(document.get(key))
    if not user:
        raise RaveError(Code.BAD_DATA, f"{key} must be a user id", key=key)
    return user


def _own_user(document: Document) -> int | None:
    """The account's user: the reference implementation may leave it out, and yet have it in the peer id."""
    return user_of_peer(document.get("peerId")) if document.get("userId") is None else _user(document, "userId")


def _count(value: object) -> int | None:
    """A number that is whole and not negative, also as a text or as a double."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    number = json_fields.as_int(value)
    # A plain integer in place of the driver's own kind.
    return int(number) if number is not None and number >= 0 else None


def _date(value: object) -> datetime:
    """A date; the epoch for what is none, or before it."""
    return max(value.astimezone(UTC), _EPOCH) if isinstance(value, datetime) else _EPOCH
