from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.config import database
from ravesvc.errors import Code, RaveError

EXAMPLE = Path(__file__).parents[3] / "config" / "database.json"
SECRET = "hunter2"
URI = f"mongodb://bot:{SECRET}@db.example.test:27017/rave-bot"


def problems(path: Path) -> list[RaveError]:
    """What is wrong with the file, which there must be something."""
    found, errors = database.read(path)
    assert found is None
    for error in errors:
        assert error.code is Code.CONFIG
        assert str(path) in error.message
        assert error.attributes["file"] == str(path)
        assert SECRET not in repr((str(error), error.attributes, error.__cause__))
    return errors


def refused(path: Path) -> RaveError:
    """The one thing that is wrong with it."""
    (error,) = problems(path)
    return error


def good(path: Path) -> database.Database | None:
    found, errors = database.read(path)
    assert errors == []
    return found


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "database.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_without_the_file_there_is_no_database(tmp_path: Path) -> None:
    assert good(tmp_path / "database.json") is None


def test_uri_and_options_are_as_they_stand_there(tmp_path: Path) -> None:
    options = {"maxPoolSize": 10, "socketTimeoutMS": 4.5e4, "tls": True, "replicaSet": "rs0"}
    path = written(tmp_path, {"uri": URI, "options": options})
    assert good(path) == database.Database(path=str(path), uri=URI, options=options)


def test_a_byte_order_mark_and_line_ends_of_windows_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "database.json"
    path.write_bytes(b'\xef\xbb\xbf{\r\n"uri": "mongodb://localhost"\r\n}\r\n')
    assert good(path) == database.Database(path=str(path), uri="mongodb://localhost")
    path.write_bytes(b'\xef\xbb\xbf{\r\n"url": 1\r\n}\r\n')
    assert [problem.attributes["line"] for problem in problems(path)] == [1, 2]
    path.write_text(f'{{"uri": "{URI}"}}', encoding="utf-16")
    assert "this is not JSON: the file is UTF-16, not UTF-8 text (save it as UTF-8)" in str(refused(path))


@pytest.mark.parametrize("uri", ["mongodb://localhost", "mongodb+srv://cluster.example.test/bot"])
def test_options_may_be_left_out(tmp_path: Path, uri: str) -> None:
    path = written(tmp_path, {"uri": uri})
    assert good(path) == database.Database(path=str(path), uri=uri)


def test_a_database_shows_nobody_its_password(tmp_path: Path) -> None:
    loaded = good(written(tmp_path, {"uri": URI, "options": {"password": SECRET}}))
    assert SECRET not in f"{loaded} {loaded!r}"


def test_the_example_can_be_used() -> None:
    assert good(EXAMPLE)


@pytest.mark.parametrize(
    ("document", "key", "hint"),
    [
        ([], "the file", ""),
        (17, "the file", ""),
        ({}, "uri", "such as mongodb://"),
        ({"uri": 27017}, "uri", "such as mongodb://"),
        ({"uri": f"postgres://bot:{SECRET}@host/db"}, "uri", "such as mongodb://"),
        ({"uri": f"{URI}\n"}, "uri", "such as mongodb://"),
        ({"uri": URI, "option": {}}, "option", "did you mean options?"),
        ({"uri": URI, "x\n": SECRET}, "x?", "known here: uri, options"),
        ({"uri": URI, "": SECRET}, "an empty key", "known here"),
        ({"uri": URI, "options": [SECRET]}, "options", ""),
        ({"uri": URI, "options": {"auth": {"password": SECRET}}}, "options.auth", ""),
        ({"uri": URI, "options": {"password": None}}, "options.password", ""),
        ({"uri": URI, "options": {"maxIdleTimeMS": float("inf")}}, "options.maxIdleTimeMS", ""),
        ({"uri": URI, "options": {"_pool_class": SECRET}}, "options._pool_class", "MongoDB's URIs"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(tmp_path: Path, document: object, key: str, hint: str) -> None:
    path = written(tmp_path, document)
    error = refused(path)
    assert error.attributes["key"] == key
    assert error.message.startswith(f"{path}:1: {key} ")
    assert hint in error.hint


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    text = """{
  "url": "mongodb://bot:hunter2@host/\\"options\\": {",

  "options":
  {
    "tls": [{"tls": 1}, 2], "max pool": 5,
    "\\u0077": null
  },
  "uri"
  : 5
}"""
    path = written(tmp_path, text)
    assert [str(problem).removeprefix(f"{path}:").partition(" must")[0] for problem in problems(path)] == [
        "2: url is not an option (did you mean uri?)",
        "6: options.tls",
        "6: options.max pool is not an option (options are those of MongoDB's URIs)",
        "7: options.w",
        "9: uri",
    ]


def test_a_problem_of_a_key_that_is_found_later_has_its_line_too(tmp_path: Path) -> None:
    path = written(tmp_path, f'{{\n"uri": "{URI}",\n"options": {{"tls": true,\n"appName": "x"}}}}')
    loaded = good(path)
    assert loaded
    problem = loaded.problem("options.appName", "is no good", hint="change it")
    assert str(problem) == f"{path}:4: options.appName is no good (change it)"
    assert problem.attributes == {"file": str(path), "line": 4, "key": "options.appName"}
    assert loaded.problem("uri", "x").attributes["line"] == 2


KEYS = st.sampled_from(["uri", "options"]) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["uri", "options"]) | st.text(), inner, max_size=4)
    ),
)


@pytest.mark.slow
@given(JSON, st.sampled_from([None, 0, 2]))
def test_any_json_is_a_database_or_has_problems(document: object, indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    found, errors = database.parse(text.encode(), "d.json")
    assert (found is None) == bool(errors)
    for error in errors:
        assert 1 <= int(error.attributes["line"]) <= text.count("\n") + 1


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
    assert error.hint == "fix the link, or remove it to use the embedded store"
