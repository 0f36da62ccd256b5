from __future__ import annotations

import json
from pathlib import Path

import pytest

from ravesvc import database
from ravesvc.errors import Code, RaveError

EXAMPLE = Path(__file__).parents[2] / "config" / "database.json"
SECRET = "hunter2"
URI = f"mongodb://bot:{SECRET}@db.example.test:27017/rave-bot"


def refused(path: Path) -> RaveError:
    with pytest.raises(RaveError) as caught:
        database.load(path)
    error = caught.value
    assert error.code is Code.CONFIG
    assert str(path) in error.message
    assert error.attributes["file"] == str(path)
    assert SECRET not in repr((str(error), error.attributes, error.__cause__))
    return error


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "database.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_without_the_file_there_is_no_database(tmp_path: Path) -> None:
    assert database.load(tmp_path / "database.json") is None


def test_uri_and_options_are_as_they_stand_there(tmp_path: Path) -> None:
    options = {"maxPoolSize": 10, "socketTimeoutMS": 4.5e4, "tls": True, "replicaSet": "rs0"}
    path = written(tmp_path, {"uri": URI, "options": options})
    assert database.load(path) == database.Database(path=str(path), uri=URI, options=options)


@pytest.mark.parametrize("uri", ["mongodb://localhost", "mongodb+srv://cluster.example.test/bot"])
def test_options_may_be_left_out(tmp_path: Path, uri: str) -> None:
    path = written(tmp_path, {"uri": uri})
    assert database.load(path) == database.Database(path=str(path), uri=uri)


def test_a_database_shows_nobody_its_password(tmp_path: Path) -> None:
    loaded = database.load(written(tmp_path, {"uri": URI, "options": {"password": SECRET}}))
    assert SECRET not in f"{loaded} {loaded!r}"


def test_the_example_can_be_used() -> None:
    assert database.load(EXAMPLE)


@pytest.mark.parametrize(
    ("document", "key", "hint"),
    [
        ([], "the file", ""),
        ({}, "uri", "such as mongodb://"),
        ({"uri": 27017}, "uri", "such as mongodb://"),
        ({"uri": f"postgres://bot:{SECRET}@host/db"}, "uri", "such as mongodb://"),
        ({"uri": f"{URI}\n"}, "uri", "such as mongodb://"),
        ({"url": URI}, "url", "did you mean uri?"),
        ({"uri": URI, "option": {}}, "option", "did you mean options?"),
        ({"uri": URI, "x\n": SECRET}, "x?", "known here: uri, options"),
        ({"uri": URI, "": SECRET}, "an empty key", "known here"),
        ({"uri": URI, "options": [SECRET]}, "options", ""),
        ({"uri": URI, "options": {"auth": {"password": SECRET}}}, "options.auth", ""),
        ({"uri": URI, "options": {"password": None}}, "options.password", ""),
        ({"uri": URI, "options": {"_pool_class": SECRET}}, "options._pool_class", "MongoDB's URIs"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(tmp_path: Path, document: object, key: str, hint: str) -> None:
    error = refused(written(tmp_path, document))
    assert error.attributes["key"] == key
    assert f": {key} " in error.message
    assert hint in error.hint


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    error = refused(written(tmp_path, f'{{\n"uri": "{URI}",\n}}'))
    assert error.attributes["line"] == 3
    assert "database.json:3: this is not JSON" in error.message
    assert "embedded store" in error.hint


@pytest.mark.parametrize("content", [b"\xff" + SECRET.encode(), b"[" * 100_000, b'{"uri": 1' + b"0" * 5000 + b"}"])
def test_what_is_no_json_at_all_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "database.json"
    path.write_bytes(content)
    assert "this is not JSON" in refused(path).message


def test_a_file_that_cannot_be_read_is_no_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "database.json"
    path.mkdir()
    error = refused(path)
    assert "can't be read: Is a directory" in error.message
    assert f"chown root:rave {path} && chmod 0640 {path}" in error.hint
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    error = refused(link)
    assert "link to nowhere" in error.message
    assert error.hint == "mend the link, or remove it to use the embedded store"
