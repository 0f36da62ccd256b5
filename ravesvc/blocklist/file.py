"""The blocklist in a file that people may edit: `blocklist.json`, as users of the reference implementation know it.

`blockedMeshes` maps a mesh id to `{meshId, reason, blockedAt, blockedUntil}`, times in milliseconds since the epoch,
null for ever. Ours has more keys in each entry, `detail`, `actor`, `count` and `revision`; and beside `blockedMeshes`
the `revision` of the text, `saved` (a `Stamp`), and `meshes`, what is remembered of meshes whether blocked or not; of
one that was blocked once, as its entry says, only when (`at`) and how often (`blocks`, `quarantines`). A file without
these loads as well.

Beside it lies a copy of what was last written, `blocklist.json.saved`. Whatever the file says that the copy does not
is somebody's edit, also one that was made while nobody ran.
"""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from ravesvc.blocklist.model import (
    MOST_COUNT,
    SERVICE,
    Block,
    BlocklistModel,
    HistoryEvent,
    MeshMemory,
    Once,
    Reason,
    What,
)
from ravesvc.common import json_fields, text_file
from ravesvc.common.atomic_files import set_aside, write_atomically
from ravesvc.common.steady_clock import Clock, Stamp
from ravesvc.common.text import printable, user_name
from ravesvc.config.advice import FOR_SERVICE, Advice
from ravesvc.errors import Code, RaveError
from ravesvc.names import mesh_id

E = TypeVar("E", bound=StrEnum)

log = logging.getLogger(__name__)

# Of some ten thousand entries with all that is remembered. Nothing that is larger is read, nor written.
_LARGEST = 16 * 1024 * 1024
# Milliseconds; some 280 000 years.
_FARTHEST = 2**53
# Characters of a detail, an error or a name. Others may have typed them, and they go to the log and the bus.
LONGEST_WORDS = 300
_BEGIN = 'mend it and put it back, or, to begin with an empty list on purpose, write {"blockedMeshes": {}} into it'


_encode = json.JSONEncoder(ensure_ascii=False).encode

# What is known by its value: to call an enumeration takes its time, and there may be thousands of entries.
_REASONS = {reason.value: reason for reason in Reason}
# The keys of what is remembered of a mesh that was blocked once: its entry says the rest.
_SHORT = {"at", "blocks", "quarantines"}
_WHATS = {what.value: what for what in What}


def to_json(blocklist: BlocklistModel, clock: Clock) -> str:
    """The text of the file."""
    ahead = clock.jump()

    def written(time: int | None) -> int | None:
        return None if time is None else time + ahead

    entries: dict[str, dict[str, object]] = {
        block.mesh: {
            "meshId": block.mesh,
            "reason": block.reason.value,
            "blockedAt": written(block.since),
            "blockedUntil": written(block.until),
            "detail": block.detail,
            "actor": block.actor,
            "count": block.count,
            "revision": block.revision,
        }
        for block in blocklist
    }
    blocks = {block.mesh: block for block in blocklist}

    # Most of a long list was blocked once, which its entry says already; nor has that to be read and checked again.
    memories: dict[str, dict[str, object]] = {}
    for mesh, kept in blocklist.remembered.items():
        if _is_short(kept, blocks.get(mesh)):
            memories[mesh] = {"at": written(kept.at), "blocks": kept.blocks, "quarantines": kept.quarantines}
            continue
        memory = kept.memory() if isinstance(kept, Once) else kept
        memories[mesh] = {
            "failures": memory.failures,
            "failingSince": written(memory.failing_since),
            "lastError": memory.last_error,
            "blocks": memory.blocks,
            "quarantines": memory.quarantines,
            "alone": memory.alone,
            "at": written(memory.at),
            "history": [
                {
                    "at": written(event.at),
                    "what": event.what.value,
                    "reason": event.reason.value,
                    "actor": event.actor,
                    "detail": event.detail,
                }
                for event in memory.history
            ],
        }
    return (
        f'{{\n  "revision": {blocklist.revision},\n'
        f'  "saved": {_encode(dataclasses.asdict(clock.stamp()))},\n'
        f'  "blockedMeshes": {_lines(entries)},\n'
        f'  "meshes": {_lines(memories)}\n}}\n'
    )


def _is_short(kept: MeshMemory | Once, block: Block | None) -> bool:
    """Whether the entry of a mesh, which may have none, tells its history."""
    if block is None or (isinstance(kept, Once) and kept.block is block):
        return block is not None
    memory = kept.memory() if isinstance(kept, Once) else kept
    return memory == Once(block, memory.at, memory.blocks, memory.quarantines).memory()


def _lines(entries: dict[str, dict[str, object]]) -> str:
    """A JSON object for people: a line for each value of an entry, which json writes much more slowly."""
    if not entries:
        return "{}"
    written = []
    for mesh, entry in entries.items():
        values = ",\n".join(f'      "{key}": {_encode(value)}' for key, value in entry.items())
        written.append(f"    {_encode(mesh)}: {{\n{values}\n    }}")
    return "{\n" + ",\n".join(written) + "\n  }"


def from_json(text: str | bytes, what: str, clock: Clock) -> BlocklistModel:
    """Read the text of a file; raises `RaveError` (BadData, InvalidArgument).

    One bad entry spoils the whole: it may be a kick that must not be forgotten.
    """
    with _collector_paused():
        return _from_object(json_fields.parse_object(text, what), clock)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Make many objects that all stay, without a look at them again and again whether they do."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _from_object(top: json_fields.Object, clock: Clock) -> BlocklistModel:
    now, ahead = clock.now(), clock.ahead(_stamp(top))
    entries = json_fields.get_object(top, "blockedMeshes")
    memories = json_fields.opt_object(top, "meshes") or {}
    blocks = {mesh: read_entry(mesh, entry, now, ahead) for mesh, entry in entries.items()}
    return BlocklistModel(
        blocks.values(),
        {
            mesh: Once(blocks[mesh], _time(entry, "at", ahead), _count(entry, "blocks"), _count(entry, "quarantines"))
            if mesh in blocks and isinstance(entry, dict) and entry.keys() == _SHORT
            else _memory(mesh_id(mesh), entry, ahead)
            for mesh, entry in memories.items()
        },
        revision=_count(top, "revision"),
    )


class EditedMeanwhile(Exception):  # noqa: N818 - that is no error
    """Somebody has written the file while we were about to; it is as they have left it."""


def read_entry(mesh: str, value: object, now: int, ahead: int = 0) -> Block:
    """One entry of `blockedMeshes`, with times that are `ahead` milliseconds ahead; raises as `from_json`.

    It has begun by now, and what is left of it is no more than all of it. A machine without a battery boots with a
    clock that NTP has yet to set. Against that one the times that were written before are in the future, and a block
    of an hour would last for as long as the clock is behind. It counts from now on then. Where a stamp of this boot,
    or a clock that is right, tells better, this changes nothing.
    """
    mesh, entry = mesh_id(mesh), json_fields.as_object(value, mesh)
    since, until = _time(entry, "blockedAt", ahead), _end(entry, ahead)
    if since > now:
        if until is not None and until > since:
            until = now + until - since
        since = now
    return Block(
        mesh=mesh,
        reason=_reason(entry, mesh),
        since=since,
        until=until,
        detail=_words(entry, "detail"),
        actor=_words(entry, "actor") or SERVICE,
        count=max(1, _count(entry, "count")),
        revision=_count(entry, "revision"),
    )


class BlockFile:
    """The file and its copy. Its methods block.

    Attributes:
        copied: whether what was saved last is known, from the copy or because it was us.
    """

    def __init__(self, path: Path, clock: Clock, advice: Advice = FOR_SERVICE) -> None:
        self._advice = advice
        self._path = path
        self._copy = path.with_name(f"{path.name}.saved")
        self.copied = False
        self._clock = clock
        self._known: bytes | None = None  # what was saved or read last, also by an earlier process
        self._saved = False
        self._spoilt = False  # the copy is of no use, and still in its place

    def load_copy(self) -> BlocklistModel:
        """What was saved last; an empty list if nothing was, or the copy is of no use.

        One that is of no use is kept under another name: it may be all that is left of a kick.
        """
        try:
            text = _read(self._copy)
            blocklist = from_json(text, str(self._copy), self._clock)
        except FileNotFoundError:
            return BlocklistModel()
        except (OSError, RaveError) as e:
            reason = e.message if isinstance(e, RaveError) else e.strerror
            self._spoilt = True
            try:
                what = f"it is kept as {self._put_copy_aside()}"
            except OSError as renaming:
                what = f"it can't be renamed: {renaming.strerror}"
            log.warning("%s, the copy of the blocklist, can't be used: %s; %s", self._copy, reason, what)
            return BlocklistModel()
        self._known, self.copied = text, True
        return blocklist

    def read_edit(self) -> BlocklistModel | None:
        """What the file says if that was not saved, or read before; None also for a file that is `missing`.

        Raises `RaveError` (BadFile) for one that can't be used. It is kept under another name then, so that nothing
        overwrites it, and as long as it is there a file that is missing is BadFile, too; and so it is as long as a
        copy that can't be used is there, and no other one.
        """
        try:
            text = _read(self._path)
        except FileNotFoundError:
            kept = [] if self._saved else _damaged(self._path)
            if not kept and not self.copied:
                kept = [self._copy] if self._spoilt else _damaged(self._copy)
            if kept:
                raise self._bad(f"{self._path} is missing; what was there is kept as {kept[-1]}") from None
            return None
        except OSError as e:
            raise self._damaged(e.strerror or str(e)) from e
        if text == self._known:
            return None
        try:
            edit = from_json(text, "it", self._clock)
        except RaveError as e:
            raise self._damaged(e.message) from e
        self._known = text
        return edit

    def missing(self) -> bool:
        """Whether there is no file."""
        return not os.path.lexists(self._path)

    def changed(self) -> bool:
        """Whether the file says something that nobody has read yet, so that saving would overwrite an edit."""
        try:
            return _read(self._path) != self._known
        except OSError:
            # What can't be read is an edit, too.
            return not self.missing()

    def save(self, blocklist: BlocklistModel) -> None:
        """Write both; they are safe on disk when this returns.

        Of a list that is too large the histories are left out. Raises `RaveError` (BadFile), also when that is not
        enough, and `EditedMeanwhile`; both are whole then.
        """
        content = self._content(blocklist)
        if self._spoilt:
            try:
                self._put_copy_aside()
            except OSError as e:
                raise self._unwritable(self._copy, e) from e
        # The copy first: it must know all that the file may ever have said.
        self._write(self._copy, content)
        self.copied = True
        self._write(self._path, content, self._insist_unchanged)
        self._known, self._saved = content, True

    def _content(self, blocklist: BlocklistModel) -> bytes:
        content = to_json(blocklist, self._clock).encode()
        if len(content) > _LARGEST:
            content = to_json(blocklist.without_history(), self._clock).encode()
        if len(content) > _LARGEST:
            text = f"{self._path} can't be written: {len(content)} bytes are more than would be read again"
            hint = f"{self._advice.unblock} takes entries out"
            raise RaveError(Code.BAD_FILE, text, hint=hint, file=str(self._path))
        return content

    def _write(self, path: Path, content: bytes, check: Callable[[], object] = lambda: None) -> None:
        try:
            write_atomically(path, content, 0o600, check=check)
        except OSError as e:
            raise self._unwritable(path, e) from e

    def _unwritable(self, path: Path, error: OSError) -> RaveError:
        hint = "free some space"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            hint = f"the user {user_name(os.geteuid())} must be able to write in its directory"
        return RaveError(Code.BAD_FILE, f"{path} can't be written: {error.strerror}", hint=hint, file=str(path))

    def _put_copy_aside(self) -> Path:
        kept = set_aside(self._copy)
        self._spoilt = False
        return kept

    def _insist_unchanged(self) -> None:
        # Writing the copy and syncing both takes a while, and nobody has looked since.
        if self.changed():
            raise EditedMeanwhile

    def _damaged(self, reason: str) -> RaveError:
        try:
            kept = set_aside(self._path)
        except OSError as e:
            return self._bad(f"{self._path} can't be used: {reason}; it can't be renamed: {e.strerror}")
        return self._bad(f"{self._path} can't be used: {reason}; it is kept as {kept}")

    def _bad(self, text: str) -> RaveError:
        restore = f"mend it and put it back, or {self._advice.restore.format(copy=self._copy)}"
        return RaveError(Code.BAD_FILE, text, hint=restore if self.copied else _BEGIN, file=str(self._path))


def _damaged(path: Path) -> list[Path]:
    """What was set aside in the place of a file, the latest last."""
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def _read(path: Path) -> bytes:
    return text_file.read(path, _LARGEST)


def _stamp(top: json_fields.Object) -> Stamp | None:
    saved = json_fields.opt_object(top, "saved")
    if saved is None:
        return None
    stamp = Stamp(
        wall=json_fields.get_int(saved, "wall"),
        boottime=json_fields.get_int(saved, "boottime"),
        boot=json_fields.get_str(saved, "boot"),
    )
    # One that can't be true would move all times beyond what the bus can carry.
    return stamp if all(0 <= time <= _FARTHEST for time in (stamp.wall, stamp.boottime)) else None


def _memory(mesh: str, value: object, ahead: int) -> MeshMemory:
    entry = json_fields.as_object(value, mesh)
    history = [json_fields.as_object(event, "an event") for event in json_fields.opt_list(entry, "history") or []]
    return MeshMemory(
        failures=_count(entry, "failures"),
        failing_since=None if entry.get("failingSince") is None else _time(entry, "failingSince", ahead),
        last_error=_words(entry, "lastError"),
        blocks=_count(entry, "blocks"),
        quarantines=_count(entry, "quarantines"),
        alone=json_fields.opt_bool(entry, "alone") or False,
        at=_time(entry, "at", ahead) if "at" in entry else -ahead,
        history=tuple(
            HistoryEvent(
                at=_time(event, "at", ahead),
                what=_member(_WHATS, json_fields.get_str(event, "what"), "an event"),
                reason=_reason(event, "an event"),
                actor=_words(event, "actor") or SERVICE,
                detail=_words(event, "detail"),
            )
            for event in history
        ),
    )


def _reason(entry: json_fields.Object, where: str) -> Reason:
    value = entry.get("reason")
    if type(value) is str and value in _REASONS:
        return _REASONS[value]
    return _member(_REASONS, json_fields.get_str(entry, "reason"), where)


def _member(known: dict[str, E], text: str, where: str) -> E:
    if text not in known:
        text = f"the entry of {where} says {text[:80]!r} where it may say {', '.join(known)}"
        raise RaveError(Code.BAD_DATA, text)
    return known[text]


def _time(entry: json_fields.Object, key: str, ahead: int) -> int:
    """A time of the file on the steady scale, within what can be reckoned with and written again."""
    value = entry.get(key)
    if type(value) is not int or abs(value) > _FARTHEST:
        value = json_fields.get_int(entry, key)
    return max(-_FARTHEST, min(value - ahead, _FARTHEST))


def _end(entry: json_fields.Object, ahead: int) -> int | None:
    """The time until which an entry blocks; None for ever."""
    if entry.get("blockedUntil") is None:
        return None
    # What is too far away to reckon with is never.
    return None if json_fields.get_int(entry, "blockedUntil") > _FARTHEST else _time(entry, "blockedUntil", ahead)


def _count(entry: json_fields.Object, key: str) -> int:
    value = entry.get(key)
    if type(value) is int and 0 <= value <= MOST_COUNT:
        return value
    return min(max(0, json_fields.opt_int(entry, key) or 0), MOST_COUNT)


def _words(entry: json_fields.Object, key: str) -> str:
    """A text on one line that can be written again: JSON may hold half of a surrogate pair, UTF-8 may not."""
    value = entry.get(key)
    if type(value) is str and len(value) <= LONGEST_WORDS and value.isprintable():
        return value
    return printable(json_fields.opt_str(entry, key), LONGEST_WORDS)
