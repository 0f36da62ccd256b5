"""The payloads of answers, and how a faulty or hostile server corrupts them. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

_HUGE_BYTES = 64 << 20
_IDS = ("id", "videoId", "providerId")


@dataclass(frozen=True, slots=True)
class Content:
    """An answer that is no JSON, such as a picture."""

    mime: str
    content: bytes


Payload: TypeAlias = "dict[str, Any] | Content"


def _huge(payload: Payload) -> Payload:
    """The answer with 64 MiB of padding."""
    if isinstance(payload, Content):
        return Content(payload.mime, payload.content + bytes(_HUGE_BYTES))
    return {**payload, "padding": "x" * _HUGE_BYTES}


def _no_json(_: Payload) -> Payload:
    """An HTML page, such as a proxy sends in place of an answer."""
    return Content("text/html", b"<!DOCTYPE html><title>Please wait</title>")


def _many_values(_: Payload) -> Payload:
    """More values than any answer has, of few bytes each."""
    return Content("application/json", b'{"data":[' + b"{}," * 500_000 + b"{}]}")


def _deep(_: Payload) -> Payload:
    """Lists within lists that are never closed."""
    return Content("application/json", b'{"data":' + b"[" * 50_000)


def _changed(payload: Payload, change: Callable[[str, Any], Any]) -> Payload:
    """The answer with each value in it changed, those within lists and objects too; `change` gets its key."""

    def walk(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: change(name, walk(name, entry)) for name, entry in value.items()}
        return [change(key, walk(key, entry)) for entry in value] if isinstance(value, list) else value

    return payload if isinstance(payload, Content) else walk("", payload)


def _no_list(_: str, value: Any) -> Any:
    return {"entries": value} if isinstance(value, list) else value


def _wrong_type(_: str, value: Any) -> Any:
    """Turn a text into a number, and a number, boolean or null into a text."""
    if isinstance(value, (dict, list)):
        return value
    return 7 if isinstance(value, str) else "seven"


def _wrong_id(key: str, value: Any) -> Any:
    """An id of the same form that does not exist."""
    return value[::-1] if key in _IDS and isinstance(value, str) else value


CORRUPTIONS: Mapping[str, Callable[[Payload], Payload]] = {
    "huge": _huge,
    "many-values": _many_values,
    "deep": _deep,
    "no-json": _no_json,
    "no-lists": lambda payload: _changed(payload, _no_list),
    "wrong-types": lambda payload: _changed(payload, _wrong_type),
    "wrong-ids": lambda payload: _changed(payload, _wrong_id),
}
