"""How much rooms may have remembered: a bot that was taken over must not fill the disk, or starve others. Pure.

The figures keep an export of all rooms small enough to be imported again.
"""

from __future__ import annotations

from collections.abc import Iterable

from ravesvc.bot.backend import MAX_DOCUMENT_BYTES, PLUGIN_PREFIX
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError
from ravesvc.names import ALL_MESHES
from ravesvc.store.room_document import DocumentKind, DocumentSize

_KIB = 1024

# Bytes of JSON.
_MAX_ROOM_BYTES = 1024 * _KIB
# Of one plugin in all rooms.
_MAX_PLUGIN_BYTES = 10 * _KIB * _KIB
_MAX_HOST_BYTES = 32 * _KIB * _KIB
# What a room may have also when all rooms together have as much as they may.
_SHARE = 16 * _KIB
# Of one kind, in a room.
_MAX_DOCUMENTS = 16

_ALL_FULL = _("all rooms together keep as much as they may")


class RoomQuota:
    """Knows the sizes of all documents, and so what may still be added."""

    def __init__(self, documents: Iterable[DocumentSize]) -> None:
        self._rooms: dict[str, dict[tuple[DocumentKind, str], int]] = {}
        self._total = 0
        # By name, of documents in all rooms.
        self._names: dict[str, int] = {}
        for document in documents:
            self.note(document.mesh, document.kind, document.name, document.size)

    def insist(self, mesh: str, kind: DocumentKind, name: str, size: int) -> None:
        """Raise `RaveError` (InvalidArgument) if a document of that size may not take the place of the former one."""
        room = self._rooms.get(mesh, {})
        former = room.get((kind, name), 0)
        if size <= former:
            # Removing is always allowed.
            return
        if size > MAX_DOCUMENT_BYTES:
            text = _(
                "this is too much to be kept: {size} KiB, and {allowed} KiB are allowed",
                size=_kib(size),
                allowed=_kib(MAX_DOCUMENT_BYTES),
            )
            raise _full(text)
        grown = size - former
        if name.startswith(PLUGIN_PREFIX) and self._names.get(name, 0) + grown > _MAX_PLUGIN_BYTES:
            raise _full(_("this plugin keeps as much in all rooms as it may"))
        if (kind, name) not in room and sum(other is kind for other, _name in room) >= _MAX_DOCUMENTS:
            text = _("this room keeps {n} of those already, which is as many as it may", n=_MAX_DOCUMENTS)
            raise _full(_ALL_FULL if mesh == ALL_MESHES else text)
        after = sum(room.values()) + grown
        if after > _MAX_ROOM_BYTES and mesh == ALL_MESHES:
            raise _full(_ALL_FULL)
        if after > _MAX_ROOM_BYTES:
            text = _(
                "this room keeps {size} KiB already, and may not keep more than {allowed} KiB",
                size=_kib(after - size),
                allowed=_kib(_MAX_ROOM_BYTES),
            )
            raise _full(text)
        if after > _SHARE and self._total + grown > _MAX_HOST_BYTES:
            raise _full(_ALL_FULL)

    def note(self, mesh: str, kind: DocumentKind, name: str, size: int) -> None:
        """A document has that size now."""
        room = self._rooms.setdefault(mesh, {})
        grown = size - room.get((kind, name), 0)
        self._total += grown
        self._names[name] = self._names.get(name, 0) + grown
        room[kind, name] = size


def _kib(size: int) -> int:
    return -(-size // _KIB)


def _full(text: str) -> RaveError:
    return RaveError(Code.INVALID_ARGUMENT, text, hint=_("remove something first"))
