"""The blocklist in a file that people may edit: `blocklist.json`, as users of the reference implementation know it.

`blockedMeshes` maps a mesh id to `{meshId, reason, blockedAt, blockedUntil}`, times in milliseconds since the epoch,
null for ever. Ours has more keys in each entry, `detail`, `actor`, `count`, `revision` and `title`; and beside
`blockedMeshes` the `revision` of the text, `saved` (a `Stamp`), and `meshes`, what is remembered of meshes whether
blocked or not; of one that was blocked once, as its entry says, only when (`at`) and how often (`blocks`,
`quarantines`). A file without these loads as well.

Beside it is a copy of the text that was written last, `blocklist.json.saved`. Where the file differs from the copy,
an operator has edited it, perhaps while the service was stopped.
"""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from ravesvc.blocklist.model import (
    MAX_COUNT,
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
from ravesvc.common.atomic_files import damaged, retire_damaged, set_aside, write_atomically
from ravesvc.common.steady_clock import Clock, Stamp
from ravesvc.common.text import printable, user_name
from ravesvc.config.advice import FOR_SERVICE, Advice
from ravesvc.errors import Code, RaveError
from ravesvc.names import mesh_id

E = TypeVar("E", bound=StrEnum)

log = logging.getLogger(__name__)

# Some ten thousand entries with their histories. A larger file is neither read nor written.
_MAX_FILE_BYTES = 16 * 1024 * 1024
# Some 280 000 years.
_MAX_TIME_MS = 2**53
# Of a detail, an error or a name. They may come from strangers, and they go to the log and the bus.
MAX_TEXT_CHARS = 300
_START_EMPTY_HINT = (
    'fix it and put it back, or, to begin with an empty list on purpose, write {"blockedMeshes": {}} into it'
)


# A text as JSON, without an encoder around it: a list has thousands of texts, and is written after each change.
_quote = json.encoder.encode_basestring

# Looking a value up in a dictionary is much faster than calling the enumeration, and there may be thousands.
_REASONS_BY_NAME = {reason.value: reason for reason in Reason}
# The keys of the memory of a mesh that was blocked once; the rest is in its entry.
_SHORT_MEMORY_KEYS = {"at", "blocks", "quarantines"}
_EVENTS_BY_NAME = {what.value: what for what in What}


class HistoryTexts:
    """Histories as JSON, by mesh. The list is written after each change, and few histories have changed by then."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[tuple[HistoryEvent, ...], int, str]] = {}

    def text(self, mesh: str, history: tuple[HistoryEvent, ...], ahead: int) -> str:
        """The history of a mesh, with times that are `ahead` milliseconds ahead."""
        written = self._written.get(mesh)
        if written and written[0] is history and written[1] == ahead:
            return written[2]
        events = [
            f'{{"at": {event.at + ahead}, "what": "{event.what}", "reason": "{event.reason}", '
            f'"actor": {_quote(event.actor)}, "detail": {_quote(event.detail)}}}'
            for event in history
        ]
        text = f"[{', '.join(events)}]"
        self._written[mesh] = history, ahead, text
        return text

    def forget_all_but(self, meshes: Collection[str]) -> None:
        """Drop histories, when there are more than `meshes`, the meshes that the list has now."""
        if len(self._written) > len(meshes):
            self._written = {mesh: kept for mesh, kept in self._written.items() if mesh in meshes}


def to_json(blocklist: BlocklistModel, clock: Clock, histories: HistoryTexts | None = None) -> str:
    """The text of the file: JSON for people, with a line for each value of an entry.

    `histories` are those that were written before.
    """
    ahead, histories = clock.jump(), histories or HistoryTexts()
    histories.forget_all_but(blocklist.remembered.keys())
    blocks = {block.mesh: block for block in blocklist}
    entries = [_entry_text(block, ahead) for block in blocklist]
    memories = [
        _memory_text(mesh, kept, blocks.get(mesh), ahead, histories) for mesh, kept in blocklist.remembered.items()
    ]
    return (
        f'{{\n  "revision": {blocklist.revision},\n'
        f'  "saved": {json.dumps(dataclasses.asdict(clock.stamp()))},\n'
        f'  "blockedMeshes": {_object_text(entries)},\n'
        f'  "meshes": {_object_text(memories)}\n}}\n'
    )


def _object_text(members: list[str]) -> str:
    return "{\n" + ",\n".join(members) + "\n  }" if members else "{}"


def _time_text(time: int | None, ahead: int) -> str:
    return "null" if time is None else str(time + ahead)


def _entry_text(block: Block, ahead: int) -> str:
    mesh = _quote(block.mesh)
    return (
        f"    {mesh}: {{\n"
        f'      "meshId": {mesh},\n'
        f'      "reason": "{block.reason}",\n'
        f'      "blockedAt": {block.since + ahead},\n'
        f'      "blockedUntil": {_time_text(block.until, ahead)},\n'
        f'      "detail": {_quote(block.detail)},\n'
        f'      "actor": {_quote(block.actor)},\n'
        f'      "count": {block.count},\n'
        f'      "revision": {block.revision},\n'
        f'      "title": {_quote(block.title)}\n    }}'
    )


def _memory_text(mesh: str, kept: MeshMemory | Once, block: Block | None, ahead: int, histories: HistoryTexts) -> str:
    if _is_short(kept, block):
        # Most meshes of a long list were blocked once. Their entries say that, so their histories are left out, which
        # makes reading faster too.
        return (
            f"    {_quote(mesh)}: {{\n"
            f'      "at": {kept.at + ahead},\n'
            f'      "blocks": {kept.blocks},\n'
            f'      "quarantines": {kept.quarantines}\n    }}'
        )
    memory = kept.memory() if isinstance(kept, Once) else kept
    return (
        f"    {_quote(mesh)}: {{\n"
        f'      "failures": {memory.failures},\n'
        f'      "failingSince": {_time_text(memory.failing_since, ahead)},\n'
        f'      "lastError": {_quote(memory.last_error)},\n'
        f'      "blocks": {memory.blocks},\n'
        f'      "quarantines": {memory.quarantines},\n'
        f'      "alone": {"true" if memory.alone else "false"},\n'
        f'      "at": {memory.at + ahead},\n'
        f'      "history": {histories.text(mesh, memory.history, ahead)}\n    }}'
    )


def _is_short(kept: MeshMemory | Once, block: Block | None) -> bool:
    """Whether the history of a mesh follows from its entry."""
    if block is None:
        return False
    if isinstance(kept, Once) and kept.block is block:
        return True
    memory = kept.memory() if isinstance(kept, Once) else kept
    return len(memory.history) == 1 and memory == Once(block, memory.at, memory.blocks, memory.quarantines).memory()


def from_json(text: str | bytes, what: str, clock: Clock) -> BlocklistModel:
    """Read the text of a file; raises `RaveError` (BadData, InvalidArgument).

    One bad entry makes the whole file unusable: it may be a kick, and a bot must not join where it was kicked.
    """
    with _collector_paused():
        return _from_object(json_fields.parse_object(text, what), clock)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector while many objects are made that all stay alive."""
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
            if mesh in blocks and isinstance(entry, dict) and entry.keys() == _SHORT_MEMORY_KEYS
            else _memory(mesh_id(mesh), entry, ahead)
            for mesh, entry in memories.items()
        },
        revision=_count(top, "revision"),
    )


class EditedMeanwhile(Exception):  # noqa: N818 - that is no error
    """An operator has edited the file during a save; the edit is still there."""


def read_entry(mesh: str, value: object, now: int, ahead: int = 0) -> Block:
    """One entry of `blockedMeshes`, with times that are `ahead` milliseconds ahead; raises as `from_json`.

    An entry that begins in the future is moved to begin now, and keeps its length. Scenario: a machine without a
    battery boots in 1970, and NTP has not set its clock yet. All times in the file are then in the future, and a
    block of an hour would last for decades. With a stamp of this boot or a right clock no entry is in the future.
    """
    mesh, entry = mesh_id(mesh), json_fields.as_object(value, mesh)
    since, until = _time(entry, "blockedAt", ahead), _until(entry, ahead)
    if since > now:
        if until is not None and until > since:
            until = now + until - since
        since = now
    return Block(
        mesh=mesh,
        reason=_reason(entry, mesh),
        since=since,
        until=until,
        detail=_text(entry, "detail"),
        actor=_text(entry, "actor") or SERVICE,
        count=max(1, _count(entry, "count")),
        revision=_count(entry, "revision"),
        title=_text(entry, "title"),
    )


class BlockFile:
    """The file and its copy. Its methods block.

    Attributes:
        has_copy: whether the list that was saved last is known, from the copy or because this process saved it.
    """

    def __init__(self, path: Path, clock: Clock, advice: Advice = FOR_SERVICE) -> None:
        self._advice = advice
        self._path = path
        self._copy = path.with_name(f"{path.name}.saved")
        self.has_copy = False
        self._clock = clock
        self._histories = HistoryTexts()
        self._last_content: bytes | None = None  # what was saved or read last, also by an earlier process
        self._has_saved = False
        self._copy_unusable = False  # the copy can't be read, and is still in its place
        # Whether the list was good so far. An earlier damage is over when it is good at a start.
        self._good_so_far = True

    def load_copy(self) -> BlocklistModel:
        """The list that was saved last; an empty one if there is no copy or it can't be used.

        A copy that can't be used is renamed and kept: it may hold the only trace of a kick.
        """
        try:
            text = _read(self._copy)
            blocklist = from_json(text, str(self._copy), self._clock)
        except FileNotFoundError:
            return BlocklistModel()
        except (OSError, RaveError) as e:
            reason = e.message if isinstance(e, RaveError) else e.strerror
            self._copy_unusable, self._good_so_far = True, False
            try:
                what = f"it is kept as {self._set_copy_aside()}"
            except OSError as renaming:
                what = f"it can't be renamed: {renaming.strerror}"
            log.warning("%s, the copy of the blocklist, can't be used: %s; %s", self._copy, reason, what)
            return BlocklistModel()
        self._last_content, self.has_copy = text, True
        return blocklist

    def read_edit(self) -> BlocklistModel | None:
        """The list in the file if an operator has edited it; None if they have not, or the file is missing.

        Raises `RaveError` (BadFile) for a file that can't be used, and renames it, so that no save overwrites it.
        While a renamed file is there, a missing file is BadFile as well. The same goes for a renamed copy while there
        is no good one.
        """
        try:
            text = _read(self._path)
        except FileNotFoundError:
            kept = [] if self._has_saved else damaged(self._path)
            if not kept and not self.has_copy:
                kept = [self._copy] if self._copy_unusable else damaged(self._copy)
            if kept:
                raise self._bad_file(f"{self._path} is missing; what was there is kept as {kept[-1]}") from None
            return None
        except OSError as e:
            raise self._set_aside(e.strerror or str(e)) from e
        if text == self._last_content:
            self._forget_damage()
            return None
        try:
            edit = from_json(text, "it", self._clock)
        except RaveError as e:
            raise self._set_aside(e.message) from e
        self._forget_damage()
        self._last_content = text
        return edit

    def is_missing(self) -> bool:
        """Whether there is no file."""
        return not os.path.lexists(self._path)

    def has_unread_edit(self) -> bool:
        """Whether the file has an edit that was not read yet, which a save would overwrite."""
        try:
            return _read(self._path) != self._last_content
        except OSError:
            # A file that can't be read counts as an edit.
            return not self.is_missing()

    def save(self, blocklist: BlocklistModel) -> None:
        """Write the copy and the file; both are safe on disk when this returns.

        The histories of a list that is too large are left out. Raises `RaveError` (BadFile), also when the list is
        still too large, and `EditedMeanwhile`. After an error each of the two has its old or its new text, whole.
        """
        content = self._content(blocklist)
        if self._copy_unusable:
            try:
                self._set_copy_aside()
            except OSError as e:
                raise self._unwritable(self._copy, e) from e
        # The copy first. If a crash came between the two and the file were new, the copy old, then at the next start
        # our own changes would look like an operator's edit.
        self._write(self._copy, content)
        self.has_copy = True
        self._write(self._path, content, self._check_unchanged)
        self._last_content, self._has_saved = content, True

    def _content(self, blocklist: BlocklistModel) -> bytes:
        content = to_json(blocklist, self._clock, self._histories).encode()
        if len(content) > _MAX_FILE_BYTES:
            content = to_json(blocklist.without_history(), self._clock).encode()
        if len(content) > _MAX_FILE_BYTES:
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

    def _set_copy_aside(self) -> Path:
        kept = set_aside(self._copy)
        self._copy_unusable = False
        return kept

    def _check_unchanged(self) -> None:
        # Writing and syncing the copy takes a while, in which an operator may have edited the file.
        if self.has_unread_edit():
            raise EditedMeanwhile

    def _set_aside(self, reason: str) -> RaveError:
        try:
            kept = set_aside(self._path)
        except OSError as e:
            return self._bad_file(f"{self._path} can't be used: {reason}; it can't be renamed: {e.strerror}")
        return self._bad_file(f"{self._path} can't be used: {reason}; it is kept as {kept}")

    def _forget_damage(self) -> None:
        if self._good_so_far:
            self._good_so_far = False
            for path in self._path, self._copy:
                retire_damaged(path)

    def _bad_file(self, text: str) -> RaveError:
        self._good_so_far = False
        restore = f"fix it and put it back, or {self._advice.restore.format(copy=self._copy)}"
        return RaveError(
            Code.BAD_FILE, text, hint=restore if self.has_copy else _START_EMPTY_HINT, file=str(self._path)
        )


def _read(path: Path) -> bytes:
    return text_file.read(path, _MAX_FILE_BYTES)


def _stamp(top: json_fields.Object) -> Stamp | None:
    saved = json_fields.opt_object(top, "saved")
    if saved is None:
        return None
    stamp = Stamp(
        wall=json_fields.get_int(saved, "wall"),
        boottime=json_fields.get_int(saved, "boottime"),
        boot=json_fields.get_str(saved, "boot"),
    )
    # An impossible stamp would move all times beyond the range of the bus.
    return stamp if all(0 <= time <= _MAX_TIME_MS for time in (stamp.wall, stamp.boottime)) else None


def _memory(mesh: str, value: object, ahead: int) -> MeshMemory:
    entry = json_fields.as_object(value, mesh)
    history = [json_fields.as_object(event, "an event") for event in json_fields.opt_list(entry, "history") or []]
    return MeshMemory(
        failures=_count(entry, "failures"),
        failing_since=None if entry.get("failingSince") is None else _time(entry, "failingSince", ahead),
        last_error=_text(entry, "lastError"),
        blocks=_count(entry, "blocks"),
        quarantines=_count(entry, "quarantines"),
        alone=json_fields.opt_bool(entry, "alone") or False,
        at=_time(entry, "at", ahead) if "at" in entry else -ahead,
        history=tuple(
            HistoryEvent(
                at=_time(event, "at", ahead),
                what=_member(_EVENTS_BY_NAME, json_fields.get_str(event, "what"), "an event"),
                reason=_reason(event, "an event"),
                actor=_text(event, "actor") or SERVICE,
                detail=_text(event, "detail"),
            )
            for event in history
        ),
    )


def _reason(entry: json_fields.Object, where: str) -> Reason:
    value = entry.get("reason")
    if type(value) is str and value in _REASONS_BY_NAME:
        return _REASONS_BY_NAME[value]
    return _member(_REASONS_BY_NAME, json_fields.get_str(entry, "reason"), where)


def _member(known: dict[str, E], text: str, where: str) -> E:
    if text not in known:
        text = f"the entry of {where} says {text[:80]!r} where it may say {', '.join(known)}"
        raise RaveError(Code.BAD_DATA, text)
    return known[text]


def _time(entry: json_fields.Object, key: str, ahead: int) -> int:
    """A time of the file, converted to the steady scale and limited to what can be written again."""
    value = entry.get(key)
    if type(value) is not int or abs(value) > _MAX_TIME_MS:
        value = json_fields.get_int(entry, key)
    return max(-_MAX_TIME_MS, min(value - ahead, _MAX_TIME_MS))


def _until(entry: json_fields.Object, ahead: int) -> int | None:
    """The time until which an entry blocks; None for ever."""
    if entry.get("blockedUntil") is None:
        return None
    # A time beyond the range means for ever.
    return None if json_fields.get_int(entry, "blockedUntil") > _MAX_TIME_MS else _time(entry, "blockedUntil", ahead)


def _count(entry: json_fields.Object, key: str) -> int:
    value = entry.get(key)
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    return min(max(0, json_fields.opt_int(entry, key) or 0), MAX_COUNT)


def _text(entry: json_fields.Object, key: str) -> str:
    """A text on one line that can be written again: JSON may hold half of a surrogate pair, UTF-8 may not."""
    value = entry.get(key)
    if type(value) is str and len(value) <= MAX_TEXT_CHARS and value.isprintable():
        return value
    return printable(json_fields.opt_str(entry, key), MAX_TEXT_CHARS)
