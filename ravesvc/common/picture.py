"""Pictures for the chat: the type by their content, and a limit for their size. Nothing is decoded.

A name or a header may be wrong, and so may the size that a picture claims: what is read of it is bounded. The
apps that show it have to decode it anyway.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, TypeAlias

from ravesvc.errors import Code, RaveError

MAX_BYTES = 8 << 20
# 8000 x 5000: a small file may promise more than the memory of those who look at it.
MAX_PIXELS = 40_000_000

_CHUNK_BYTES = 64 << 10
# What comes before the size of a JPEG: a profile may take 255 segments.
_MAX_SEGMENTS = 1000

# Called with an offset and a number of bytes; returns fewer at the end.
ReadAt: TypeAlias = Callable[[int, int], bytes]


class Media(NamedTuple):
    """A picture or clip of a chat message.

    Attributes:
        url: where it is.
        mime: such as image/jpeg.
        aspect_ratio: width divided by height, such as "0.56"; empty if unknown.
    """

    url: str
    mime: str
    aspect_ratio: str = ""


class Form(NamedTuple):
    """The type of a picture, and its size in pixels, by its own header."""

    mime: str
    width: int
    height: int


class Picture:
    """A picture that can be sent. Close it, or use it in a `with`.

    Attributes:
        mime: image/jpeg, image/png, image/gif or image/webp.
        width, height: in pixels.
        size: in bytes.
    """

    def __init__(self, source: bytes | int) -> None:
        """Look at a picture: its bytes, or the descriptor of a file that has them, which is ours from now on.

        Raises `RaveError`: BadData if it is no picture of these types, TooLarge beyond `MAX_BYTES` or `MAX_PIXELS`.
        """
        self._source = _Bytes(source) if isinstance(source, bytes) else _File(source)
        try:
            self.size = self._source.size()
            self.mime, self.width, self.height = examine(self._source.read, self.size)
        except BaseException:
            self._source.close()
            raise

    @property
    def aspect_ratio(self) -> str:
        """As in `Media`."""
        return f"{self.width / self.height:.2f}"

    def chunks(self) -> Iterator[bytes]:
        """All of its bytes, for another thread as well. Raises `RaveError` (BadData) when the file got shorter."""
        for offset in range(0, self.size, _CHUNK_BYTES):
            wanted = min(_CHUNK_BYTES, self.size - offset)
            chunk = self._source.read(offset, wanted)
            if len(chunk) != wanted:
                raise RaveError(Code.BAD_DATA, "the picture was cut short while it was sent")
            yield chunk

    def close(self) -> None:
        """Close the file; reading after that is an error."""
        self._source.close()

    def __enter__(self) -> Picture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]

    def close(self) -> None:
        """Nothing has to be closed."""


class _File:
    """A descriptor that one thread reads and another may close.

    Without the lock: the upload is cancelled, the file closed, its number given to another file, and that one is sent
    by the thread of the upload.
    """

    def __init__(self, descriptor: int) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = descriptor

    def size(self) -> int:
        status = os.fstat(self._open())
        if not stat.S_ISREG(status.st_mode):
            raise _no_picture()
        return status.st_size

    def read(self, offset: int, count: int) -> bytes:
        with self._lock:
            try:
                return os.pread(self._open(), count, offset)
            except OSError as e:
                raise RaveError(Code.BAD_DATA, f"the picture can't be read: {e.strerror}") from None

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            raise RaveError(Code.CLOSED, "the picture is no longer there")
        return self._descriptor


def examine(read: ReadAt, size: int) -> Form:
    """What a picture of `size` bytes is. Raises as `Picture` does."""
    if size > MAX_BYTES:
        raise RaveError(Code.TOO_LARGE, f"the picture has more than {MAX_BYTES >> 20} MiB")
    head = read(0, 32)
    found = next((form for looks in (_png, _gif, _webp) if (form := looks(head))), None) or _jpeg(head, read)
    if found is None or not found.width or not found.height:
        raise _no_picture()
    if found.width * found.height > MAX_PIXELS:
        raise RaveError(Code.TOO_LARGE, f"the picture has more than {MAX_PIXELS // 1_000_000} million pixels")
    return found


def _png(head: bytes) -> Form | None:
    if not head.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR") or len(head) < 24:
        return None
    return Form("image/png", int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))


def _gif(head: bytes) -> Form | None:
    if not head.startswith((b"GIF87a", b"GIF89a")) or len(head) < 10:
        return None
    return Form("image/gif", int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))


def _webp(head: bytes) -> Form | None:
    """One of three kinds: lossy, lossless, or extended, which has a canvas."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    kind, content = head[12:16], head[20:]
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        width, height = int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")
        # The two upper bits scale.
        return Form("image/webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and content[0] == 0x2F:
        bits = int.from_bytes(content[1:5], "little")
        return Form("image/webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        width, height = int.from_bytes(content[4:7], "little"), int.from_bytes(content[7:10], "little")
        return Form("image/webp", width + 1, height + 1)
    return None


def _jpeg(head: bytes, read: ReadAt) -> Form | None:
    """A chain of segments, each with its length; the one that begins a frame has the size."""
    if not head.startswith(b"\xff\xd8\xff"):
        return None
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        segment = read(offset, 9)
        if len(segment) < 9 or segment[0] != 0xFF:
            return None
        marker, length = segment[1], int.from_bytes(segment[2:4], "big")
        if marker == 0xFF:
            # Filled up: the marker comes later.
            offset += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
            return Form("image/jpeg", width, height)
        elif length < 2 or marker in (0xD9, 0xDA):
            # The picture itself, or its end: no size comes after that.
            return None
        else:
            offset += 2 + length
    return None


def _no_picture() -> RaveError:
    return RaveError(Code.BAD_DATA, "that is no picture in JPEG, PNG, GIF or WebP")
