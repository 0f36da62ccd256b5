"""What the unit hands over: names, descriptors, limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.mesh import handover
from tests.unit.handed_over import hand_over

TOKEN = "aaaaaaaabbbbbbbbccccccccdddddddd"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.json"
    file.write_text('{"a": "settings"}')
    return file


@pytest.fixture
def session(tmp_path: Path) -> Path:
    file = tmp_path / "session.json"
    file.write_text(TOKEN)
    return file


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_files_are_told_by_their_names_and_closed(
    monkeypatch: pytest.MonkeyPatch, settings: Path, session: Path
) -> None:
    first = hand_over(monkeypatch, ["session", "settings"], [session, settings])
    assert handover.receive(os.environ) == ({"settings": '{"a": "settings"}', "session": TOKEN}, {}, None)
    assert not is_open(first)
    assert not is_open(first + 1)
    assert not [name for name in os.environ if name.startswith("LISTEN_")]


def test_a_file_that_does_not_exist_has_no_name(monkeypatch: pytest.MonkeyPatch, settings: Path) -> None:
    hand_over(monkeypatch, ["settings"], [settings])
    assert handover.receive(os.environ) == ({"settings": '{"a": "settings"}'}, {}, None)


def test_nothing_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(monkeypatch, [], [])
    assert handover.receive(os.environ) == ({}, {}, None)
    assert handover.receive({}) == ({}, {}, None)


def test_what_others_hand_over_is_left_to_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\xff")
    first = hand_over(monkeypatch, ["other", "settings"], [other, settings])
    try:
        assert handover.receive(os.environ) == ({"settings": '{"a": "settings"}'}, {}, None)
        assert is_open(first)
    finally:
        os.close(first)


def test_secrets_of_a_drop_in_are_told_by_their_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Path
) -> None:
    key, empty = tmp_path / "key", tmp_path / "empty"
    key.write_text(f" {TOKEN}\n")
    empty.write_text("\n")
    first = hand_over(monkeypatch, ["secret-ai-key", "settings", "secret-empty"], [key, settings, empty])
    assert handover.receive(os.environ) == ({"settings": '{"a": "settings"}'}, {"ai-key": TOKEN}, None)
    assert not any(map(is_open, range(first, first + 3)))


@pytest.mark.parametrize("content", [b"\xff", b"x" * (16 * 1024 + 1)])
def test_a_secret_that_can_not_be_read_keeps_no_bot_from_starting(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    settings: Path,
    content: bytes,
) -> None:
    key = tmp_path / "key"
    key.write_bytes(content)
    hand_over(monkeypatch, ["settings", "secret-ai-key"], [settings, key])
    assert handover.receive(os.environ) == ({"settings": '{"a": "settings"}'}, {}, None)
    assert "the secret-ai-key file that a drop-in hands over" in caplog.text
    assert "xxx" not in caplog.text


def test_where_somebody_else_has_read_to_makes_no_difference(monkeypatch: pytest.MonkeyPatch, settings: Path) -> None:
    first = hand_over(monkeypatch, ["settings"], [settings])
    os.lseek(first, 5, os.SEEK_SET)
    assert handover.receive(os.environ) == ({"settings": '{"a": "settings"}'}, {}, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN_PID", "1"),
        ("LISTEN_PID", ""),
        ("LISTEN_FDS", "2"),
        ("LISTEN_FDS", "x"),
        ("LISTEN_FDS", ""),
        ("LISTEN_FDNAMES", ""),
        ("LISTEN_FDNAMES", "settings:session"),
        ("LISTEN_FDNAMES", "unknown"),
    ],
)
def test_descriptors_that_are_not_described_as_ours_are_not_touched(
    monkeypatch: pytest.MonkeyPatch, settings: Path, name: str, value: str
) -> None:
    first = hand_over(monkeypatch, ["settings"], [settings])
    monkeypatch.setenv(name, value)
    try:
        assert handover.receive(os.environ) == ({}, {}, None)
        assert is_open(first)
    finally:
        os.close(first)


@pytest.mark.parametrize("content", [b"\xff" + TOKEN.encode(), TOKEN.encode() * ((4 << 20) // len(TOKEN) + 1)])
def test_what_can_not_be_read_is_refused_and_closed_without_its_content(
    monkeypatch: pytest.MonkeyPatch, settings: Path, session: Path, content: bytes
) -> None:
    session.write_bytes(content)
    first = hand_over(monkeypatch, ["settings", "session"], [settings, session])
    with pytest.raises(RaveError, match="the session file that the unit hands over is") as caught:
        handover.receive(os.environ)
    assert caught.value.code in (Code.BAD_DATA, Code.INVALID_ARGUMENT)
    assert TOKEN not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert not is_open(first)
    assert not is_open(first + 1)


def test_a_directory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = hand_over(monkeypatch, ["settings"], [tmp_path])
    with pytest.raises(RaveError, match="not in a regular file"):
        handover.receive(os.environ)
    assert not is_open(first)


def test_the_memory_of_the_process_before_stays_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.write_bytes(b"what it has left")
    first = hand_over(monkeypatch, ["plugins"], [memory])
    assert handover.receive(os.environ) == ({}, {}, first)
    assert os.pread(first, 100, 0) == b"what it has left"
    os.close(first)
