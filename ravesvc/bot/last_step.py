"""Which plugin runs at this moment, in memory that outlives the process: so it is known what ran when it ended.

Scenario: a plugin crashes the interpreter, or keeps the event loop waiting in a way that nothing interrupts, until
the watchdog ends the process. The next process reads from this memory which plugin that was. It leaves that version
off, and says so. Without that it would be the same again and again, until the room is blocked.

A process whose memory is all taken by a plugin is the same case: it ends at once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import TypeAlias

from ravesvc.names import ExitStatus

log = logging.getLogger(__name__)

SIZE_BYTES = 4096
# The first byte has the number of the plugin that runs; text follows.
_TEXT = 1
_MAX_NUMBER = 255
_NOTHING = b"\0"
# What a bot needs to go on.
_SPARE_BYTES = 8 << 20

# Writes bytes into the memory, from a place on.
Memory: TypeAlias = Callable[[bytes, int], object]


class Mark:
    """A context manager in which one plugin runs. It is entered for each step, so it has to be cheap."""

    __slots__ = ("_memory", "_number", "_source")

    def __init__(self, memory: Memory, number: bytes, source: str) -> None:
        self._memory = memory
        self._number = number
        self._source = source

    def __enter__(self) -> None:
        self._memory(self._number, 0)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is MemoryError and self._number != _NOTHING and _is_exhausted():
            # Whatever this process does next would fail, for want of memory that the plugin does not give back.
            log.critical("%s has taken all memory that a bot may have: the process ends", self._source)
            os._exit(ExitStatus.CRASHED)
        self._memory(_NOTHING, 0)


class LastStep:
    """The plugins of this process, and which of their versions are off.

    Args:
        left: what the process before has left in its memory; all zeros if there was none.
        memory: of this process, `SIZE_BYTES`.

    Attributes:
        culprit: the plugin that ran when the process before ended: source and version. None if none did.
        off: the versions that are not loaded, because a process has ended while they ran, by source.
    """

    def __init__(self, left: bytes, memory: Memory) -> None:
        self._memory = memory
        self._numbers: dict[str, int] = {}
        self._versions: dict[str, str] = {}
        self.culprit, self.off = _read(left)
        if self.culprit:
            # What is off stays so, also if this process ends before it loads a plugin.
            memory(_NOTHING, 0)
            self._write()

    def mark(self, source: str, version: str) -> Mark:
        """The mark of a version of a plugin that is about to be loaded."""
        number = self._numbers.setdefault(source, len(self._numbers) + 1)
        self._versions[source] = version
        # What was off is another version by now.
        self.off.pop(source, None)
        fits = number <= _MAX_NUMBER and self._write()
        return Mark(self._memory, bytes([number]) if fits else _NOTHING, source)

    def _write(self) -> bool:
        """Whether all of it has a place."""
        plugins = [[number, source, self._versions[source]] for source, number in self._numbers.items()]
        text = json.dumps({"plugins": plugins, "off": self.off}).encode()
        room = SIZE_BYTES - _TEXT
        if len(text) > room:
            return False
        self._memory(text.ljust(room, b"\0"), _TEXT)
        return True


# Of what has no process of its own.
NO_MARK = Mark(lambda what, where: None, _NOTHING, "")


def _is_exhausted() -> bool:
    """Whether the memory is gone, and not only what was asked for too large."""
    try:
        bytearray(_SPARE_BYTES)
    except MemoryError:
        return True
    return False


def _read(left: bytes) -> tuple[tuple[str, str] | None, dict[str, str]]:
    """What the process before has left. A bot that was taken over may have left anything: that counts as nothing."""
    try:
        found = json.loads(left[_TEXT:].rstrip(b"\0"))
        off = {_text(source): _text(version) for source, version in dict(found["off"]).items()}
        plugins = {number: (_text(source), _text(version)) for number, source, version in found["plugins"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, {}
    culprit = plugins.get(left[0])
    return culprit, off | dict([culprit] if culprit else [])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
