from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ravesvc
from ravesvc.config import declaration as kinds
from ravesvc.config.declaration import Kind
from ravesvc.config.table import Entry, build, entries
from ravesvc.config.worker_options import PROXY, ClientIdentity, Proxy, Servers, Tls, WorkerOptions
from ravesvc.config.worker_settings import Edition, MeshSettings, Session, digest, normalise_token
from ravesvc.errors import Code, RaveError

TEXTS = st.lists(st.text()).map(tuple)


def settings(**changes: Any) -> MeshSettings:
    values: dict[str, Any] = {
        "identity": ClientIdentity(request_hash_key="hush-1", mojo_api_key="hush-2", parse_application_id="hush-3"),
        "servers": Servers(api="https://a.test", parse="https://p.test/parse", mojo="https://m.test"),
        "tls": Tls(ca_file="/ca.pem", insecure_hosts=("h.test",)),
        "command_prefix": ("?", "bot "),
        "ignored_users": (900000002,),
        "debug": True,
    }
    return MeshSettings(**(values | changes))


SESSION = Session(device_id="d" * 32, ssaid="5" * 16, user_id=900000001, auth_token="hush-token")


INTEGERS = st.integers(0, 2**63 - 1)
VALUES: Mapping[Kind[Any], st.SearchStrategy[Any]] = {
    kinds.SWITCH: st.booleans(),
    kinds.TEXT: st.text(),
    kinds.LANGUAGE: st.text(),
    kinds.URL: st.text(),
    kinds.OPTIONAL_PATH: st.none() | st.text(),
    kinds.TEXTS: TEXTS,
    kinds.WHOLE_NUMBER: INTEGERS,
    kinds.TIME_SPAN: st.floats(0, kinds.YEAR_S),
    kinds.PORTS: st.lists(st.integers(1, 65535)).map(tuple),
    kinds.USER_IDS: st.lists(INTEGERS).map(tuple),
    PROXY: st.none()
    | st.builds(Proxy, host=st.text(), port=st.integers(1, 65535), user=st.text(), password=st.text(), bypass=TEXTS),
}


def values(entry: Entry) -> st.SearchStrategy[Any]:
    assert entry.option.kind
    return st.sampled_from(entry.option.words) if entry.option.words else VALUES[entry.option.kind]


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.tuples(*map(values, entries(MeshSettings))))
def test_settings_survive_the_way_to_a_bot(chosen: tuple[Any, ...]) -> None:
    left = iter(chosen)
    before = build(MeshSettings, lambda _: next(left))
    assert MeshSettings.from_json(before.to_json()) == before


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.uuids(), st.integers(1, 2**62), st.text("0123456789abcdef", min_size=1))
def test_a_session_survives_it_too(device: object, user_id: int, token: str) -> None:
    before = Session(device_id=str(device), ssaid="5" * 16, user_id=user_id, auth_token=token)
    assert Session.from_json(before.to_json()) == before


def test_no_key_or_token_shows_in_a_repr() -> None:
    assert "hush" not in repr(settings())
    assert "hush" not in repr(SESSION)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "identity", None),
        (None, "servers", []),
        (None, "tls", "x"),
        (None, "lang", 1),
        (None, "command_prefix", "?"),
        (None, "command_prefix", ["?", None]),
        (None, "chat_form", "both"),
        (None, "connect_ports", [0]),
        (None, "connect_ports", [65536]),
        (None, "ignored_users", 5),
        (None, "ignored_users", ["ann"]),
        (None, "typing_delay", "1"),
        (None, "typing_delay", float("nan")),
        (None, "max_connection_attempts", 1.5),
        (None, "debug", 1),
        ("identity", "request_hash_key", None),
        ("servers", "api", 1),
        ("tls", "ca_file", 1),
        ("tls", "insecure_hosts", [1]),
        (None, "unconfirmed_calls", None),
        ("unconfirmed_calls", "playback", 1),
        ("unconfirmed_calls", "vote_time", "hours"),
        ("unconfirmed_calls", "video_host", ["rave"]),
    ],
)
def test_wrong_settings_are_refused_by_key(section: str | None, key: str, value: object) -> None:
    top = json.loads(settings().to_json())
    (top[section] if section else top)[key] = value
    with pytest.raises(RaveError, match=key) as e:
        MeshSettings.from_json(json.dumps(top))
    assert e.value.code is Code.BAD_DATA


@pytest.mark.parametrize("key", ["device_id", "ssaid", "user_id", "auth_token"])
def test_a_session_needs_every_key(key: str) -> None:
    top = json.loads(SESSION.to_json())
    del top[key]
    with pytest.raises(RaveError, match=f"^{key} must be .* missing$"):
        Session.from_object(top)


@pytest.mark.parametrize("read", [MeshSettings.from_json, Session.from_json])
def test_broken_json_is_not_quoted(read: Any) -> None:
    with pytest.raises(RaveError, match=r"file is not valid JSON \(line 1: Expecting ',' delimiter\)$"):
        read('{"auth_token": "hush-token"')


def test_the_peer_id_is_user_and_device() -> None:
    assert SESSION.peer_id == "900000001_" + "d" * 32


@pytest.mark.parametrize("text", ["abc", "r:abc", "r: abc", "r: r:abc", " r:abc ", "abc\n"])
def test_a_token_loses_its_prefix(text: str) -> None:
    assert normalise_token(text) == "abc"
    assert Session.from_object(json.loads(SESSION.to_json()) | {"auth_token": text}).auth_token == "abc"


def test_only_the_prefix_is_lost() -> None:
    assert normalise_token("ar:b") == "ar:b"
    assert normalise_token("r:") == ""


@given(st.text(), st.text())
def test_a_digest_tells_one_text_from_another_and_not_what_it_says(one: str, other: str) -> None:
    assert re.fullmatch("[0-9a-f]{16}", digest(one))
    assert (digest(one) == digest(other)) is (one == other)


def test_a_digest_is_the_same_in_every_process_and_version() -> None:
    # An upgrade alone must not make settings look like others.
    assert digest("{}") == "44136fa355b3678a"


def test_the_digest_of_settings_is_that_of_their_text() -> None:
    assert digest(settings().to_json()) == digest(settings().to_json())
    for change in (
        {"lang": "de"},
        {"watchdog": 31.0},
        {"debug": False},
        {"tls": Tls()},
        {"command_prefix": ("bot ", "?")},
    ):
        assert digest(settings(**change).to_json()) != digest(settings().to_json())


def test_editions_differ_by_program_or_settings() -> None:
    assert Edition("1", "a") == Edition("1", "a")
    assert len({Edition("1", "a"), Edition("2", "a"), Edition("1", "b")}) == 3


def test_every_option_of_workers_is_used() -> None:
    """A value that is read and never passed on changes nothing, and no type checker sees it."""
    package = Path(ravesvc.__file__).parent
    sources = [path.read_text() for path in package.rglob("*.py") if "config" not in path.relative_to(package).parts]
    names = {entry.name.rpartition(".")[2] for entry in entries(WorkerOptions)}
    unused = {name for name in names if not any(re.search(rf'\.{name}\b|"{name}"', source) for source in sources)}
    assert unused == set()
