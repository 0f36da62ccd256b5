from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from ravesvc.common import machine
from ravesvc.config import declaration as kinds
from ravesvc.config import options, rave_yaml
from ravesvc.config.database import Database
from ravesvc.config.options import Config
from ravesvc.config.table import Entry
from ravesvc.config.worker_options import ClientIdentity, Proxy
from ravesvc.errors import Code, RaveError
from tests.unit.config.option_values import bad, document, good, sample

SHIPPED = Path(__file__).parents[3] / "config/rave.yaml"
NUMBERS = (kinds.WHOLE_NUMBER, kinds.LIMIT, kinds.TIME_SPAN)


def test_the_shipped_file_equals_the_defaults() -> None:
    assert rave_yaml.load(SHIPPED) == Config()
    assert good("") == Config()


@pytest.mark.parametrize("entry", options.TABLE, ids=lambda entry: entry.name)
def test_an_option_is_read_where_it_stands(entry: Entry) -> None:
    text, value = sample(entry)
    found = good(text)
    assert entry.value(found) == value
    assert found.lines[entry.name] == text.count("\n") + 1
    others = [each for each in options.TABLE if each.name != entry.name]
    assert [each.name for each in others if each.value(found) != each.value(Config())] == []


@pytest.mark.parametrize("entry", options.TABLE, ids=lambda entry: entry.name)
def test_a_wrong_value_is_named_with_its_option_and_counts_for_the_default(entry: Entry, tmp_path: Path) -> None:
    path = tmp_path / "rave.yaml"
    path.write_text(document(entry, "{}"))
    found, (problem,) = rave_yaml.examine(path)
    assert problem.attributes["key"] == entry.name
    assert problem.message.startswith(f"{path}:{problem.attributes['line']}: {entry.name} must be ")
    assert found
    assert entry.value(found) == entry.value(Config())


@pytest.mark.parametrize("entry", options.TABLE, ids=lambda entry: entry.name)
def test_a_null_is_the_default(entry: Entry) -> None:
    assert good(document(entry, "")) == good(document(entry, "~")) == Config()


@pytest.mark.parametrize(
    "entry", [each for each in options.TABLE if each.option.kind in NUMBERS], ids=lambda entry: entry.name
)
def test_both_bounds_of_a_number_are_allowed_and_nothing_beyond(entry: Entry) -> None:
    least, most = entry.option.least, entry.option.most
    step = 0.01 if entry.option.kind is kinds.TIME_SPAN else 1
    for value in least, most:
        none = None if entry.option.kind is kinds.LIMIT else 0
        assert entry.value(good(document(entry, str(value)))) == (value or none)
    for value in least - step, most + step:
        (problem,) = bad(document(entry, str(value)))
        assert f" {entry.name} must be " in problem


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("client_identity: {client_version: 1.10}", "client_identity.client_version", "1.10"),
        ("client_identity: {app_build: 0x10}", "client_identity.app_build", "0x10"),
        ("lang: no", "lang", "no"),
        ("servers: {mojo: 'https://m.test/mojo//'}", "servers.mojo", "https://m.test/mojo"),
        ("servers: {parse: 'https://p.test:8443/parse'}", "servers.parse", "https://p.test:8443/parse"),
        ("discovery_interval: 1h 30min", "discovery_interval", 5400.0),
        ("process_restart_delay: 250ms", "process_restart_delay", 0.25),
        ("shutdown_timeout: 20", "shutdown_timeout", 20.0),
        ("blocklist_duration: 2d", "blocklist_duration", 172800.0),
        ("connect_ports: [8443, 443, 8443]", "connect_ports", (443, 8443)),
        ("allow_addresses: [10.1.2.0/16, 'fd00::5', 10.1.0.0/16]", "allow_addresses", ("10.1.0.0/16", "fd00::5/128")),
        ("ignored_users: [900000003, 900000002]", "ignored_users", (900000002, 900000003)),
        ("command_prefix: 'bot '", "command_prefix", ("bot ",)),
        ("videos: {providers: [link, youtube, link]}", "videos.providers", ("link", "youtube")),
        ("videos: {picture_hosts: 'p.test:8443'}", "videos.picture_hosts", ("p.test:8443",)),
    ],
)
def test_a_value_is_taken_as_people_write_it(text: str, name: str, value: object) -> None:
    (entry,) = [each for each in options.TABLE if each.name == name]
    assert entry.value(good(text)) == value


def test_a_proxy_has_the_hosts_that_are_reached_without_it() -> None:
    found = good("proxy: 'http://bot:p%40ss@proxy.lan:3128'\nno_proxy: [h.test, 10.0.0.0/8]")
    assert found.proxy == Proxy(
        host="proxy.lan", port=3128, user="bot", password="p@ss", bypass=("h.test", "10.0.0.0/8")
    )


def test_the_memory_allows_so_many_bots_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**32)
    assert good("").max_processes == good("max_processes: auto").max_processes == 96
    assert good("max_processes: 500").max_processes == 500
    assert good("max_processes: 0").max_processes is None
    assert bad("max_processes: many") == ["f.yaml:1: max_processes must be auto or a whole number from 0 to 1000000"]


@pytest.mark.parametrize(
    "text",
    [
        "providers: []",
        "providers: vimeo",
        "providers: [youtube, 7]",
        "picture_hosts: [https://ytimg.com]",
        "picture_hosts: ['*']",
        "picture_hosts: ['a:0']",
        "youtube_api: http://y.test",
        "searches_per_user: 0",
        "youtube_searches_per_day: 0",
        "searches: 7",
    ],
)
def test_what_is_wrong_about_videos(text: str) -> None:
    _, (problem,) = rave_yaml.read(f"videos: {{{text}}}", "/x.yaml")
    assert str(problem).startswith(f"/x.yaml:1: videos.{text.split(':')[0]} ")


@pytest.mark.parametrize("entry", [each for each in options.TABLE if each.option.environment], ids=lambda e: e.name)
def test_the_environment_counts_where_an_option_is_not_set(entry: Entry) -> None:
    found = rave_yaml.with_environment(Config(), {entry.option.environment: "http://other.lan:1"})
    assert options.changes(Config(), found) == [entry.name]


def test_without_a_proxy_that_of_the_environment_counts() -> None:
    environment = {"HTTPS_PROXY": "http://other.lan:1", "NO_PROXY": "h.test"}
    assert rave_yaml.with_environment(Config(), {}) == Config()
    found = rave_yaml.with_environment(Config(), environment)
    assert found.proxy == Proxy(host="other.lan", port=1, bypass=("h.test",))
    assert found.mesh_settings().proxy == found.proxy
    named = good("proxy: http://proxy.lan:3128")
    assert rave_yaml.with_environment(named, environment) == named


def test_the_attributes_say_where() -> None:
    _, (problem,) = rave_yaml.read("\ntls: {x: 1}", "f.yaml")
    assert problem.code is Code.CONFIG
    assert problem.attributes == {"file": "f.yaml", "line": 2, "key": "tls.x"}


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    text = "x: 1\nlimit: 0\ntls:\n  ca: /a\n  ca_file: a\nlang: en\ndebug: 7\n"
    assert [problem.split(" ")[:2] for problem in bad(text)] == [
        ["f.yaml:1:", "x"],
        ["f.yaml:2:", "limit"],
        ["f.yaml:4:", "tls.ca"],
        ["f.yaml:5:", "tls.ca_file"],
        ["f.yaml:7:", "debug"],
    ]


PIECES = st.sampled_from([*"[]{}:,-?&*!|>'\"%@`#~ \n\t0x", "limit", "tls", ": ", "\n  ", "- ", "---\n", "<<", "\\U"])


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.text() | st.lists(PIECES, max_size=40).map("".join))
@example("[" * 1_000)
@example("{a: " * 1_000)
@example('"\\UFFFFFFFF"')
@example('"\\U7FFFFFFF"')
@example("%YAML 1." + "9" * 5000 + "\n---\n")
@example("a: &a [*a]")
@example("tls: &a\n  ca_file: *a")
@example("%YAML 9.9\n---\na: 1")
@example("--- 1\n--- 2\n")
@example("\ufefflimit: 5")
@example('lang: "\\ud800"')
def test_any_text_gives_a_configuration_or_problems(text: str) -> None:
    found, problems = rave_yaml.read(text, "f.yaml")
    assert (found is None) == bool(problems)
    for problem in problems:
        assert problem.code is Code.CONFIG
        assert str(problem).startswith("f.yaml:")


IDENTITY = [field.name for field in dataclasses.fields(ClientIdentity)]
OPTIONS = ["client_identity", "servers", "tls", *IDENTITY, *(field.name for field in dataclasses.fields(Config))]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["5s", "/x", "https://h"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(OPTIONS) | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.dictionaries(st.sampled_from(OPTIONS) | st.text() | st.integers(), VALUES, max_size=6))
def test_any_mapping_gives_a_configuration_or_problems(mapping: dict[Any, Any]) -> None:
    found, problems = rave_yaml.read(yaml.safe_dump(mapping, allow_unicode=True), "f.yaml")
    assert (found is None) == bool(problems)
    for problem in problems:
        assert problem.attributes["key"]
        assert int(problem.attributes["line"]) >= 1


def test_one_problem_is_raised_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rave.yaml"
    path.write_text("limit: 0")
    with pytest.raises(RaveError, match=f"^{path}:1: limit must be") as e:
        rave_yaml.load(path)
    assert e.value.code is Code.CONFIG
    assert e.value.attributes["key"] == "limit"


def test_several_problems_are_raised_as_one_with_a_line_for_each(tmp_path: Path) -> None:
    path = tmp_path / "rave.yaml"
    path.write_text("limit: 0\nx: 1\n")
    with pytest.raises(RaveError, match=":1: limit must be") as e:
        rave_yaml.load(str(path))
    assert e.value.code is Code.CONFIG
    assert str(e.value).splitlines()[1].startswith(f"{path}:2: x is not an option")


def test_somebody_else_has_other_places_for_what_the_file_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "rave.yaml"
    path.write_text("state_path: /x/state.db\n")
    loaded = rave_yaml.load(path, rave_yaml.Places(state=tmp_path / "state", configuration=tmp_path))
    assert loaded.state_path == Path("/x/state.db")
    assert loaded.blocklist_persist_path == tmp_path / "state/blocklist.json"
    assert loaded.credentials_path == tmp_path / "state/credentials.json"
    assert loaded.database_config_path == tmp_path / "database.json"


def test_what_is_no_yaml_is_raised_too(tmp_path: Path) -> None:
    path = tmp_path / "rave.yaml"
    path.write_text("limit: [")
    with pytest.raises(RaveError, match=f"^{path}:1: this is not YAML"):
        rave_yaml.load(path)


def with_database(tmp_path: Path, database: str | None, more: str = "") -> Path:
    """A rave.yaml that names the file of a database, and that file unless it is None."""
    file = tmp_path / "database.json"
    if database is not None:
        file.write_text(database)
    path = tmp_path / "rave.yaml"
    path.write_text(f"database_config_path: {file}\n{more}")
    return path


def test_a_database_is_part_of_the_configuration_if_there_is_one(tmp_path: Path) -> None:
    assert rave_yaml.load(with_database(tmp_path, None)).database is None
    uri = "mongodb://user:geheim@localhost/rave-bot"
    loaded = rave_yaml.load(with_database(tmp_path, f'{{"uri": "{uri}", "options": {{"maxPoolSize": 3}}}}'))
    path = str(tmp_path / "database.json")
    assert loaded.database == Database(path=path, uri=uri, options={"maxPoolSize": 3})
    assert loaded.database_config_path == tmp_path / "database.json"
    assert "geheim" not in repr(loaded)


def test_a_database_that_can_not_be_used_is_an_error_like_the_others(tmp_path: Path) -> None:
    broken = '{"uri": "mongodb://user:geheim'
    with pytest.raises(RaveError) as e:
        rave_yaml.load(with_database(tmp_path, broken))
    assert e.value.code is Code.CONFIG
    assert str(tmp_path / "database.json") in str(e.value)
    path = with_database(tmp_path, broken, "limit: 0\nx: 1\n")
    with pytest.raises(RaveError) as e:
        rave_yaml.load(path)
    assert e.value.code is Code.CONFIG
    first, second, third = str(e.value).splitlines()
    assert first.startswith(f"{path}:2: limit must be")
    assert second.startswith(f"{path}:3: x is not an option")
    assert third.startswith(str(tmp_path / "database.json"))
    assert "geheim" not in str(e.value)


def test_what_is_looked_at_is_told_with_the_database_as_far_as_that_goes(tmp_path: Path) -> None:
    path = with_database(tmp_path, '{"uri": "mongodb://localhost/x"}', "limit: 0\n")
    found, problems = rave_yaml.examine(path)
    assert found
    assert (found.limit, found.database and found.database.uri) == (20, "mongodb://localhost/x")
    assert [problem.attributes["line"] for problem in problems] == [2]
    path = with_database(tmp_path, '{"url": "", "uri": ""}')
    found, problems = rave_yaml.examine(path)
    assert found
    assert found.database is None
    assert [problem.attributes["key"] for problem in problems] == ["url", "uri"]
    assert rave_yaml.examine(tmp_path / "nowhere")[0] is None


def test_the_text_alone_reads_no_other_file(tmp_path: Path) -> None:
    text = with_database(tmp_path, "{").read_text()
    assert good(text).database is None


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rave.yaml"
    with pytest.raises(RaveError, match=r"rave.yaml does not exist \(") as e:
        rave_yaml.load(path)
    assert e.value.code is Code.CONFIG
    path.write_bytes(b"lang: \xff")
    with pytest.raises(RaveError, match="can't be read: it is not UTF-8 text") as e:
        rave_yaml.load(path)
    assert e.value.code is Code.CONFIG
    with pytest.raises(RaveError, match="can't be read: Is a directory") as e:
        rave_yaml.load(tmp_path)
    assert e.value.code is Code.CONFIG
