from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravesvc.errors import Code, RaveError
from ravesvc.room import frames
from ravesvc.room.chat import parse_chat
from ravesvc.room.frames import ErrorResponse, Notification, PeerRequest, Response
from ravesvc.room.state import parse_state


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('{"request":true,"id":7,"method":"m","data":{"a":1}}', PeerRequest(7, "m", {"a": 1})),
        ('{"request":true,"id":"7","method":"m"}', PeerRequest(7, "m", {})),
        ('{"request":true,"notification":true,"id":7,"method":"m","data":{}}', PeerRequest(7, "m", {})),
        ('{"notification":true,"method":"m","data":null}', Notification("m", {})),
        ('{"notification":true,"method":"m","data":[1]}', Notification("m", {})),
        ('{"response":true,"id":7,"ok":true,"data":{"b":2}}', Response(7, {"b": 2})),
        ('{"response":true,"id":7}', Response(7, {})),
        ('{"response":true,"id":7,"ok":false,"errorCode":403,"errorReason":"no"}', ErrorResponse(7, 403, "no")),
        ('{"response":true,"id":7,"errorCode":403,"errorReason":"no"}', ErrorResponse(7, 403, "no")),
        ('{"response":true,"id":7,"ok":true,"errorCode":403}', ErrorResponse(7, 403, "")),
        ('{"response":true,"id":7,"ok":false}', ErrorResponse(7, 0, "")),
        ('{"response":true,"id":7,"ok":false,"errorCode":"x","errorReason":{}}', ErrorResponse(7, 0, "")),
    ],
)
def test_kinds(text: str, frame: frames.Frame) -> None:
    assert frames.parse(text) == frame


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"request":true,"method":"m"}',
        '{"request":true,"id":"x","method":"m"}',
        '{"request":true,"id":true,"method":"m"}',
        '{"request":true,"id":1}',
        '{"request":true,"id":1,"method":""}',
        '{"request":true,"id":1,"method":5}',
        '{"notification":true}',
        '{"response":true}',
        '{"response":true,"id":1.5}',
        "[" * 50_000,
        '{"a":' * 50_000,
        '{"response":true,"id":' + "9" * 5000 + "}",
    ],
)
def test_what_is_no_frame_is_bad_data(text: str) -> None:
    with pytest.raises(RaveError) as caught:
        frames.parse(text)
    assert caught.value.code is Code.BAD_DATA


def test_a_reason_cannot_control_a_terminal_and_is_short() -> None:
    reason = "a\n\x1b[2J\\ud800" + "x" * 500
    frame = frames.parse(json.dumps({"response": True, "id": 1, "ok": False, "errorReason": reason}))
    assert isinstance(frame, ErrorResponse)
    assert frame.reason.startswith("a??[2J")
    assert len(frame.reason) == 200
    assert frame.reason.isprintable()
    assert frames.printable("\ud800", 10) == "?"


def test_what_we_write() -> None:
    assert json.loads(frames.request(1, "m", {"a": "é\ud800"})) == {
        "request": True,
        "id": 1,
        "method": "m",
        "data": {"a": "é\ud800"},
    }
    assert json.loads(frames.notification("m", {})) == {"notification": True, "method": "m", "data": {}}
    assert json.loads(frames.announcement(1, "m", {})) == {
        "request": True,
        "notification": True,
        "id": 1,
        "method": "m",
        "data": {},
    }
    assert frames.parse(frames.grant(5)) == Response(5, {})
    assert frames.parse(frames.refusal(5, 404, "why")) == ErrorResponse(5, 404, "why")


def test_what_we_write_is_ascii() -> None:
    # Half a surrogate pair has no UTF-8.
    assert frames.notification("m", {"a": "é\ud800"}).isascii()


WORDS = ["request", "response", "notification", "id", "ok", "errorCode", "errorReason", "method", "data", "message"]
WORDS += ["from", "chat", "reply", "user_metas", "handle", "users", "mesh_state", "kicks", "user_id"]
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", "1_d"])
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=8),
    max_leaves=20,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.sampled_from(WORDS), anything))
def test_nothing_but_bad_data_comes_of_rubbish(top: dict[str, Any]) -> None:
    with suppress(RaveError):
        frames.parse(json.dumps(top))
    with suppress(RaveError):
        parse_chat(top)
    with suppress(RaveError):
        parse_state(top)
    with suppress(RaveError):
        parse_state({"message": json.dumps(top)})
