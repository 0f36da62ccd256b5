"""rave.yaml while the service runs: what is said of an edit, and what a reload applies."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ravesvc.config import options, rave_yaml
from ravesvc.config.options import Config
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.config_changes import ConfigFile

RELOAD = "systemctl reload rave-orchestrator applies it"
RESTART = "systemctl restart rave-orchestrator applies it"


class Service:
    """A service that has read rave.yaml, and what it was told to put into force since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.applied: list[Config] = []
        self.write("")
        self.config_file = ConfigFile(rave_yaml.load(path), self.applied.append)

    def write(self, text: str) -> None:
        self.path.write_text(f"database_config_path: {self.path.parent}/database.json\n{text}")

    def digest(self, text: str) -> str:
        """That of the settings of bots with such a file."""
        found, _ = rave_yaml.read(text, "")
        assert found
        return found.edition().digest

    async def reload(self, text: str = "") -> tuple[list[str], list[str]]:
        return await self.config_file.reload(self.digest(text))


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "rave.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limit: 7\n", f"has changed (limit): {RELOAD}"),
        ("lang: de\nlimit: 7\n", f"has changed (lang, limit): {RELOAD}"),
        ("watchdog: 7s\n", f"has changed (watchdog): {RESTART}"),
        ("watchdog: 7s\nlimit: 7\n", f"has changed (watchdog, limit): {RESTART}, a reload limit alone"),
    ],
)
async def test_the_note_says_what_differs_and_what_to_run(
    service: Service, text: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.write(text)
    await service.config_file.look()
    # Once for each that is new.
    await service.config_file.look()
    assert service.config_file.note == f"{service.path} {said}"
    assert [record.getMessage() for record in caplog.records] == [service.config_file.note]
    service.write("")
    await service.config_file.look()
    assert service.config_file.note == ""
    assert service.applied == []


async def test_a_mistake_is_noted_and_changes_nothing(service: Service) -> None:
    service.write("limt: 7\nwatchdog: x\n")
    await service.config_file.look()
    note = "the service goes on with what it read before, because of a mistake: "
    assert service.config_file.note.startswith(f"{note}{service.path}:2: limt is not an option (did you mean limit?)")
    assert service.config_file.note.endswith(" (and 1 more)")
    with pytest.raises(RaveError, match="limt is not an option") as e:
        await service.reload()
    assert e.value.code is Code.CONFIG
    assert service.applied == []


async def test_a_reload_takes_over_what_it_may_and_leaves_the_rest_to_a_restart(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.write("lang: de\nlimit: 7\nwatchdog: 7s\nunconfirmed_calls: {playback: false}\n")
    reloaded, waiting = await service.reload("lang: de\nunconfirmed_calls: {playback: false}\n")
    assert (reloaded, waiting) == (["lang", "unconfirmed_calls.playback", "limit"], ["watchdog"])
    (applied,) = service.applied
    assert (applied.lang, applied.limit, applied.unconfirmed_calls.playback) == ("de", 7, False)
    assert applied.watchdog == Config().watchdog
    assert service.config_file.reloaded == reloaded
    note = f"{service.path} has changed (watchdog): {RESTART}"
    assert service.config_file.note == note
    taken = f"Applied from {service.path}: lang, unconfirmed_calls.playback, limit"
    assert [record.getMessage() for record in caplog.records] == [taken, note]
    # What is in force by now is what the next one compares with.
    service.write("lang: de\nlimit: 8\nunconfirmed_calls: {playback: false}\n")
    assert await service.reload("lang: de\nunconfirmed_calls: {playback: false}\n") == (["limit"], [])
    assert service.config_file.note == ""


async def test_bots_and_service_have_the_same_options_or_nothing_changes(service: Service) -> None:
    service.write("lang: de\n")
    # As when the file is edited once more after bots were given its options; or if that step was left out.
    with pytest.raises(RaveError, match="has changed since bots were given its options") as e:
        await service.reload("")
    assert e.value.code is Code.INVALID_ARGUMENT
    assert "systemctl reload rave-orchestrator" in e.value.hint
    assert service.applied == []
    assert service.config_file.reloaded == ()


def test_service_and_bots_agree_on_where_rave_is_until_a_restart() -> None:
    """The service takes over no server, key or proxy while it runs, so bots must not get others either."""
    sections = {"client_identity", "servers", "tls"}
    assert not [name for name in options.RELOADED if name.partition(".")[0] in sections]
    assert not {"proxy", "no_proxy", "connect_ports"} & options.RELOADED
