"""Pictures: the types that clients may upload, recognized by their first bytes, and thumbnails for the provider."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

# The first bytes of each type that Rave is known to accept.
KINDS: Mapping[str, Callable[[bytes], bool]] = {
    "image/jpeg": lambda content: content.startswith(b"\xff\xd8\xff"),
    "image/png": lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/gif": lambda content: content[:6] in (b"GIF87a", b"GIF89a"),
    "image/webp": lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP",
    "video/mp4": lambda content: content[4:8] == b"ftyp",
    "video/quicktime": lambda content: content[4:8] in (b"ftyp", b"moov"),
    "video/webm": lambda content: content.startswith(b"\x1a\x45\xdf\xa3"),
}

_BLOCK_PIXELS = 8


def jpeg(name: str, width: int, height: int) -> bytes:
    """A picture of one grey, which depends on the name: baseline, one component.

    All blocks but the first say that they are like the one before. Two code words are enough for the differences of
    their means (0: none, 10: one of six bits), and one for the end of a block (0).
    """
    grey = 32 + hashlib.sha256(name.encode()).digest()[0] % 32
    blocks = -(-width // _BLOCK_PIXELS) * -(-height // _BLOCK_PIXELS)
    bits = f"10{grey:06b}0" + "00" * (blocks - 1)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\x00")
    size = height.to_bytes(2) + width.to_bytes(2)
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            _segment(0xDB, b"\0" + bytes([_BLOCK_PIXELS]) * 64),
            _segment(0xC0, b"\x08" + size + b"\x01\x01\x11\0"),
            _segment(0xC4, b"\0" + _counts(1, 1) + b"\0\x06"),
            _segment(0xC4, b"\x10" + _counts(1) + b"\0"),
            _segment(0xDA, b"\x01\x01\0\0\x3f\0"),
            scan,
            b"\xff\xd9",
        )
    )


def _counts(*counts: int) -> bytes:
    """How many code words there are of each length from 1 to 16."""
    return bytes(counts).ljust(16, b"\0")


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2) + content
