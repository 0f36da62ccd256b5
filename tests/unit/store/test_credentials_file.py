from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common.text import user_name
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.store.credentials_file import from_object, read_credentials, read_session, to_object, write_credentials
from ravesvc.store.model import Credentials

DEVICE = "0123456789abcdef" * 2
TOKEN = "fedcba9876543210" * 2
# As the reference implementation writes it.
REFERENCE: dict[str, Any] = {
    "email": "bot@example.test",
    "deviceId": DEVICE,
    "ssaid": "0123456789abcdef",
    "parseId": "AbCdEf1234",
    "parseToken": "a" * 32,
    "authToken": TOKEN,
    "userId": 900000001,
    "peerId": f"900000001_{DEVICE}",
}
CREDENTIALS = Credentials(
    email="bot@example.test",
    device_id=DEVICE,
    ssaid="0123456789abcdef",
    parse_id="AbCdEf1234",
    parse_token="a" * 32,
    auth_token=TOKEN,
    user_id=900000001,
)
SESSION = Session(device_id=DEVICE, ssaid="0123456789abcdef", user_id=900000001, auth_token=TOKEN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


def write(path: Path, **changes: Any) -> Path:
    """The reference's file, changed; None takes a key away."""
    document = {key: value for key, value in (REFERENCE | changes).items() if value is not None}
    path.write_text(json.dumps(document, indent=2))
    return path


def refused(path: Path, owner: int | None = None) -> RaveError:
    with pytest.raises(RaveError) as e:
        read_session(path, owner=owner)
    assert str(path) in e.value.message
    assert e.value.attributes["file"] == str(path)
    assert TOKEN not in f"{e.value} {e.value.attributes}"
    return e.value


def refused_by_both(path: Path) -> RaveError:
    """What a session and credentials fail with alike."""
    error = refused(path)
    with pytest.raises(RaveError) as e:
        read_credentials(path)
    assert str(e.value) == str(error)
    assert e.value.code is error.code
    assert e.value.attributes == error.attributes
    return error


def test_the_reference_file_gives_a_session(path: Path) -> None:
    session = read_session(write(path))
    assert session == SESSION
    assert session.peer_id == REFERENCE["peerId"]


@pytest.mark.parametrize("user", [None, 0])
def test_a_user_that_is_left_out_is_in_the_peer_id(path: Path, user: object) -> None:
    write(path, userId=user)
    assert read_session(path) == SESSION
    assert read_credentials(path) == CREDENTIALS


@pytest.mark.parametrize("prefix", ["r:", "r: ", " r: "])
def test_the_prefix_of_a_token_is_taken_off(path: Path, prefix: str) -> None:
    assert read_session(write(path, authToken=prefix + TOKEN)) == SESSION


def test_what_a_session_needs_not_may_be_missing(path: Path) -> None:
    write(path, email=None, parseId=None, parseToken=None, peerId=None, userId="900000001")
    assert read_session(path) == SESSION


def test_no_file_no_session(path: Path) -> None:
    assert read_session(path) is None
    assert read_session(path / "x") is None


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"authToken": None}, "authToken"),
        ({"authToken": ""}, "authToken"),
        ({"authToken": "r: "}, "authToken"),
        ({"userId": None, "peerId": None}, "userId"),
        ({"userId": 0, "peerId": ""}, "userId"),
        ({"userId": None, "peerId": f"_{DEVICE}"}, "userId"),
        ({"userId": None, "peerId": "900000001"}, "userId"),
        ({"userId": None, "peerId": f"0_{DEVICE}"}, "userId"),
        ({"userId": None, "peerId": f"-5_{DEVICE}"}, "userId"),
        ({"userId": None, "peerId": 900000001}, "userId"),
        ({"authToken": None, "userId": None}, "authToken"),
    ],
)
def test_a_session_without_token_or_user_needs_a_login(path: Path, changes: dict[str, Any], missing: str) -> None:
    error = refused(write(path, **changes))
    assert error.code is Code.LOGIN_NEEDED
    assert error.message.endswith(f"has no {missing}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deviceId", None),
        ("deviceId", ""),
        ("deviceId", 5),
        ("deviceId", "a b"),
        ("ssaid", None),
        ("ssaid", ""),
        ("ssaid", "a\r\nX-Header: b"),
        ("authToken", 5),
        ("authToken", f"{TOKEN}\r\nX-Header: b"),
        ("authToken", "ä"),
        ("userId", "x"),
        ("userId", True),
        ("userId", -1),
        ("parseId", "a b"),
        ("parseToken", "a\r\nb"),
        ("parseToken", 5),
        ("email", 5),
        ("email", "a\nb"),
        ("email", "\u202ebot@example.test"),
        ("email", "\ud800"),
    ],
)
def test_a_wrong_value_is_named(path: Path, key: str, value: object) -> None:
    error = refused_by_both(write(path, **{key: value}))
    assert error.code is Code.BAD_FILE
    assert f"can't be used: {key} must be" in error.message
    assert error.attributes["key"] == key


@pytest.mark.parametrize("content", [b"", f'{{"authToken": "{TOKEN}"'.encode(), b"\xff", b"[]", TOKEN.encode()])
def test_a_spoilt_file_is_not_quoted(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    error = refused_by_both(path)
    assert error.code is Code.BAD_FILE
    assert error.hint


def test_a_file_that_is_too_large_is_not_read(path: Path) -> None:
    write(path)
    text = path.read_text()
    path.write_text(text + " " * (64 * 1024 - len(text)))
    assert read_session(path) == SESSION
    path.write_text(text + " " * (64 * 1024 - len(text) + 1))
    error = refused(path)
    assert error.code is Code.BAD_FILE
    assert "is larger than 65536 bytes" in error.message


@pytest.mark.parametrize("owner", [None, os.getuid()])
def test_only_a_plain_file_is_read(path: Path, tmp_path: Path, owner: int | None) -> None:
    real = write(tmp_path / "real")
    path.symlink_to(real)
    assert "can't be opened" in refused(path, owner).message
    path.unlink()
    path.hardlink_to(real)
    assert refused(path, owner).message.endswith("is not trusted")
    path.unlink()
    os.mkfifo(path)
    assert refused(path, owner).message.endswith("is not trusted")
    path.unlink()
    path.mkdir()
    assert refused(path, owner).message.endswith("is not trusted")
    path.rmdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        error = refused(path, owner)
    assert error.code is Code.BAD_FILE
    assert error.hint == f"it must be a plain file of the user {user_name(os.getuid())}"


def test_the_owner_counts_when_one_is_given(path: Path) -> None:
    write(path)
    assert read_session(path, owner=os.getuid()) == SESSION
    error = refused(path, os.getuid() + 1)
    assert error.code is Code.BAD_FILE
    assert error.message.endswith("is not trusted")


def descriptors() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


def test_no_descriptor_is_left_open(path: Path) -> None:
    before = descriptors()
    write_credentials(path, CREDENTIALS)
    read_session(write(path))
    read_credentials(path)
    refused(path, os.getuid() + 1)
    assert descriptors() == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@pytest.mark.slow
@hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(list(REFERENCE)), JSON, max_size=3))
def test_any_values_give_a_session_or_a_word_about_them(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(REFERENCE | changes))
    try:
        session = read_session(path)
    except RaveError as e:
        code = e.code
    else:
        assert session
        assert session.auth_token
        assert session.device_id
        return
    assert code in (Code.BAD_FILE, Code.LOGIN_NEEDED)


# Credentials.


def test_the_reference_file_gives_credentials(path: Path) -> None:
    assert read_credentials(write(path)) == CREDENTIALS
    assert read_credentials(write(path, authToken=f"r:{TOKEN}", parseToken=f" r: {'a' * 32}")) == CREDENTIALS
    assert read_credentials(write(path, userId="900000001", peerId="whatever")) == CREDENTIALS


def test_no_file_no_credentials(path: Path) -> None:
    assert read_credentials(path) is None


@pytest.mark.parametrize("unknown", [None, "", 0])
def test_what_is_not_known_may_be_missing(path: Path, unknown: object) -> None:
    write(path, parseId=None, parseToken=None, authToken=None, userId=unknown or None, peerId=unknown or None)
    assert read_credentials(path) == Credentials(email="bot@example.test", device_id=DEVICE, ssaid="0123456789abcdef")


@pytest.mark.parametrize("email", [None, ""])
def test_credentials_need_an_address(path: Path, email: str | None) -> None:
    write(path, email=email)
    assert read_session(path) == SESSION
    with pytest.raises(RaveError) as e:
        read_credentials(path)
    assert e.value.code is Code.BAD_FILE
    assert e.value.message == f"{path} can't be used: email must be a text, but is missing"
    assert e.value.attributes == {"file": str(path), "key": "email"}
    assert e.value.hint


def test_a_file_is_written_as_the_reference_implementation_does(path: Path) -> None:
    before = os.umask(0)
    try:
        write_credentials(path, CREDENTIALS)
    finally:
        os.umask(before)
    assert path.read_text() == json.dumps(REFERENCE, indent=2) + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["credentials.json"]


def test_what_is_not_known_is_left_out(path: Path) -> None:
    sparse = Credentials(email="bört@example.test", device_id="d", ssaid="s")
    write_credentials(path, sparse)
    assert json.loads(path.read_text()) == {"email": "bört@example.test", "deviceId": "d", "ssaid": "s"}
    assert read_credentials(path) == sparse


@pytest.mark.parametrize("known", [{"email": ""}, {"device_id": "a b"}, {"ssaid": ""}, {"auth_token": "a\nsecret"}])
def test_what_could_not_be_read_again_is_not_written(path: Path, known: dict[str, Any]) -> None:
    write_credentials(path, CREDENTIALS)
    with pytest.raises(RaveError) as e:
        write_credentials(path, replace(CREDENTIALS, **known))
    assert e.value.code is Code.BAD_FILE
    assert e.value.message.startswith(f"{path} can't hold the credentials: ")
    assert "secret" not in f"{e.value} {e.value.attributes}"
    assert e.value.hint
    assert read_credentials(path) == CREDENTIALS


def test_a_directory_that_cannot_be_written_to_is_named(path: Path) -> None:
    with pytest.raises(RaveError) as e:
        write_credentials(path / "x", CREDENTIALS)
    assert e.value.code is Code.BAD_FILE
    assert e.value.message == f"{path / 'x'} can't be written: No such file or directory"
    assert e.value.attributes == {"file": str(path / "x")}
    assert e.value.hint


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
tokens = st.just("") | words.filter(lambda text: not text.startswith("r:"))


@pytest.mark.slow
@given(
    credentials=st.builds(
        Credentials,
        email=st.text(min_size=1).filter(str.isprintable),
        device_id=words,
        ssaid=words,
        parse_id=tokens,
        parse_token=tokens,
        auth_token=tokens,
        user_id=st.none() | st.integers(1, 2**63 - 1),
    )
)
def test_credentials_come_back_exactly(credentials: Credentials) -> None:
    text = json.dumps(to_object(credentials))
    assert from_object(json.loads(text)) == credentials
