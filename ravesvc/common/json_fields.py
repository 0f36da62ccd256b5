"""Typed access to untrusted JSON from the network, the bus or a file.

Each getter returns a value of the promised type or raises `RaveError` (BadData) that names the key; nothing deeper in
the program then meets a KeyError, or a text where a number should be. The `opt_` getters return None for a key that
is absent or null, and still refuse a wrong type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from ravesvc.common.text import count
from ravesvc.errors import Code, RaveError

# A decoded JSON object whose values are not checked yet.
Object: TypeAlias = Mapping[str, Any]

# The bus, a database or a clock takes no more; JSON itself has no limit.
_MAX_INT = 2**63 - 1
_NUMBER_BOUND = 1e300
# Values in one message of a server. The state of a room with 10 000 people has some 70 000. Decoding holds the
# whole process up, in a thread as well: that many take 5 to 20 ms, and up to 50 if no two keys are the same.
MAX_VALUES = 75_000
# The longest number in a text of more than 64 Ki characters; ours have at most 25. Reading an integer takes the
# square of its digits, of which Python allows 4300. One with a point or an exponent takes 5 us from some 41 digits on
# if it lies half way between two that Python knows, and under 1 us before. 5 MB of either took 0.2 to 0.5 s, 64 kB
# take 6 ms.
_MAX_NUMBER_CHARS, _SHORT_TEXT_CHARS = 30, 64 * 1024
_LONG_NUMBER = b"0" * (_MAX_NUMBER_CHARS + 1)
# The point is one as well: digits before and after it are those of one number.
_EVERY_DIGIT_TO_0 = bytes.maketrans(b"123456789.", b"0000000000")


def parse_object(text: str | bytes, what: str) -> Object:
    """Decode a JSON object; `what` names it in the error (the text itself never does: it may hold a secret)."""
    try:
        plain = text if isinstance(text, str) else text.decode()
        value = _decode(plain.removeprefix("\ufeff"))
    except json.JSONDecodeError as e:
        # Of its own words, not of the text.
        raise RaveError(Code.BAD_DATA, f"{what} is not valid JSON (line {e.lineno}: {e.msg})", line=e.lineno) from e
    except (ValueError, RecursionError) as e:
        raise RaveError(Code.BAD_DATA, f"{what} is not valid JSON") from e
    return as_object(value, what)


def parse_message(text: str | bytes, what: str) -> Object:
    """As `parse_object`, for what a server sends: raises `RaveError` (TooLarge) beyond `MAX_VALUES`, undecoded.

    Each value but the first follows a comma or a bracket. What stands in strings is counted as well, which is too
    many, but never too few.
    """
    if len(text) > MAX_VALUES and (found := _separators(text)) > MAX_VALUES:
        raise RaveError(Code.TOO_LARGE, f"{what} has {found} values, where {MAX_VALUES} are the limit")
    return parse_object(text, what)


def _decode(text: str) -> Any:
    """The value of a JSON text, in a time that grows with its length and not faster.

    Hooks for numbers take 0.2 us for each, half as long again for a large room. So there are some only where they may
    be needed; to look for that takes 1 ms for each MB. The digits may stand in a string as well, which is fine.
    The worst case that remains are `MAX_VALUES` numbers of just the allowed length: 60 to 90 ms.
    """
    if len(text) > _SHORT_TEXT_CHARS and _LONG_NUMBER in text.encode(errors="replace").translate(_EVERY_DIGIT_TO_0):
        return json.loads(text, parse_int=_short_integer, parse_float=_short_float)
    return json.loads(text)


def _short_integer(number: str) -> int:
    return int(_short(number))


def _short_float(number: str) -> float:
    return float(_short(number))


def _short(number: str) -> str:
    if len(number) > _MAX_NUMBER_CHARS:
        raise ValueError(f"a number of {count(len(number), 'character')}")
    return number


def _separators(text: str | bytes) -> int:
    return sum(map(text.count, ",[{") if isinstance(text, str) else map(text.count, (b",", b"[", b"{")))


def as_object(value: object, what: str) -> Object:
    """Return `value` if it is a JSON object."""
    if not isinstance(value, dict):
        raise _wrong(what, "an object", value)
    return value


def get_str(source: Object, key: str) -> str:
    """A text, which may be empty."""
    value = source.get(key)
    if not isinstance(value, str):
        raise _wrong(key, "a text", value)
    return value


def opt_str(source: Object, key: str) -> str | None:
    """A text or None."""
    return None if source.get(key) is None else get_str(source, key)


def get_int(source: Object, key: str) -> int:
    """An integer; a text of digits counts as one, because Rave writes ids both ways."""
    value = as_int(source.get(key))
    if value is None:
        raise _wrong(key, "an integer", source.get(key))
    return value


def opt_int(source: Object, key: str) -> int | None:
    """An integer or None."""
    return None if source.get(key) is None else get_int(source, key)


def as_int(value: object) -> int | None:
    """`value` as an integer if it is one of 64 bits or spells one in ASCII digits, else None."""
    if type(value) is int:
        return value if abs(value) <= _MAX_INT else None
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_INT:
        return None
    return value


def as_user_id(value: object) -> int | None:
    """`value` as the id of a user, which is positive, or None; see `as_int`."""
    number = as_int(value)
    return number if number is not None and number > 0 else None


def get_number(source: Object, key: str) -> float:
    """A finite number, whole or not."""
    value = source.get(key)
    # NaN is not within bounds either.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _NUMBER_BOUND:
        raise _wrong(key, "a number", value)
    return value


def get_bool(source: Object, key: str) -> bool:
    """A truth value."""
    value = source.get(key)
    if not isinstance(value, bool):
        raise _wrong(key, "true or false", value)
    return value


def opt_bool(source: Object, key: str) -> bool | None:
    """A truth value or None."""
    return None if source.get(key) is None else get_bool(source, key)


def get_object(source: Object, key: str) -> Object:
    """An object."""
    return as_object(source.get(key), key)


def opt_object(source: Object, key: str) -> Object | None:
    """An object or None."""
    return None if source.get(key) is None else get_object(source, key)


def get_list(source: Object, key: str) -> list[Any]:
    """A list, whose entries still need looking at."""
    value = source.get(key)
    if not isinstance(value, list):
        raise _wrong(key, "a list", value)
    return value


def opt_list(source: Object, key: str) -> list[Any] | None:
    """A list or None."""
    return None if source.get(key) is None else get_list(source, key)


def _wrong(key: str, wanted: str, value: object) -> RaveError:
    found = "missing" if value is None else f"a {type(value).__name__}"
    return RaveError(Code.BAD_DATA, f"{key} must be {wanted}, but is {found}", key=key)
