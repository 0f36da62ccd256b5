"""ravectl migrate, with a service that notes what it is given."""

from __future__ import annotations

import errno
import grp
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.bus import Variant
from ravesvc.config import rave_yaml
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.errors import Code, RaveError
from tests.unit.fake_service import WHEN_US, FakeManagerObject, FakeService
from tests.unit.old_bot import (
    BLOCKED_AT,
    CREDENTIALS,
    DATABASE,
    FAILED,
    HASH_KEY,
    HOUR,
    KICKED,
    PASSWORD,
    TOKEN,
    blocklist,
    entry,
    write,
    write_source,
)

pytestmark = pytest.mark.slow

# Still in force for the service, which has its own idea of now.
UNTIL = WHEN_US // 1000 + HOUR

ORIGIN = "known from the Node.js bot"
NOTHING = "blocklist.json: there is none.\ncredentials.json: there is none.\ndatabase.json: there is none.\n"


@pytest.fixture
def manager(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManagerObject]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    yield fake.manager
    fake.stop()


@pytest.fixture(autouse=True)
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where database.json belongs; the group rave is our own."""
    path = tmp_path / "etc" / "database.json"
    path.parent.mkdir()
    monkeypatch.setattr(names, "DATABASE_FILE", str(path))
    monkeypatch.setattr(grp, "getgrnam", {"rave": grp.getgrgid(os.getgid())}.__getitem__)
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The directory of a bot that has lived."""
    directory = tmp_path / "old bot"
    directory.mkdir()
    write(directory, "credentials.json", CREDENTIALS)
    write(directory, "blocklist.json", blocklist(UNTIL))
    write(directory, "database.json", DATABASE)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "config").iterdir()}


def test_everything_is_taken_over_and_nothing_twice(
    manager: FakeManagerObject, old: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(old)
    assert main(["migrate", str(old)]) == Exit.OK
    heard = capsys.readouterr()
    assert not heard.err
    assert heard.out == (
        "blocklist.json: 2 entries taken over, 0 blocked already, 0 left out because their time is over.\n"
        "credentials.json: the account is taken over.\n"
        f"database.json: copied to {target}.\n"
        "The service uses it from its next start on: systemctl restart rave-orchestrator\n"
    )
    entries, (member, account), status = manager.asked
    assert entries == (
        "ImportEntries",
        [
            [FAILED, "connection_failures", BLOCKED_AT * 1000, UNTIL * 1000, ORIGIN],
            [KICKED, "kicked", BLOCKED_AT * 1000, 0, ORIGIN],
        ],
    )
    assert member == "ImportCredentials"
    assert json.loads(account) == {**CREDENTIALS, "parseToken": TOKEN, "authToken": TOKEN}
    assert status == "GetStatus"
    assert target.read_bytes() == before["database.json"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(target.parent.iterdir()) == [target]
    assert contents(old) == before
    # Once more, after the restart.
    manager.answer = "same"
    manager.status["Store"] = Variant("s", "mongodb")
    assert main(["migrate", str(old)]) == Exit.OK
    assert capsys.readouterr() == (
        "blocklist.json: 0 entries taken over, 2 blocked already, 0 left out because their time is over.\n"
        "credentials.json: the account is known already, and stays as it is.\n"
        f"database.json: {target} says the same already.\n",
        "",
    )
    assert contents(old) == before


def test_a_restart_that_is_still_to_come_is_told_again(
    manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["migrate", str(old)]) == Exit.OK
        assert "systemctl restart rave-orchestrator" in capsys.readouterr().out


def test_no_secret_is_told(manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["migrate", str(old)])
    manager.error = RaveError(Code.STORE, "the store does not answer")
    main(["migrate", str(old)])
    heard = "".join(capsys.readouterr())
    for secret in (TOKEN, PASSWORD, "bot@example.test"):
        assert secret not in heard


def test_what_is_over_is_counted(manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = {f"{n:08x}-0000-4000-8000-000000000000": entry("", "connection_failures", BLOCKED_AT) for n in range(3)}
    document = {"blockedMeshes": {**entries, **blocklist(0)["blockedMeshes"]}}
    write(old, "blocklist.json", document)
    assert main(["migrate", str(old)]) == Exit.OK
    assert "1 entry taken over, 0 blocked already, 4 left out because" in capsys.readouterr().out
    # 0 is long ago, not for ever.
    assert [row[3] for row in manager.asked[0][1] if row[0] == FAILED] == [1]


def test_many_entries_go_in_several_calls(
    manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meshes = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(120)]
    long = {"detail": "\N{GRINNING FACE}" * 1000}
    write(old, "blocklist.json", {"blockedMeshes": {mesh: entry(mesh, "kicked", None) | long for mesh in meshes}})
    assert main(["migrate", str(old)]) == Exit.OK
    assert "120 entries taken over" in capsys.readouterr().out
    calls = [asked for asked in manager.asked if asked[0] == "ImportEntries"]
    assert [len(entries) for _, entries in calls] == [50, 50, 20]
    assert [entry[0] for _, entries in calls for entry in entries] == meshes


@pytest.mark.parametrize(
    ("answer", "account", "words"),
    [
        ("taken", {**CREDENTIALS, "authToken": None}, "taken over, but a login is needed: run ravectl login."),
        ("same", CREDENTIALS, "known already, and stays as it is."),
        (
            "other",
            CREDENTIALS,
            "because there is another account: to change it, run ravectl logout, and then this again.",
        ),
    ],
)
def test_what_becomes_of_the_account(
    manager: FakeManagerObject,
    old: Path,
    answer: str,
    account: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manager.answer = answer
    write(old, "credentials.json", account)
    assert main(["migrate", str(old)]) == Exit.OK
    assert words in capsys.readouterr().out


def test_another_database_stays(
    manager: FakeManagerObject, old: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ('{"uri": "mongodb://elsewhere/bot"}', "damaged"):
        target.write_text(text)
        assert main(["migrate", str(old)]) == Exit.OK
        out = capsys.readouterr().out
        assert f"database.json: not taken over, because {target} says something else." in out
        assert f"To use the former: cp '{old}/config/database.json' {target}\n" in out
        assert target.read_text() == text
        assert list(target.parent.iterdir()) == [target]
    # Written otherwise it is the same.
    target.write_text(json.dumps(DATABASE))
    assert main(["migrate", str(old)]) == Exit.OK
    assert "says the same already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("credentials.json", b'{"email": "bot@', "can't be used: it is not valid JSON"),
        ("blocklist.json", b"\xff\xff", "can't be used: it is not valid JSON"),
        ("blocklist.json", b"", "can't be used: it is not valid JSON"),
        ("database.json", b'{\n"uri": "mongodb://bot:hush4711', ":2: this is not JSON"),
        ("database.json", b'{"uri": 5,\n"option": {}}', ":1: uri must be a text"),
        (
            "database.json",
            b'{"uri": "mongodb://bot:hush4711@localhost/x",\n"options": {"useNewUrlParser": true}}',
            ":2: options.useNewUrlParser is not taken by the driver",
        ),
    ],
)
def test_a_damaged_file_is_told_and_the_others_are_taken_over(
    manager: FakeManagerObject,
    old: Path,
    target: Path,
    name: str,
    content: bytes,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(old, name, content)
    assert main(["migrate", str(old)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert heard.err.startswith(f"ravectl: {path}")
    assert words in heard.err
    assert "hint: " in heard.err
    assert "Traceback" not in heard.err
    assert PASSWORD not in heard.err
    assert ("taken over, 0 blocked" in heard.out) is (name != "blocklist.json")
    assert ("the account is taken over" in heard.out) is (name == "database.json")
    assert target.exists() is (name != "database.json")
    assert path.read_bytes() == content


def test_there_is_no_account_as_long_as_the_blocklist_cannot_be_read(
    manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(old, "blocklist.json", b"damaged")
    assert main(["migrate", str(old)]) == Exit.FAILED
    assert "ravectl: credentials.json: not taken over as long as it can't be known" in capsys.readouterr().err
    assert not any("ImportCredentials" in str(asked) for asked in manager.asked)
    path.unlink()
    assert main(["migrate", str(old)]) == Exit.OK
    assert "the account is taken over" in capsys.readouterr().out


def test_files_that_can_not_be_read(
    manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("credentials.json", "blocklist.json"):
        (old / "config" / name).unlink()
    (old / "config" / "credentials.json").mkdir()
    os.mkfifo(old / "config" / "blocklist.json")
    assert main(["migrate", str(old)]) == Exit.FAILED
    heard = capsys.readouterr()
    for name in ("credentials.json", "blocklist.json"):
        assert f"ravectl: {old}/config/{name} can't be " in heard.err
    assert "database.json: copied" in heard.out


def test_good_entries_beside_a_bad_one(
    manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = blocklist(UNTIL)
    document["blockedMeshes"]["x\x1b[2J"] = entry("x", "kicked", None)
    path = write(old, "blocklist.json", document)
    assert main(["migrate", str(old)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert "2 entries taken over" in heard.out
    assert f"ravectl: {path}: the entry of " in heard.err
    assert "is not a mesh id" in heard.err
    assert "\x1b" not in heard.err


def test_what_is_no_old_bot(
    manager: FakeManagerObject, tmp_path: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    write_source(tmp_path / "other")
    before = configuration.read_text()
    for name, words in {
        "other": "has no directory config in it",
        "nowhere": "can't be read: No such file or directory",
        "file": "can't be read: Not a directory",
    }.items():
        assert main(["migrate", str(tmp_path / name)]) == Exit.FAILED
        assert capsys.readouterr() == (
            "",
            f"ravectl: {tmp_path / name} {words}; nothing was changed\n"
            "hint: name the directory of the Node.js bot, the one with config in it\n",
        )
    (tmp_path / "empty" / "config").mkdir(parents=True)
    assert main(["migrate", str(tmp_path / "empty")]) == Exit.FAILED
    heard = capsys.readouterr()
    assert (heard.out, f"there is nothing to take over in {tmp_path}/empty/config" in heard.err) == ("", True)
    assert manager.asked == []
    assert configuration.read_text() == before


@pytest.mark.parametrize("given", ["config", "config/", "config/../config", "."])
def test_the_config_directory_itself_will_do(
    manager: FakeManagerObject,
    old: Path,
    configuration: Path,
    given: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_source(old, "bot.js", "meshMode: 'all',")
    monkeypatch.chdir(old / "config" if given == "." else old)
    assert main(["migrate", given]) == Exit.OK
    said = capsys.readouterr().out
    assert "the account is taken over" in said
    assert "rave.yaml: mesh_mode taken over." in said


def test_one_file_will_do(manager: FakeManagerObject, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "blocklist.json", blocklist(UNTIL))
    assert main(["migrate", str(tmp_path)]) == Exit.OK
    heard = capsys.readouterr()
    assert heard.out.splitlines()[1:] == ["credentials.json: there is none.", "database.json: there is none."]
    assert not heard.err


def test_what_the_service_refuses_is_told_with_the_file(
    manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.error = RaveError(Code.STORE, "changes can't be saved", hint="start it")
    write(old, "database.json", DATABASE)
    assert main(["migrate", str(old)]) == Exit.FAILED
    assert capsys.readouterr().err.startswith("ravectl: blocklist.json: changes can't be saved")
    (old / "config" / "blocklist.json").unlink()
    assert main(["migrate", str(old)]) == Exit.FAILED
    assert capsys.readouterr().err.startswith("ravectl: credentials.json: changes can't be saved")


def test_who_may_not_do_it_is_told_once(
    manager: FakeManagerObject, old: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.error = RaveError(Code.ACCESS_DENIED, "no")
    assert main(["migrate", str(old)]) == Exit.DENIED
    assert capsys.readouterr().err.count("ravectl: ") == 1
    assert not target.exists()


@pytest.mark.parametrize(("number", "status"), [(errno.EACCES, Exit.DENIED), (errno.ENOSPC, Exit.FAILED)])
def test_a_place_that_can_not_be_written_to(
    manager: FakeManagerObject,
    old: Path,
    target: Path,
    number: int,
    status: Exit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no such luck")

    monkeypatch.setattr("ravesvc.ctl.operations.migration.write_new", refuse)
    assert main(["migrate", str(old)]) == status
    heard = capsys.readouterr()
    assert heard.err.startswith(f"ravectl: {target} can't be written: no such luck\nhint: ")
    assert "the account is taken over" in heard.out


def test_without_the_group_of_the_service(
    manager: FakeManagerObject, old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grp, "getgrnam", {}.__getitem__)
    assert main(["migrate", str(old)]) == Exit.FAILED
    assert "there is no group rave" in capsys.readouterr().err


# Options and identity


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a new installation."""
    path = tmp_path / "etc" / "rave.yaml"
    path.write_text((Path(__file__).parents[4] / "config/rave.yaml").read_text())
    monkeypatch.setattr(names, "CONFIG_FILE", str(path))
    return path


@pytest.mark.slow
def test_options_and_identity_are_set_in_rave_yaml(
    manager: FakeManagerObject, old: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(old)
    assert main(["migrate", str(old)]) == Exit.OK
    heard = capsys.readouterr()
    assert not heard.err
    taken = next(line for line in heard.out.splitlines() if line.startswith("rave.yaml: "))
    assert "command_prefix, debug, " in taken
    assert "client_identity.request_hash_key" in taken
    assert heard.out.endswith(
        "The options hold from the next start of the service on: systemctl restart rave-orchestrator\n"
        "Bots that run already keep the old ones across it, until: ravectl roll\n"
    )
    # No bot starts before they are written.
    assert heard.out.index("rave.yaml: ") < heard.out.index("the account is taken over")
    assert "Still to be supplied" not in heard.out
    for secret in HASH_KEY, "from-the-environment", "an-application", PASSWORD, TOKEN:
        assert secret not in heard.out
    settings, problems = rave_yaml.read(configuration.read_text(), "rave.yaml")
    assert settings, problems
    assert settings.identity.request_hash_key == HASH_KEY
    assert settings.identity.mojo_api_key == "from-the-environment"
    assert (settings.command_prefix, settings.mesh_mode) == (("!", "bot "), "all")
    assert (settings.discovery_interval, settings.blocklist_duration) == (90, 7200)
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o640
    # Once more changes nothing.
    before = configuration.read_text()
    assert main(["migrate", str(old)]) == Exit.OK
    said = capsys.readouterr().out
    assert (
        "client_identity.request_hash_key"
        in said.partition("rave.yaml: ")[2].partition(" left as set there, to the same")[0]
    )
    assert "another value" not in said
    assert "ravectl roll" not in said
    assert configuration.read_text() == before


def test_what_is_set_stays_and_the_rest_is_named_with_where_to_find_it(
    manager: FakeManagerObject, old: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = configuration.read_text().replace("#mesh_mode: invited", "mesh_mode: friends")
    configuration.write_text(text)
    write_source(
        old, "bot.ts", "meshMode: 'all', discoveryInterval: 0, limit: 3, maxProcesses: 7, processRestartDelay: 1,"
    )
    assert main(["migrate", str(old)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert "discovery_interval is not taken over: must be a time span such as 5s" in heard.err
    assert "(bot.ts:1)\nhint: set discovery_interval in rave.yaml\n" in heard.err
    assert "rave.yaml: max_processes, process_restart_delay taken over." in heard.out
    assert "rave.yaml: mesh_mode is set there to another value; left." in heard.out
    assert configuration.read_text() == text.replace("#max_processes: auto", "max_processes: 7").replace(
        "#process_restart_delay: 5s", "process_restart_delay: 1s"
    )
    needed = heard.out.partition("Still to be supplied")[2]
    for key in "request_hash_key", "mojo_api_key", "mojo_redirect_url", "parse_application_id":
        assert f"client_identity.{key} (" in needed
    assert "createHmac" in needed
    assert needed.count("only the next login needs it") == 3


def test_without_its_files_the_source_is_enough(
    manager: FakeManagerObject, tmp_path: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(tmp_path / "fresh clone")
    (tmp_path / "fresh clone" / "config").mkdir()
    assert main(["migrate", str(tmp_path / "fresh clone")]) == Exit.OK
    heard = capsys.readouterr()
    assert not heard.err
    assert [line for line in heard.out.splitlines(keepends=True) if "there is none" in line] == NOTHING.splitlines(
        True
    )


def test_a_configuration_that_can_not_be_read_or_written_is_told(
    manager: FakeManagerObject, old: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(old)
    configuration.unlink()
    assert main(["migrate", str(old)]) == Exit.FAILED
    assert f"{configuration} can't be read: No such file or directory" in capsys.readouterr().err
    configuration.write_bytes("client_identity:\n".encode("utf-16"))
    assert main(["migrate", str(old)]) == Exit.FAILED
    assert f"{configuration} is UTF-16, not UTF-8 text" in capsys.readouterr().err


def test_only_what_is_missing_is_to_be_supplied(
    manager: FakeManagerObject, old: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(old, "bot.js", f"createHmac('sha256', '{HASH_KEY}'); x = {{ 'X-Api-Key': 'hush-mojo' }};")
    assert main(["migrate", str(old)]) == Exit.OK
    needed = capsys.readouterr().out.partition("Still to be supplied")[2].partition("The options")[0]
    assert [line.partition(" (")[0].strip() for line in needed.splitlines()[1:]] == [
        "client_identity.mojo_redirect_url",
        "client_identity.parse_application_id",
    ]
    assert "what it sends as redirect_url; only the next login needs it" in needed
    assert "createHmac" not in needed


PATHS = {"bot.js": "blocklistPersistPath: './state/blocks.json', databaseConfigPath: '{}/mongo.json',"}


def test_files_that_the_source_has_elsewhere(
    manager: FakeManagerObject, old: Path, target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(
        old,
        "src/manager.ts",
        "x = { blocklistPersistPath: path.join(process.cwd(), 'config', 'blocklist.json'), ...y }",
    )
    write_source(old, "bot.js", PATHS["bot.js"].format(tmp_path))
    (old / "state").mkdir()
    (old / "config" / "blocklist.json").rename(old / "state" / "blocks.json")
    (old / "config" / "database.json").rename(tmp_path / "mongo.json")
    assert main(["migrate", str(old)]) == Exit.OK
    said = capsys.readouterr().out
    assert "blocks.json: 2 entries taken over" in said
    assert "credentials.json: the account is taken over." in said
    assert f"mongo.json: copied to {target}." in said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("'state/blocks.json'", "state/blocks.json is not there, and blocklistPersistPath in the source"),
        ("where()", "blocklistPersistPath is not taken over: its value is not written plainly (bot.js:1)"),
        ("process.env.BLOCKS", "blocklistPersistPath is not taken over: its value is not written plainly (bot.js:1)"),
        ("'config'", "config can't be read: Is a directory"),
    ],
)
def test_there_is_no_account_without_the_blocklist_that_the_source_names(
    manager: FakeManagerObject, old: Path, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(old, "bot.js", f"blocklistPersistPath: {value},")
    assert main(["migrate", str(old)]) == Exit.FAILED
    said = capsys.readouterr().err
    assert words in said
    assert "credentials.json: not taken over as long as it can't be known" in said
    assert manager.asked == ["GetStatus"], "no entry of a list that is not in use"


@pytest.mark.parametrize("name", ["MONGODB_URI", "MONGO_URL", "DATABASE_URL", "STORE"])
def test_a_database_that_only_the_environment_names(
    manager: FakeManagerObject, old: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(old, ".env", f"{name}=mongodb://bot:{PASSWORD}@db.example.test/bot\n")
    assert main(["migrate", str(old)]) == Exit.OK, "there is a database.json"
    capsys.readouterr()
    (old / "config" / "database.json").unlink()
    assert main(["migrate", str(old)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert "the admins and permissions are in a database that .env names" in heard.err
    assert "put its address into " in heard.err
    assert PASSWORD not in heard.out + heard.err


def test_many_problems_are_counted(manager: FakeManagerObject, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(old, "blocklist.json", {"blockedMeshes": {f"x{number}": {} for number in range(50)}})
    assert main(["migrate", str(old)]) == Exit.FAILED
    said = capsys.readouterr().err
    assert said.count("can't be taken over") == 20
    assert "ravectl: and 30 more\n" in said
