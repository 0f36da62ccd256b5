"""Which meshes are left alone, why, and until when.

The file is the `blocklist.json` that users of the reference implementation know: `blockedMeshes` maps a mesh id to
`{meshId, reason, blockedAt, blockedUntil}`, times in milliseconds since the epoch, null for ever. Entries of ours
carry two more keys, `detail` and `actor`; a file without them loads as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ravesvc import fields
from ravesvc.errors import Code, RaveError
from ravesvc.names import mesh_id
from ravesvc.store.files import write_atomically


class Reason(StrEnum):
    """Why a mesh is blocked. The first two are those of the reference implementation."""

    CONNECTION_FAILURES = "connection_failures"
    KICKED = "kicked"
    REJECTED = "rejected"
    CRASHES = "crashes"
    LEFT = "left"
    GONE = "gone"
    HELD = "held"


# What a reason means to people.
WORDS = {
    Reason.CONNECTION_FAILURES: "it could not be reached",
    Reason.KICKED: "the bot was kicked",
    Reason.REJECTED: "the server turned the bot away",
    Reason.CRASHES: "its process failed too often",
    Reason.LEFT: "the bot left it",
    Reason.GONE: "the mesh is gone",
    Reason.HELD: "it was stopped by an operator",
}


# What a later and lesser reason must not replace: a process that fails while an operator stops it stays held.
_RANKS = {Reason.HELD: 1, Reason.KICKED: 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One entry. `since` and `until` are milliseconds since the epoch; `until` None means for ever."""

    mesh: str
    reason: Reason
    since: int
    until: int | None
    detail: str = ""
    actor: str = "service"

    def describe(self) -> str:
        """Why the mesh is left alone, in words."""
        return f"{WORDS[self.reason]}: {self.detail}" if self.detail else WORDS[self.reason]


class Blocklist:
    """The entries, each in force until its time is over. Pure: every question brings its own time."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._blocks = {block.mesh: block for block in blocks}

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks.values())

    def get(self, mesh: str, now: int) -> Block | None:
        """The entry that blocks a mesh at `now` (milliseconds since the epoch)."""
        block = self._blocks.get(mesh)
        return block if block and (block.until is None or now <= block.until) else None

    def in_force(self, now: int) -> dict[str, Block]:
        """Every entry that blocks at `now`, by mesh id."""
        return {mesh: block for mesh in self._blocks if (block := self.get(mesh, now))}

    def add(self, block: Block) -> None:
        """Block a mesh. A kick stays a kick, and a hold gives way to a kick only: `remove` forgets them."""
        old = self._blocks.get(block.mesh)
        rank = _RANKS.get(old.reason, 0) if old else 0
        if _RANKS.get(block.reason, 0) >= rank:
            self._blocks[block.mesh] = block

    def remove(self, mesh: str) -> Block | None:
        """Unblock a mesh; returns what blocked it."""
        return self._blocks.pop(mesh, None)

    def drop_expired(self, now: int) -> list[Block]:
        """Remove the entries whose time is over, and return them."""
        return [self._blocks.pop(mesh) for mesh in list(self._blocks) if not self.get(mesh, now)]

    def to_json(self) -> str:
        """The text of the file."""
        entries = {
            block.mesh: {
                "meshId": block.mesh,
                "reason": block.reason.value,
                "blockedAt": block.since,
                "blockedUntil": block.until,
                "detail": block.detail,
                "actor": block.actor,
            }
            for block in self
        }
        return json.dumps({"blockedMeshes": entries}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, what: str) -> Blocklist:
        """Read the text of a file; raises `RaveError` (BadData, InvalidArgument).

        One bad entry spoils the whole: it may be a kick that must not be forgotten.
        """
        entries = fields.get_object(fields.parse_object(text, what), "blockedMeshes")
        return cls(_block(mesh_id(mesh), fields.as_object(entry, mesh)) for mesh, entry in entries.items())


def _block(mesh: str, entry: fields.Object) -> Block:
    try:
        reason = Reason(fields.get_str(entry, "reason"))
    except ValueError as e:
        raise RaveError(Code.BAD_DATA, f"the entry of {mesh} has an unknown reason", key="reason") from e
    return Block(
        mesh=mesh,
        reason=reason,
        since=fields.get_int(entry, "blockedAt"),
        until=fields.opt_int(entry, "blockedUntil"),
        detail=_words(entry, "detail"),
        actor=_words(entry, "actor") or "service",
    )


def _words(entry: fields.Object, key: str) -> str:
    """A text that can be written again: JSON may hold half of a surrogate pair, UTF-8 may not."""
    return (fields.opt_str(entry, key) or "").encode(errors="replace").decode()


def load(path: Path) -> Blocklist:
    """Read the file; a missing one is an empty list. Raises `RaveError` (BadFile)."""
    try:
        return Blocklist.from_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        return Blocklist()
    except (OSError, RaveError) as e:
        reason = e.message if isinstance(e, RaveError) else e.strerror
        hint = "mend it, or move it away if no mesh in it matters, and restart rave-orchestrator"
        raise RaveError(Code.BAD_FILE, f"{path} can't be used: {reason}", hint=hint, file=str(path)) from e


def save(path: Path, blocklist: Blocklist) -> None:
    """Write the file; safe on disk when this returns. Raises `RaveError` (BadFile); the old file is whole then."""
    try:
        write_atomically(path, blocklist.to_json(), 0o600)
    except OSError as e:
        raise RaveError(Code.BAD_FILE, f"{path} can't be written: {e.strerror}", file=str(path)) from e
