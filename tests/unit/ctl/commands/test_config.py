"""ravectl config check: no service is needed, and there is none here."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc import names
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.main import main
from ravesvc.setup import places

SECRET = "hush4711"
KEYS = ("request_hash_key", "mojo_api_key", "mojo_redirect_url", "parse_application_id")
ADVISED = ("user_agent", "client_version", "app_build")
VALUES = dict.fromkeys((*KEYS, *ADVISED), SECRET) | {
    "request_hash_key": "0123456789abcdef",
    "mojo_redirect_url": "https://rave.example.test/mojoauth",
}
IDENTITY = "client_identity:\n" + "".join(f"  {key}: {value}\n" for key, value in VALUES.items())


@pytest.fixture(autouse=True)
def _no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    # Temporary directories are in /tmp, which the service does not see.
    monkeypatch.setattr(places, "HIDDEN", {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return configured(tmp_path, IDENTITY)


def configured(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "rave.yaml"
    path.touch(0o600)
    path.write_text(f"database_config_path: {tmp_path}/database.json\n{more}")
    return path


def test_a_good_configuration(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", str(file)]) == Exit.OK
    assert capsys.readouterr() == (f"{file} is fine.\n", "")
    database = file.with_name("database.json")
    database.touch(0o600)
    database.write_text(f'{{"uri": "mongodb://bot:{SECRET}@localhost/bot", "options": {{"maxPoolSize": 5}}}}')
    assert main(["config", "check", str(file)]) == Exit.OK
    assert capsys.readouterr() == (f"{file} is fine.\n{database} is fine.\n", "")


def test_what_is_hardly_meant_is_no_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path, f"{IDENTITY}blocklist_duration: 3600000\nlang: fr\n")
    assert main(["config", "check", str(file)]) == Exit.OK
    heard = capsys.readouterr()
    (warning,) = heard.err.splitlines()
    assert warning.startswith(
        f"warning: {file}:10: blocklist_duration: 3600000 means 3600000 seconds, that is 41 days"
    )
    fine, language = heard.out.splitlines()
    assert fine == f"{file} has no mistake, but 1 warning:"
    assert language == "lang: bots answer in English, because they know de and en, but not fr."
    file.parent.chmod(0o755)
    file.chmod(0o644)
    assert main(["config", "check", str(file)]) == Exit.OK
    heard = capsys.readouterr()
    assert [line.partition("/")[0] for line in heard.err.splitlines()] == ["warning: "] * 2
    assert heard.out.startswith(f"{file} has no mistake, but 2 warnings:\n")


def test_all_that_has_to_be_supplied_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(tmp_path, f"credentials_path: {tmp_path}/c.json\nclient_identity:\n  user_agent: x\n")
    assert main(["config", "check", str(file)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert not heard.out
    *lines, last = heard.err.splitlines()
    assert [line.partition(" is not set: ")[0] for line in lines] == [
        f"{file}:3: client_identity.{key}" for key in KEYS
    ]
    assert lines[0].endswith("is not set: a text of hex digits, signs requests")
    assert last == f"{file} has no mistake, but no bot starts until these are set."


def test_what_a_login_takes_may_come_later_where_there_is_an_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account = tmp_path / "credentials.json"
    file = configured(tmp_path, f"credentials_path: {account}\nclient_identity: {{request_hash_key: {SECRET}}}\n")
    assert main(["config", "check", str(file)]) == Exit.FAILED
    assert capsys.readouterr().err.count("is not set: ") == 3
    account.touch()
    assert main(["config", "check", str(file)]) == Exit.OK
    fine, shape, login, others = capsys.readouterr().out.splitlines()
    assert shape == (
        "client_identity.request_hash_key does not look as it does elsewhere: a text of hex digits, signs requests."
    )
    assert SECRET not in shape
    assert fine == f"{file} is fine."
    assert login.startswith("The next login will need client_identity.mojo_api_key (a text,")
    assert all(f"client_identity.{key} (such as" in others for key in ADVISED)


def test_the_file_of_the_service_is_the_one_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == Exit.FAILED or Path(names.CONFIG_FILE).exists()
    assert names.CONFIG_FILE in "".join(capsys.readouterr())


def test_every_mistake_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configured(
        tmp_path, f"limit: 0\nclient_identity:\n  user_agnt: {SECRET}\ntls:\n  ca_file: x\nwatchdg: 1\n"
    )
    database = tmp_path / "database.json"
    database.write_text(f'{{"uri": "mongodb://bot:{SECRET}@localhost",\n"option": {{}}}}')
    assert main(["config", "check", str(file)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert not heard.out
    assert heard.err.splitlines() == [
        f"{file}:2: limit must be a whole number from 1 to 100",
        f"{file}:4: client_identity.user_agnt is not an option (did you mean user_agent?)",
        f"{file}:6: tls.ca_file must be an absolute path",
        f"{file}:7: watchdg is not an option (did you mean watchdog?)",
        f"{database}:2: option is not an option (did you mean options?)",
    ]
    assert SECRET not in heard.err


def test_the_driver_is_asked_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = file.with_name("database.json")
    text = (
        f'{{"uri": "mongodb://bot:{SECRET}@localhost",\n"options": {{"useNewUrlParser": true,\n"maxPoolSize": "x"}}}}'
    )
    database.write_text(text)
    assert main(["config", "check", str(file)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert [line.partition(" is not")[0] for line in heard.err.splitlines()] == [
        f"{database}:2: options.useNewUrlParser",
        f"{database}:3: options.maxPoolSize",
    ]
    assert SECRET not in heard.err


@pytest.mark.parametrize("content", [b"\xff", b"[", b"- x", b"\x00", b"[" * 600])
def test_what_is_no_configuration(file: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(content)
    assert main(["config", "check", str(file)]) == Exit.FAILED
    heard = capsys.readouterr()
    assert heard.err.startswith(str(file))
    assert heard.err.count("\n") == 1
    assert "Traceback" not in heard.err


def test_a_file_that_can_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", str(tmp_path / "nowhere")]) == Exit.FAILED
    path = f"{tmp_path}/nowhere"
    hint = f"install -m 640 -g rave {names.SHIPPED_CONFIG_FILE} {path}"
    assert capsys.readouterr().err == f"{path} does not exist ({hint})\n"
    assert main(["config", "check", str(tmp_path)]) == Exit.FAILED
    assert "can't be read: Is a directory" in capsys.readouterr().err


def test_a_name_does_not_control_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "check", f"{tmp_path}/a\x1b[2J\nb"])
    assert capsys.readouterr().err.startswith(f"{tmp_path}/a?[2J?b does not exist")
