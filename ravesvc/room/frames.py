"""The four kinds of protoo frame as values and as JSON text; no I/O.

A frame is one JSON object in one text frame of the WebSocket. `request`, `response` or `notification` is true and
says which kind it is, looked at in this order: a frame that is request *and* notification is a request.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypeAlias

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError

# Bytes of one message. The state of a room with 10 000 people takes some two million; decoded, a message takes up to
# ten times as much, and the memory of a bot is limited. To read one that long takes 20 to 40 ms.
MAX_MESSAGE_BYTES = 6 << 20

_MAX_REASON_CHARS = 200


class PeerRequest(NamedTuple):
    """The sender wants an answer that bears the same id."""

    id: int
    method: str
    data: Object


class Response(NamedTuple):
    """A request was granted."""

    id: int
    data: Object


class ErrorResponse(NamedTuple):
    """A request was refused; `code` is like an HTTP status, 0 when the other side gave none."""

    id: int
    code: int
    reason: str


class Notification(NamedTuple):
    """The sender wants no answer."""

    method: str
    data: Object


Frame: TypeAlias = PeerRequest | Response | ErrorResponse | Notification


def parse(text: str) -> Frame:
    """Read a frame; raises `RaveError`: BadData for what is none, TooLarge for what would take too long.

    `data` that is missing or no object counts as empty, so that a request with odd data still gets its answer.
    """
    top = json_fields.parse_message(text, "the frame")
    data = top.get("data")
    if not isinstance(data, dict):
        data = {}
    if top.get("request"):
        return PeerRequest(json_fields.get_int(top, "id"), _method(top), data)
    if top.get("response"):
        return _answer(top, data)
    if top.get("notification"):
        return Notification(_method(top), data)
    raise RaveError(Code.BAD_DATA, "the frame is neither request nor response nor notification")


def _method(top: Object) -> str:
    method = json_fields.get_str(top, "method")
    if not method:
        raise RaveError(Code.BAD_DATA, "the frame names no method")
    return method


def _answer(top: Object, data: Object) -> Response | ErrorResponse:
    """Tell a grant from a refusal: stock protoo servers write refusals without `ok`, but with an errorCode."""
    answer_id = json_fields.get_int(top, "id")
    if top.get("ok") is not False and top.get("errorCode") is None:
        return Response(answer_id, data)
    reason = top.get("errorReason")
    return ErrorResponse(
        answer_id, json_fields.as_int(top.get("errorCode")) or 0, printable(reason, _MAX_REASON_CHARS)
    )


def request(request_id: int, method: str, data: Object) -> str:
    """The text of a request."""
    return _dump({"request": True, "id": request_id, "method": method, "data": data})


def notification(method: str, data: Object) -> str:
    """The text of a notification."""
    return _dump({"notification": True, "method": method, "data": data})


def announcement(request_id: int, method: str, data: Object) -> str:
    """The text of a request that is a notification, too: to some servers it is the one, to others the other."""
    return _dump({"request": True, "notification": True, "id": request_id, "method": method, "data": data})


def grant(request_id: int) -> str:
    """The text of the answer that grants a request and says no more."""
    return _dump({"response": True, "id": request_id, "ok": True, "data": {}})


def refusal(request_id: int, code: int, reason: str) -> str:
    """The text of the answer that refuses a request."""
    return _dump({"response": True, "id": request_id, "ok": False, "errorCode": code, "errorReason": reason})


def _dump(frame: dict[str, Any]) -> str:
    return json.dumps(frame, separators=(",", ":"))
