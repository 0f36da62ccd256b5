"""From an entry of a corpus to something a little, or very, different."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

# Bytes of one input. Larger ones are for tests of the limits of size.
MAX_BYTES = 64 << 10

# What has broken programs before: ends of ranges, marks of formats, what a shell or a terminal acts upon.
_TOKENS = (
    *(b"\0", b"\n", b"\r\n", b"\\", b'"', b"'", b"$(id)", b"`id`", b"\x1b[2J", b"\xef\xbb\xbf", b"\xff", b"\xc0\x80"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"%s", b"../"),
    *(b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"9223372036854775808", b"0x", b"null", b"true", b"\\ud800"),
    *(b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\xe2\x80\xae", b"\xed\xa0\x80"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e300, float("nan")),
    *(float("inf"), "", " ", "\0", "\ud800", "\n", "\\", "\u202e", "-1", "0x10", "9" * 30, "x" * 5000, [], {}, [[]]),
    *([None], {"": None}, "$(id)", "NaN", "١٢٣", "2026-02-30T25:61:00.000Z", "https://[::1", "r: x"),
)


def mutated(rng: random.Random, entries: list[bytes]) -> bytes:
    """One to eight mutations of one of the entries, at most `MAX_BYTES` long."""
    data = rng.choice(entries)
    if rng.random() < 0.5:
        data = _with_values_changed(rng, data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4, 8))):
        data = rng.choice(_BYTEWISE)(rng, data, entries)[:MAX_BYTES]
    return data[:MAX_BYTES]


def _with_values_changed(rng: random.Random, data: bytes) -> bytes:
    """Other values in a JSON document, or other keys; what is no JSON stays as it is."""
    try:
        top = json.loads(data)
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.randint(1, 4)):
        # The document itself is a place as well.
        holder = {"": top}
        places = list(_places(holder))
        container, key = rng.choice(places)
        _change(rng, container, key, places)
        top = holder.get("")
    return json.dumps(top, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")


def _places(container: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    keys = list(container) if isinstance(container, dict) else range(len(container))
    for key in keys:
        yield container, key
        # What is deeper was nested by an earlier change.
        if isinstance(container[key], (dict, list)) and depth < 40:
            yield from _places(container[key], depth + 1)


def _change(rng: random.Random, container: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    kind = rng.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1:
        # A copy: a document that holds itself can't be written.
        other, at = rng.choice(places)
        container[key] = json.loads(json.dumps(other[at]))
    elif kind == 2 and isinstance(container[key], list) and container[key]:
        container[key] *= rng.choice((2, 50))
    elif kind == 3:
        for _ in range(rng.choice((1, 20))):
            container[key] = rng.choice(([container[key]], {"x": container[key]}))
    else:
        # A copy, for a later change is made in it.
        container[key] = copy.deepcopy(rng.choice(_VALUES))


def _flip(rng: random.Random, data: bytes, _entries: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4)) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: random.Random, data: bytes, _entries: list[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    token = rng.choice(_TOKENS)
    return data[:at] + token + data[at + len(token) :]


def _insert(rng: random.Random, data: bytes, _entries: list[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(_TOKENS) * rng.choice((1, 1, 1, 3, 300)) + data[at:]


def _delete(rng: random.Random, data: bytes, _entries: list[bytes]) -> bytes:
    start, end = _slice(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, _entries: list[bytes]) -> bytes:
    start, end = _slice(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 10, 1000)) + data[end:]


def _cut(rng: random.Random, data: bytes, _entries: list[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _splice(rng: random.Random, data: bytes, entries: list[bytes]) -> bytes:
    other = rng.choice(entries)
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _slice(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 64, 1000)))


_BYTEWISE = (_flip, _overwrite, _insert, _delete, _repeat, _cut, _splice)
