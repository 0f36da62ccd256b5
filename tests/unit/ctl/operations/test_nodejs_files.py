from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.blocklist.model import Block, Reason
from ravesvc.ctl.operations import nodejs_files
from ravesvc.errors import Code, RaveError
from ravesvc.store.model import Credentials
from tests.unit.old_bot import BLOCKED_AT, CREDENTIALS, FAILED, HOUR, KICKED, TOKEN, blocklist, entry

PATH = Path("/opt/bot/config/x.json")
NOW = BLOCKED_AT + HOUR // 2


def text(document: object) -> bytes:
    return json.dumps(document, indent=2).encode()


# The account.


def test_the_account_as_that_bot_writes_it() -> None:
    account = nodejs_files.account(text(CREDENTIALS), PATH)
    assert account == Credentials(
        email="bot@example.test",
        device_id="d" * 32,
        ssaid="5" * 16,
        parse_id="AbCdEf1234",
        parse_token=TOKEN,
        auth_token=TOKEN,
        user_id=900000001,
    )
    assert account.session


@pytest.mark.parametrize("missing", ["parseId", "parseToken", "authToken", "userId", "peerId"])
def test_fields_that_it_leaves_out(missing: str) -> None:
    account = nodejs_files.account(text({key: value for key, value in CREDENTIALS.items() if key != missing}), PATH)
    assert (account.session is None) is (missing == "authToken")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is not valid JSON"),
        (b'{"email": "bot@example.test", "authToken": "0123456789abcdef', "it is not valid JSON (line 1: "),
        (b"\xff\xfe", "it is not valid JSON"),
        (b"[" * 100_000, "it is not valid JSON"),
        (b"[]", "it must be an object, but is a list"),
        (text({**CREDENTIALS, "email": ""}), "email must be a text, but is missing"),
        (text({**CREDENTIALS, "deviceId": None}), "deviceId must be a text, but is missing"),
        (text({**CREDENTIALS, "ssaid": 5}), "ssaid must be a text, but is a int"),
        (text({**CREDENTIALS, "authToken": f"{TOKEN}\r\nX: {TOKEN}"}), "authToken must be one word"),
    ],
)
def test_an_account_of_no_use(content: bytes, words: str) -> None:
    with pytest.raises(RaveError) as caught:
        nodejs_files.account(content, PATH)
    error = caught.value
    assert error.code is Code.BAD_FILE
    assert error.message.startswith(f"{PATH} can't be used: {words}")
    assert "ravectl login" in error.hint
    assert error.attributes["file"] == str(PATH)
    assert TOKEN not in repr((str(error), error.attributes, error.__cause__))


# The blocklist.


def test_the_blocklist_as_that_bot_writes_it() -> None:
    blocks, problems = nodejs_files.blocks(text(blocklist(BLOCKED_AT + HOUR)), PATH, NOW)
    assert problems == []
    assert blocks == [
        Block(mesh=FAILED, reason=Reason.CONNECTION_FAILURES, since=BLOCKED_AT, until=BLOCKED_AT + HOUR),
        Block(mesh=KICKED, reason=Reason.KICKED, since=BLOCKED_AT, until=None),
    ]
    assert nodejs_files.blocks(b'{\n  "blockedMeshes": {}\n}', PATH, NOW) == ([], [])


def test_a_clock_that_was_ahead_blocks_for_no_longer_than_it_should() -> None:
    (failed, _), _ = nodejs_files.blocks(text(blocklist(BLOCKED_AT + HOUR)), PATH, BLOCKED_AT - 1)
    assert (failed.since, failed.until) == (BLOCKED_AT - 1, BLOCKED_AT - 1 + HOUR)


def test_a_bad_entry_keeps_no_other_out() -> None:
    bad: dict[str, Any] = {
        "not a mesh": entry("", "kicked", None),
        FAILED.replace("1", "A"): entry("", "kicked", None),
        FAILED: "kicked",
        KICKED.replace("2", "3"): entry("", "bored", None),
        KICKED.replace("2", "4"): {**entry("", "kicked", None), "blockedAt": "yesterday"},
        KICKED.replace("2", "5"): {"reason": "kicked"},
        KICKED.replace("2", "6"): {**entry("", "connection_failures", None), "blockedUntil": [1]},
    }
    blocks, problems = nodejs_files.blocks(
        text({"blockedMeshes": {**bad, KICKED: entry(KICKED, "kicked", None)}}), PATH, NOW
    )
    no_mesh, meshes = list(bad)[:2], list(bad)[2:]
    # Any of these may have been a kick.
    assert [(block.mesh, block.until, block.detail) for block in blocks] == [
        *((mesh, None, "unreadable entry of the old bot") for mesh in meshes),
        (KICKED, None, ""),
    ]
    assert [problem.code for problem in problems] == [Code.BAD_FILE] * len(bad)
    for mesh, problem in zip(no_mesh, problems[:2], strict=True):
        assert problem.message.startswith(f"{PATH}: the entry of {mesh!r} can't be taken over: ")
        assert "ravectl blocklist add MESH" in problem.hint
    for mesh, problem in zip(meshes, problems[2:], strict=True):
        assert problem.message.startswith(f"{PATH}: the entry of {mesh} can't be read: ")
        assert problem.message.endswith("; the mesh is blocked for ever")
        assert f"ravectl blocklist remove {mesh}" in problem.hint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", b'{"blockedMeshes": []}', b'{"blockedMeshes"'])
def test_what_is_no_blocklist(content: bytes) -> None:
    with pytest.raises(RaveError) as caught:
        nodejs_files.blocks(content, PATH, NOW)
    assert caught.value.code is Code.BAD_FILE
    assert caught.value.message.startswith(f"{PATH} can't be used: ")
    assert "run this again" in caught.value.hint


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*Reason])
ENTRIES = st.dictionaries(
    st.sampled_from(["reason", "blockedAt", "blockedUntil", "detail", "actor", "count"]), VALUES, max_size=6
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from([FAILED, KICKED]) | st.text(), ENTRIES | VALUES, max_size=4))
def test_every_entry_is_read_or_a_problem(entries: dict[str, Any]) -> None:
    blocks, problems = nodejs_files.blocks(text({"blockedMeshes": entries}), PATH, NOW)
    assert {FAILED, KICKED}.intersection(entries) == {block.mesh for block in blocks}
    assert len(problems) <= len(entries) <= len(blocks) + len(problems)


# Files.


def test_a_file_is_read_whatever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert nodejs_files.read(path) is None
    assert nodejs_files.read(path / "below") is None
    path.write_bytes(b"\xff\n")
    assert nodejs_files.read(path) == b"\xff\n"
    assert nodejs_files.read(path / "below") is None, "config is no directory"
    link = tmp_path / "link"
    link.symlink_to(path)
    assert nodejs_files.read(link) == b"\xff\n"


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "long"])
def test_what_can_not_be_read_is_told(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device":
            path = Path("/dev/zero")
        case _:
            path.write_text("x" * 11)
            monkeypatch.setattr(nodejs_files, "_MAX_FILE_BYTES", 10)
    with pytest.raises(RaveError, match=f"^{path} can't be ") as caught:
        nodejs_files.read(path)
    assert caught.value.code is Code.BAD_FILE
    assert caught.value.attributes["file"] == str(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_who_may_not_read_is_told_to_be_root(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o000)
    with pytest.raises(RaveError, match="can't be read: Permission denied") as caught:
        nodejs_files.read(path)
    assert "root" in caught.value.hint
