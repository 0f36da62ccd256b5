from __future__ import annotations

import dataclasses
import os
import struct
import time
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.bus import message as message_module
from ravesvc.bus.header import MessageKind, read_header
from ravesvc.bus.message import Message, Variant, check, decode, encode
from ravesvc.names import PolkitAction
from tests.unit.bus_fakes import open_fds


def signal(signature: str, *body: Any) -> Message:
    return Message(
        kind=MessageKind.SIGNAL, serial=7, path="/a", interface="a.b", member="C", signature=signature, body=body
    )


def answered(frame: bytes) -> int:
    """The serial of the call that a frame answers, as its header says."""
    header = read_header(frame)
    return header.reply_serial if header else 0


def round_trip(signature: str, *body: Any) -> list[Any]:
    frame, fds = encode(signal(signature, *body))
    message = decode(frame, fds)
    assert message
    assert message.signature == signature
    return list(message.body)


def test_header_fields() -> None:
    sent = Message(
        kind=MessageKind.CALL,
        serial=4294967295,
        flags=5,
        destination="org.example.A",
        path="/a/b",
        interface="a.b",
        member="C",
        signature="s",
        body=["x"],
    )
    got = decode(*encode(sent))
    assert got
    for name in ("kind", "serial", "flags", "destination", "path", "interface", "member", "signature", "body"):
        assert getattr(got, name) == getattr(sent, name), name
    sent = Message(kind=MessageKind.ERROR, serial=1, reply_serial=9, destination=":1.5", error_name="a.b.C")
    got = decode(*encode(sent))
    assert got
    assert (got.kind, got.reply_serial, got.error_name) == (MessageKind.ERROR, 9, "a.b.C")
    assert (got.sender, got.path, got.interface, got.member, list(got.body)) == ("", "", "", "", [])


def test_values_come_back_plain() -> None:
    assert round_trip("ybnqiuxtdsog", 1, True, -2, 3, -4, 5, -6, 7, 1.5, "é\n", "/a", "a{sv}") == [
        *(1, True, -2, 3, -4, 5, -6, 7, 1.5, "é\n", "/a", "a{sv}")
    ]
    assert round_trip("ay", b"\0\xff") == [b"\0\xff"]
    assert type(round_trip("ay", b"\0\xff")[0]) is bytes
    assert round_trip("aay", [b"a", b""]) == [[b"a", b""]]
    assert round_trip("as", ()) == [[]]
    assert round_trip("(sa(uo))", ("x", [(1, "/a"), (2, "/b")])) == [["x", [[1, "/a"], [2, "/b"]]]]
    nested = {"a": Variant("v", Variant("ay", b"x")), "b": Variant("a{sv}", {"c": Variant("(su)", ("d", 1))})}
    assert round_trip("a{sv}", nested) == [{"a": b"x", "b": {"c": ["d", 1]}}]
    assert round_trip("a{ua{ss}}", {1: {"a": "b"}, 2: {}}) == [{1: {"a": "b"}, 2: {}}]
    assert round_trip("s", PolkitAction.READ) == [str(PolkitAction.READ)]


@given(st.text())
def test_any_text_can_be_sent(text: str) -> None:
    (got,) = round_trip("s", text)
    if "\0" not in text and text.isprintable():
        assert got == text
    assert "\0" not in got


def test_what_the_bus_would_disconnect_us_for_is_mended_or_refused() -> None:
    assert round_trip("s", "a\0b\ud800c\U0001f600") == ["a\ufffdb\ufffdc\U0001f600"]
    assert round_trip("s", "\ud83d\ude00") == ["\U0001f600"]
    assert round_trip("a{sv}", {"\0": Variant("s", "\0")}) == [{"\ufffd": "\ufffd"}]
    for signature, value in [("o", "a"), ("o", "/a/"), ("g", "a{"), ("v", Variant("o", ""))]:
        with pytest.raises(ValueError, match="cannot send C"):
            encode(signal(signature, value))


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        *[("y", 256), ("y", -1), ("q", 65536), ("n", 32768), ("u", -1), ("u", 2**32), ("i", 2**31), ("t", 2**64)],
        *[("x", 2**63), ("u", True), ("u", "1"), ("u", 1.0), ("u", None), ("b", 1), ("b", "x"), ("d", "x")],
        *[("s", b"x"), ("s", None), ("as", "abc"), ("as", b"abc"), ("as", [1]), ("as", 5), ("ay", "x"), ("ay", [1])],
        *[("a{ss}", [("a", "b")]), ("a{ss}", {"a": 1}), ("(ss)", ("a",)), ("(ss)", ("a", "b", "c")), ("v", "x")],
        *[("v", Variant("ss", "x")), ("v", Variant("s", 1)), ("h", "x"), ("ss", "x"), ("", "x"), ("!", "x")],
    ],
)
def test_values_that_do_not_fit_are_refused(signature: str, value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the library's for some
        encode(signal(signature, value))
    if signature != "h":
        with pytest.raises(ValueError):  # noqa: PT011
            check(signature, value)


@pytest.mark.parametrize(
    ("fields", "serial"),
    [
        (b"\x05\x01u\0\x09\0\0\0", 9),
        (b"\x08\x01g\0\x01s\0" + b"\0" + b"\x05\x01u\0\x09\0\0\0", 9),
        (b"\x07\x01s\0\x02\0\0\0:1\0", 0),
        (b"\x05\x01x\0" + bytes(12), 0),
        (b"\x05\x01u\0", 0),
        (b"\x08\x01g\0", 0),
        (b"", 0),
    ],
    ids=["alone", "after a signature", "none", "of another type", "cut off", "a signature cut off", "no fields"],
)
def test_the_call_that_an_answer_belongs_to_stands_in_its_header(fields: bytes, serial: int) -> None:
    assert answered(struct.pack("<BBBBIII", ord("l"), MessageKind.RETURN, 0, 1, 0, 7, len(fields)) + fields) == serial


def test_check_accepts_what_fits() -> None:
    check("a{sv}", {"a": Variant("u", 1)})
    check("as", ["x"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"destination": "no bus name"},
        {"path": "x"},
        {"member": "a b"},
        {"interface": "a"},
        {"path": ""},
        {"body": ["x"]},
    ],
)
def test_invalid_headers_are_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"kind": MessageKind.CALL, "path": "/a", "interface": "a.b", "member": "C"}
    encode(Message(**right))
    with pytest.raises(ValueError, match="cannot send"):
        encode(Message(**{**right, **wrong}))


def test_too_large_a_message_is_refused() -> None:
    before = open_fds()
    read, write = os.pipe()
    with pytest.raises(ValueError, match="too many"):
        encode(signal("sh", "x" * 9_000_000, read))
    os.close(read)
    os.close(write)
    assert open_fds() == before


class Big(IntEnum):
    NUMBER = 2**23


@pytest.mark.parametrize("signature", ["u", "t", "i", "v"])
def test_a_member_of_an_enumeration_is_a_number_and_quick_to_check(signature: str) -> None:
    start = time.process_time()
    value = Variant("x", Big.NUMBER) if signature == "v" else Big.NUMBER
    (got,) = round_trip(signature, value)
    check(signature, value)
    assert (type(got), got) == (int, 2**23)
    with pytest.raises(ValueError, match="out of the range"):
        encode(signal("q", Big.NUMBER))
    assert time.process_time() - start < 1, "it is searched for in its range"


def padded(size: int, kind: MessageKind, *body: Any) -> tuple[bytes, list[int]]:
    """An encoded message of `size` bytes with `body`, integers as descriptors."""
    header: dict[str, Any] = (
        {"reply_serial": 9, "error_name": "a.b.C" if kind is MessageKind.ERROR else ""}
        if kind in (MessageKind.RETURN, MessageKind.ERROR)
        else {"path": "/a", "interface": "a.b", "member": "C"}
    )

    def encoded(text: str) -> tuple[bytes, list[int]]:
        signature = "h" * len(body) + "s"
        return encode(Message(kind=kind, serial=7, signature=signature, body=[*body, text], **header))

    frame, fds = encoded("")
    for fd in fds:
        os.close(fd)
    frame, fds = encoded("x" * (size - len(frame)))
    assert len(frame) == size
    return frame, fds


@pytest.mark.parametrize("kind", [MessageKind.CALL, MessageKind.SIGNAL])
def test_long_messages_that_nobody_asked_for_are_not_even_decoded(
    kind: MessageKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_fds()
    read, write = os.pipe()
    longest = decode(*padded(64 * 1024, kind, read))
    assert longest
    longest.close_fds()
    too_long, fds = padded(64 * 1024 + 1, kind, read, write)
    assert len(fds) == 2
    monkeypatch.setattr(message_module, "_decode", lambda *_: pytest.fail("it is decoded"))
    assert decode(too_long, fds) is None
    assert fds == []
    os.close(read)
    os.close(write)
    assert open_fds() == before


def test_a_frame_without_all_of_its_body_is_no_message() -> None:
    frame, _ = encode(Message(kind=MessageKind.CALL, serial=1, path="/a", member="M", signature="u", body=[1]))
    assert decode(frame, [])
    assert decode(frame[:-1], []) is None
    frame, _ = encode(Message(kind=MessageKind.CALL, serial=1, path="/a", member="M"))
    assert decode(frame[:4] + (8).to_bytes(4, "little") + frame[8:], []) is None


@pytest.mark.parametrize("kind", list(MessageKind))
def test_what_a_frame_answers_is_in_its_header(kind: MessageKind) -> None:
    message = Message(
        kind=kind,
        serial=3,
        reply_serial=0xFFFFFFFE if kind in (MessageKind.RETURN, MessageKind.ERROR) else 0,
        destination=":1.2345",
        path="/a" if kind in (MessageKind.CALL, MessageKind.SIGNAL) else "",
        interface="a.b" if kind in (MessageKind.CALL, MessageKind.SIGNAL) else "",
        member="M" if kind in (MessageKind.CALL, MessageKind.SIGNAL) else "",
        error_name="a.b.C" if kind is MessageKind.ERROR else "",
        signature="s",
        body=["x"],
    )
    frame, _ = encode(message)
    assert answered(frame) == message.reply_serial


@given(st.binary(min_size=16, max_size=200))
def test_whatever_a_header_holds_finding_that_out_does_not_fail(junk: bytes) -> None:
    assert 0 <= answered(junk) < 2**32
    # As far as it is a reply's.
    assert 0 <= answered(b"l\2\0\1" + junk) < 2**32


@pytest.mark.parametrize("kind", [MessageKind.RETURN, MessageKind.ERROR])
def test_replies_may_be_long(kind: MessageKind) -> None:
    before = open_fds()
    read, write = os.pipe()
    reply = decode(*padded(2_000_000, kind, read))
    assert reply
    assert len(reply.body[1]) > 1_900_000
    assert len(reply.fds) == 1
    reply.close_fds()
    os.close(read)
    os.close(write)
    assert open_fds() == before


def test_descriptors_are_duplicated_and_passed() -> None:
    before = open_fds()
    read, write = os.pipe()
    frame, fds = encode(signal("ha{sv}ah", write, {"x": Variant("h", read)}, [write]))
    assert not {read, write} & set(fds)
    os.close(read)
    os.close(write)
    message = decode(frame, fds)
    assert message
    first, inner, (last,) = message.body
    os.write(first, b"hello")
    assert os.read(inner["x"], 9) == b"hello"
    assert message.fds == (first, inner["x"], last)
    assert fds == []
    message.close_fds()
    assert open_fds() == before


def test_one_descriptor_meant_twice_becomes_two() -> None:
    before = open_fds()
    read, write = os.pipe()
    message = decode(with_index("hh", 0, 0), [read])
    assert message
    assert message.body[0] != message.body[1]
    message.close_fds()
    os.close(write)
    assert open_fds() == before


def with_index(signature: str, *indexes: int) -> bytes:
    frame, fds = encode(signal(signature, *[0 for _ in indexes]))
    for fd in fds:
        os.close(fd)
    return frame[: -4 * len(indexes)] + struct.pack(f"<{len(indexes)}I", *indexes)


def test_descriptors_nobody_asked_for_are_closed() -> None:
    before = open_fds()
    for frame in (encode(signal(""))[0], with_index("hh", 0, 9), with_index("h", 2**32 - 1), b"l\1\0\1junk"):
        read, write = os.pipe()
        decode(frame, [read, write])
    assert open_fds() == before


def test_failed_encoding_closes_its_duplicates() -> None:
    before = open_fds()
    with pytest.raises(ValueError, match="Bad file descriptor"):
        encode(signal("hh", 0, 999999))
    assert open_fds() == before


def test_unreadable_messages_are_ignored() -> None:
    frame = bytearray(encode(signal("s", "text"))[0])
    assert decode(bytes(frame), [])
    for position, value in [(1, 5), (1, 0), (0, 0), (3, 9), (16, 200)]:
        bad = frame.copy()
        bad[position] = value
        assert decode(bytes(bad), []) is None, position


@given(st.binary(max_size=200))
def test_no_bytes_raise(junk: bytes) -> None:
    frame = encode(signal("a{sv}s", {"a": Variant("as", ["b"])}, "text"))[0]
    decode(frame[:20] + junk, [])
    decode(frame[: -len(junk) or None] + junk, [])


def test_what_a_big_endian_frame_answers() -> None:
    fields = struct.pack(">BB2sI4s", 6, 1, b"s\0", 2, b":1\0\0") + bytes(4) + struct.pack(">BB2sI", 5, 1, b"u\0", 77)
    assert answered(struct.pack(">BBBBIII", ord("B"), 2, 0, 1, 0, 7, len(fields)) + fields) == 77


def test_big_endian() -> None:
    header = struct.pack(">BBBBIII", ord("B"), 4, 0, 1, 4, 7, 0)
    fields = b""
    for code, kind, value in [(1, b"o", b"/a"), (2, b"s", b"a.b"), (3, b"s", b"C"), (8, b"g", b"u")]:
        fields += bytes(-len(fields) % 8) + bytes([code, 1]) + kind + b"\0"
        fields += bytes([1]) + b"u\0" if code == 8 else struct.pack(">I", len(value)) + value + b"\0"
    frame = header[:12] + struct.pack(">I", len(fields)) + fields + bytes(-len(fields) % 8) + struct.pack(">I", 77)
    message = decode(frame, [])
    assert message
    assert list(message.body) == [77]


FIELDS = b"\x01\x01o\0\x02\0\0\0/a\0" + bytes(5) + b"\x03\x01s\0\x01\0\0\0C\0"


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        (FIELDS + bytes(6) + FIELDS[-10:], b"l\1\0\1"),
        (FIELDS.replace(b"\x01\x01o", b"\x01\x01s"), b"l\1\0\1"),
        (FIELDS.replace(b"C", b"\xff"), b"l\1\0\1"),
        (FIELDS[:-1], b"l\1\0\1"),
        (FIELDS, b"l\1\0\2"),
        (FIELDS, b"l\5\0\1"),
    ],
    ids=["a field twice", "another type", "no UTF-8", "cut off", "another version", "another kind"],
)
def test_a_header_that_is_none_is_not_read(fields: bytes, start: bytes) -> None:
    def frame(start: bytes, fields: bytes) -> bytes:
        return start + struct.pack("<III", 0, 7, len(fields)) + fields

    header = read_header(frame(b"l\1\0\1", FIELDS))
    assert header
    assert (header.kind, header.serial, header.path, header.member) == (MessageKind.CALL, 7, "/a", "C")
    assert read_header(frame(start, fields)) is None


def test_a_header_says_what_the_whole_message_says() -> None:
    sent = Message(
        kind=MessageKind.CALL,
        serial=5,
        flags=4,
        destination="org.example.A",
        path="/a/b",
        interface="a.b",
        member="C",
        signature="asu",
        body=[["x"], 1],
    )
    frame, fds = encode(sent)
    header, message = read_header(frame), decode(frame, fds)
    assert header
    assert message
    for field in dataclasses.fields(header):
        assert getattr(header, field.name) == getattr(message, field.name) == getattr(sent, field.name)
