from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.blocklist.model import Block, Reason
from ravesvc.errors import Code, RaveError
from ravesvc.store import export
from ravesvc.store.export import Export
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, IgnoredUser, command_key
from ravesvc.store.room_document import DocumentKind, RoomDocument
from tests.unit.bus_fakes import open_fds

WHEN = datetime(2024, 1, 8, 10, 0, 0, 123000, UTC)
SECRETS = ("bot@example.test", "device-id", "the-ssaid", "parse-token", "auth-token")
CONTENTS = Contents(
    credentials=Credentials(
        email="bot@example.test",
        device_id="device-id",
        ssaid="the-ssaid",
        parse_id="AbCdEf1234",
        parse_token="parse-token",
        auth_token="auth-token",
        user_id=900000001,
        updated_at=WHEN,
    ),
    admins=(
        Admin(user_id=1, added_by=0, added_at=WHEN),
        Admin(user_id=2, added_by=1, added_at=WHEN + timedelta(days=1), active=False),
    ),
    permissions=(
        CommandPermission(command="ping", requires_admin=True, description="ü", updated_at=WHEN, updated_by=1),
    ),
    ignored=(IgnoredUser(user_id=7, added_by=1, added_at=WHEN),),
)
TEXT = """{
  "version": 1,
  "credentials": {
    "email": "bot@example.test",
    "deviceId": "device-id",
    "ssaid": "the-ssaid",
    "parseId": "AbCdEf1234",
    "parseToken": "parse-token",
    "authToken": "auth-token",
    "userId": 900000001,
    "peerId": "900000001_device-id",
    "updatedAt": "2024-01-08T10:00:00.123Z"
  },
  "admin_users": [
    {
      "userId": 1,
      "addedBy": 0,
      "addedAt": "2024-01-08T10:00:00.123Z",
      "isActive": true
    },
    {
      "userId": 2,
      "addedBy": 1,
      "addedAt": "2024-01-09T10:00:00.123Z",
      "isActive": false
    }
  ],
  "command_permissions": [
    {
      "commandName": "ping",
      "requiresAdmin": true,
      "description": "ü",
      "updatedAt": "2024-01-08T10:00:00.123Z",
      "updatedBy": 1
    }
  ],
  "ignored_users": [
    {
      "userId": 7,
      "addedBy": 1,
      "addedAt": "2024-01-08T10:00:00.123Z"
    }
  ]
}
"""

words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
tokens = words.filter(lambda text: not text.startswith("r:"))
dates = st.integers(0, 253402300799999).map(lambda ms: datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms))
users = st.integers(1, 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
accounts = st.builds(
    Credentials,
    email=st.text(min_size=1).filter(str.isprintable),
    device_id=words,
    ssaid=words,
    parse_id=st.just("") | tokens,
    parse_token=st.just("") | tokens,
    auth_token=st.just("") | tokens,
    user_id=st.none() | users,
    updated_at=st.none() | dates,
)
admins = st.builds(Admin, user_id=users, added_by=st.integers(0, 2**63 - 1), added_at=dates, active=st.booleans())
ignored = st.builds(IgnoredUser, user_id=users, added_by=st.integers(0, 2**63 - 1), added_at=dates)
permissions = st.builds(
    CommandPermission,
    command=texts.map(command_key).filter(lambda key: key and key == key.lower() == command_key(key)),
    requires_admin=st.booleans(),
    description=texts,
    updated_at=dates,
    updated_by=st.integers(0, 2**63 - 1),
)
everything = st.builds(
    Contents,
    credentials=st.none() | accounts,
    admins=st.lists(admins, max_size=4, unique_by=lambda each: each.user_id).map(
        lambda found: tuple(sorted(found, key=lambda each: each.user_id))
    ),
    permissions=st.lists(permissions, max_size=4, unique_by=lambda each: each.command).map(
        lambda found: tuple(sorted(found, key=lambda each: each.command))
    ),
    ignored=st.lists(ignored, max_size=4, unique_by=lambda each: each.user_id).map(
        lambda found: tuple(sorted(found, key=lambda each: each.user_id))
    ),
)


def refused(text: str) -> RaveError:
    with pytest.raises(RaveError) as caught:
        export.from_json(text)
    error = caught.value
    assert error.code is Code.BAD_DATA
    for secret in SECRETS:
        assert secret not in repr((str(error), error.attributes, error.__cause__))
    return error


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "store.json"
    path.write_text(TEXT)
    return path


def read_refused(path: Path | str, flags: int = os.O_RDONLY) -> RaveError:
    descriptor = os.open(path, flags)
    try:
        with pytest.raises(RaveError) as caught:
            export.read(descriptor)
    finally:
        os.close(descriptor)
    return caught.value


def changed(change: Callable[[Any], object]) -> str:
    document = json.loads(TEXT)
    change(document)
    return json.dumps(document)


def test_a_dump_says_what_there_is() -> None:
    assert export.to_json(Export(contents=CONTENTS)) == TEXT
    assert export.from_json(TEXT).contents == CONTENTS


def test_an_empty_store() -> None:
    text = export.to_json(Export(contents=Contents()))
    assert json.loads(text) == {
        "version": 1,
        "credentials": None,
        "admin_users": [],
        "command_permissions": [],
        "ignored_users": [],
    }
    assert export.from_json(text).contents == Contents()


@pytest.mark.slow
@given(contents=everything)
def test_everything_comes_back_exactly(contents: Contents) -> None:
    text = export.to_json(Export(contents=contents))
    assert export.from_json(text).contents == contents
    assert export.to_json(export.from_json(text)) == text
    # The bus takes neither.
    assert "\0" not in text
    text.encode()


@pytest.mark.slow
@given(contents=everything, seed=st.integers())
def test_order_makes_no_difference(contents: Contents, seed: int) -> None:
    shuffled = Contents(
        credentials=contents.credentials,
        admins=tuple(random.Random(seed).sample(contents.admins, len(contents.admins))),
        permissions=tuple(random.Random(seed).sample(contents.permissions, len(contents.permissions))),
        ignored=tuple(random.Random(seed).sample(contents.ignored, len(contents.ignored))),
    )
    assert export.to_json(Export(contents=shuffled)) == export.to_json(Export(contents=contents))


def test_dates_of_other_zones_are_written_in_utc() -> None:
    there = WHEN.astimezone(timezone(timedelta(hours=-5))).replace(microsecond=123999)
    text = export.to_json(Export(contents=Contents(admins=(Admin(user_id=1, added_by=0, added_at=there),))))
    assert json.loads(text)["admin_users"][0]["addedAt"] == "2024-01-08T10:00:00.123Z"


def test_the_prefix_of_a_token_is_taken_off() -> None:
    text = changed(lambda d: d["credentials"].update(authToken="r:auth-token", parseToken="r: parse-token"))
    assert export.from_json(text).contents == CONTENTS


@pytest.mark.parametrize("text", ["", "{", "[]", "null", TEXT[:-3], '"bot@example.test"', "[" * 100_000])
def test_what_is_no_dump_is_refused(text: str) -> None:
    assert "the export" in refused(text).message


@pytest.mark.parametrize("version", [0, 2, None, "x", True])
def test_another_version_is_refused(version: object) -> None:
    assert "version" in refused(changed(lambda d: d.update(version=version))).message
    error = refused(changed(lambda d: d.update(version=2)))
    assert error.message == "the export has version 2, not 1"
    assert error.hint


def test_a_dump_of_a_version_that_knows_no_ignored_users_has_none() -> None:
    assert export.from_json(changed(lambda top: top.pop("ignored_users"))).contents.ignored == ()


@pytest.mark.parametrize("part", ["version", "credentials", "admin_users", "command_permissions"])
def test_half_a_dump_is_refused(part: str) -> None:
    error = refused(changed(lambda d: d.pop(part)))
    assert error.message.startswith(f"{part} must be ")
    assert error.message.endswith("is missing")


BAD = [
    (("credentials",), [], "credentials must be an object"),
    (("credentials", "email"), None, "credentials of the export can't be used: email must be a text"),
    (("credentials", "email"), "", "email must be a text"),
    (("credentials", "email"), "a\nb", "email must be printable text"),
    (("credentials", "email"), "\ud800", "email must be printable text"),
    (("credentials", "deviceId"), "a b", "deviceId must be one word"),
    (("credentials", "deviceId"), "a\u00e4", "deviceId must be one word in ASCII, but has other characters"),
    (("credentials", "ssaid"), "", "ssaid must be one word in ASCII, but is empty"),
    (("credentials", "ssaid"), 5, "ssaid must be a text"),
    (("credentials", "parseToken"), "a\r\nb", "parseToken must be one word"),
    (("credentials", "userId"), -1, "userId must be a user id"),
    (("credentials", "updatedAt"), "yesterday", "updatedAt must be a date"),
    (("admin_users",), {}, "admin_users must be a list"),
    (("admin_users", 1), 5, "admin_users[1] of the export can't be used: the entry must be an object"),
    (("admin_users", 1, "userId"), None, "admin_users[1] of the export can't be used: userId must be an integer"),
    (("admin_users", 1, "userId"), 0, "userId must be a user id"),
    (("admin_users", 1, "userId"), -5, "userId must not be negative"),
    (("admin_users", 1, "userId"), 1, "admin_users[1] of the export can't be used: it is there a second time"),
    (("admin_users", 1, "userId"), 2**63, "userId must be an integer"),
    (("admin_users", 0, "addedBy"), -1, "addedBy must not be negative"),
    (("admin_users", 0, "addedBy"), 1.5, "addedBy must be an integer"),
    (("admin_users", 0, "isActive"), 1, "isActive must be true or false"),
    (("command_permissions", 0, "commandName"), "", "commandName must be a name in lower case"),
    (("command_permissions", 0, "commandName"), "Ping", "commandName must be a name in lower case"),
    (("command_permissions", 0, "commandName"), "ping ", "commandName must be a name in lower case"),
    (("command_permissions", 0, "commandName"), "\ud800", "commandName must be Unicode text"),
    (("command_permissions", 0, "requiresAdmin"), None, "requiresAdmin must be true or false"),
    (("command_permissions", 0, "description"), None, "description must be a text"),
    (("command_permissions", 0, "description"), "\udfff", "description must be Unicode text"),
    (("command_permissions", 0, "updatedBy"), "x", "updatedBy must be an integer"),
    *(
        (("admin_users", 0, "addedAt"), date, "addedAt must be a date since 1970 in UTC with milliseconds")
        for date in (
            "",
            "2024-01-08",
            "2024-01-08T10:00:00Z",
            "2024-01-08T10:00:00.123",
            "2024-01-08T10:00:00.123456Z",
            "2024-01-08T10:00:00.123+01:00",
            "2024-13-08T10:00:00.123Z",
            "2024-02-30T10:00:00.123Z",
            "1969-12-31T23:59:59.999Z",
            "२०२४-01-08T10:00:00.123Z",
            "2024-01-08T10:00:00.123Z\n",
        )
    ),
]


@pytest.mark.parametrize(("place", "value", "message"), BAD)
def test_what_is_wrong_is_named(place: tuple[str | int, ...], value: object, message: str) -> None:
    def change(document: Any) -> None:
        for key in place[:-1]:
            document = document[key]
        document[place[-1]] = value

    error = refused(changed(change))
    assert message in error.message
    assert re.match(r"credentials|admin_users|command_permissions", error.message)


# What rooms remember

MESH = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-2222-4333-8444-555555555555"


def room_document(
    mesh: str = MESH, name: str = "queue", text: str = "[1]", kind: DocumentKind = DocumentKind.DOCUMENT
) -> RoomDocument:
    return RoomDocument(mesh=mesh, kind=kind, name=name, text=text, updated_at=WHEN)


ROOMS = (
    room_document(name="hits"),
    room_document(text='{"title":"日本 🎉 \\u0000"}'),
    room_document(kind=DocumentKind.HISTORY),
    room_document(mesh=OTHER),
)


def test_what_rooms_remember_comes_back_exactly() -> None:
    text = export.to_json(Export(contents=CONTENTS, rooms=ROOMS))
    assert export.from_json(text) == Export(contents=CONTENTS, rooms=ROOMS)
    assert export.to_json(Export(contents=CONTENTS, rooms=tuple(reversed(ROOMS)))) == text
    assert json.loads(text)["room_documents"][1] == {
        "meshId": MESH,
        "kind": "document",
        "name": "queue",
        "updatedAt": "2024-01-08T10:00:00.123Z",
        "text": '{"title":"日本 🎉 \\u0000"}',
    }


def test_a_dump_may_say_nothing_of_rooms_or_that_there_is_nothing() -> None:
    assert export.from_json(TEXT).rooms is None
    assert export.from_json(export.to_json(Export(contents=CONTENTS, rooms=()))).rooms == ()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("meshId", "no mesh", "meshId must be the id of a mesh"),
        ("kind", "song", "kind must be document or history"),
        ("name", "Queue", "name must be a word in lower case"),
        ("name", None, "name must be a text, but is missing"),
        ("text", "nonsense", "text makes no sense: it is not valid JSON"),
        ("text", '["\\ud800"]', "text makes no sense: it must be Unicode text"),
        ("updatedAt", "today", "updatedAt must be a date"),
    ],
)
def test_a_document_of_a_room_that_makes_no_sense_is_refused(key: str, value: Any, message: str) -> None:
    document = json.loads(export.to_json(Export(contents=CONTENTS, rooms=ROOMS)))
    document["room_documents"][2][key] = value
    assert f"room_documents[2] of the export can't be used: {message}" in refused(json.dumps(document)).message


def test_a_document_of_a_room_is_there_once() -> None:
    twice = Export(contents=CONTENTS, rooms=(*ROOMS, ROOMS[0]))
    assert "it is there a second time" in refused(export.to_json(twice)).message


KICK = Block(
    mesh=MESH, reason=Reason.KICKED, since=1_704_708_000_123, until=None, title="日本 🎉", actor="service", revision=4
)
CRASHES = Block(
    mesh=MESH.replace("1", "2"),
    reason=Reason.CRASHES,
    since=1_704_708_000_123,
    until=1_704_708_060_001,
    detail="exit status 1",
    count=3,
)


def test_blocks_come_back_exactly_but_for_the_revision_of_the_list() -> None:
    text = export.to_json(Export(contents=CONTENTS, blocks=(CRASHES, KICK)))
    found = export.from_json(text)
    assert found.blocks == (dataclasses.replace(KICK, revision=0), CRASHES)
    assert found.contents == CONTENTS
    assert export.to_json(found) == text
    assert json.loads(text)["blocked_meshes"][0] == {
        "meshId": MESH,
        "title": "日本 🎉",
        "reason": "kicked",
        "blockedAt": "2024-01-08T10:00:00.123Z",
        "blockedUntil": None,
        "detail": "",
        "actor": "service",
        "count": 1,
    }
    assert export.from_json(TEXT).blocks == ()


@pytest.mark.parametrize("until", [2**53, 10**15])
def test_what_lasts_beyond_all_dates_lasts_for_ever(until: int) -> None:
    early = dataclasses.replace(CRASHES, since=-5, until=until)
    (block,) = export.from_json(export.to_json(Export(contents=CONTENTS, blocks=(early,)))).blocks
    assert (block.since, block.until) == (0, None)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("meshId", "no mesh", "meshId must be the id of a mesh"),
        ("reason", "disliked", "reason must be one of connection_failures, kicked"),
        ("blockedAt", 5, "blockedAt must be a text"),
        ("blockedUntil", "tomorrow", "blockedUntil must be a date"),
        ("count", "many", "count must be an integer"),
        ("title", None, "title must be a text"),
        ("detail", "\ud800", "detail must be Unicode text"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused(key: str, value: Any, message: str) -> None:
    document = json.loads(export.to_json(Export(contents=CONTENTS, blocks=(CRASHES,))))
    document["blocked_meshes"][0][key] = value
    assert f"blocked_meshes[0] of the export can't be used: {message}" in refused(json.dumps(document)).message


def test_texts_of_a_block_are_bounded_and_can_be_printed() -> None:
    document = json.loads(export.to_json(Export(contents=CONTENTS, blocks=(KICK,))))
    document["blocked_meshes"][0] |= {"title": "x" * 5000, "detail": "a\nb", "count": 2**40}
    (block,) = export.from_json(json.dumps(document)).blocks
    assert len(block.title) < 5000
    assert (block.detail, block.count) == ("a?b", 2**32 - 1)


def test_a_dump_takes_the_place_of_what_a_file_holds(tmp_path: Path) -> None:
    with (tmp_path / "store.json").open("w+b") as file:
        file.write(b"x" * 100_000)
        file.flush()
        export.write(os.dup(file.fileno()), Export(contents=CONTENTS, rooms=ROOMS))
        assert export.read(file.fileno()) == Export(contents=CONTENTS, rooms=ROOMS)


def test_a_dump_goes_to_no_other_kind_of_file(file: Path) -> None:
    before = open_fds()
    reading, writing = os.pipe()
    for descriptor, why in ((os.dup(writing), "regular file"), (os.open(file, os.O_RDONLY), "can't be written")):
        with pytest.raises(RaveError, match=why) as caught:
            export.write(descriptor, Export(contents=CONTENTS, rooms=ROOMS))
        assert caught.value.code is Code.INVALID_ARGUMENT
    os.close(reading)
    os.close(writing)
    assert open_fds() == before
    assert file.read_text() == TEXT


# In a file


@pytest.mark.parametrize("place", [0, 5, len(TEXT.encode())])
def test_a_file_is_read_from_its_start(file: Path, place: int) -> None:
    with file.open("rb") as source:
        source.seek(place)
        assert export.read(source.fileno()).contents == CONTENTS
        assert source.tell() == place, "it is the owner's"


def test_a_file_in_memory_is_read() -> None:
    with os.fdopen(os.memfd_create("dump"), "wb", buffering=0) as target:
        target.write(TEXT.encode())
        assert export.read(target.fileno()).contents == CONTENTS


def test_a_file_that_comes_in_pieces(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, place: pread(descriptor, min(size, 100), place))
    with file.open("rb") as source:
        assert export.read(source.fileno()).contents == CONTENTS


def test_a_file_that_shrinks_or_grows_meanwhile(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.fstat

    def change(size: int) -> Callable[[int], os.stat_result]:
        def fstat(descriptor: int) -> os.stat_result:
            status = found(descriptor)
            os.truncate(descriptor, size)
            return status

        return fstat

    with file.open("r+b") as source:
        size = file.stat().st_size
        monkeypatch.setattr(os, "fstat", change(size + 1))
        assert export.read(source.fileno()).contents == CONTENTS
        monkeypatch.setattr(os, "fstat", change(5))
        with pytest.raises(RaveError) as caught:
            export.read(source.fileno())
        assert caught.value.code is Code.BAD_DATA


@pytest.mark.parametrize("kind", ["pipe", "socket", "directory", "device"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    if kind == "socket":
        with socket.socket() as source, pytest.raises(RaveError) as caught:
            export.read(source.fileno())
        error = caught.value
    else:
        # A device without end; a pipe that no program writes to.
        path = "/dev/zero" if kind == "device" else tmp_path / kind
        error = read_refused(path, os.O_RDWR if kind == "pipe" else os.O_RDONLY)
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, "the export is not in a regular file")
    assert error.hint


@pytest.mark.slow
def test_how_long_a_file_may_be(file: Path) -> None:
    with file.open("a") as target:
        target.write(" " * (export.MAX_FILE_BYTES - file.stat().st_size))
    with file.open("rb") as source:
        assert export.read(source.fileno()).contents == CONTENTS
    with file.open("a") as target:
        target.write(" ")
    error = read_refused(file)
    assert error.code is Code.INVALID_ARGUMENT
    assert "50331649 bytes, where 50331648 are the most" in error.message


def test_a_file_that_can_not_be_read(file: Path) -> None:
    error = read_refused(file, os.O_WRONLY)
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, "the export can't be read: Bad file descriptor")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the export is not valid"),
        (TEXT.encode()[:-3], "the export is not valid"),
        (TEXT.encode("utf-16"), "the export is UTF-16, not UTF-8 text"),
        (TEXT.encode("latin-1"), "the export is not UTF-8 text"),
    ],
)
def test_a_file_without_a_dump(file: Path, content: bytes, problem: str) -> None:
    file.write_bytes(content)
    error = read_refused(file)
    assert error.code is Code.BAD_DATA
    assert problem in error.message
    for secret in SECRETS:
        assert secret not in repr((str(error), error.attributes, error.__cause__))
