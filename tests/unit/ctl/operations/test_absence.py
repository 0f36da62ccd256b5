from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ravesvc.ctl.operations import absence
from ravesvc.errors import Code
from ravesvc.setup import state_directory

FAILED = {"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}


def ended(status: int, code: int = 1, **more: Any) -> dict[str, Any]:
    return {**FAILED, "ExecMainCode": code, "ExecMainStatus": status, **more}


@pytest.mark.parametrize(
    ("unit", "words", "hint"),
    [
        ({}, "rave-orchestrator is not running", "systemctl start"),
        ({"ActiveState": "inactive", "Result": "success"}, "is not running", "systemctl start"),
        ({"LoadState": "not-found"}, "is not installed", "apt install"),
        ({"LoadState": "masked"}, "is masked", "unmask"),
        ({"LoadState": "bad-setting"}, "can't be loaded", "systemctl status"),
        (
            {"ActiveState": "activating", "SubState": "start", "StatusText": "Starting: the\x1b store"},
            "is still starting: Starting: the? store",
            "journalctl",
        ),
        ({"ActiveState": "activating", "SubState": "start-pre"}, "is still starting", "journalctl"),
        ({"ActiveState": "deactivating", "SubState": "stop-sigterm"}, "is being stopped", "systemctl start"),
        (ended(1), "it failed with exit status 1", "journalctl"),
        (ended(226), "its sandbox can't be set up", "journalctl"),
        (ended(217), "there is no user rave (status 217/USER)", "journalctl"),
        (ended(203), "its program can't be run", "journalctl"),
        (ended(238), "/var/lib/rave, can't be used (status 238/STATE_DIRECTORY)", "journalctl"),
        (ended(9, 2, Result="signal"), "signal 9 ended it", "journalctl"),
        (ended(0, Result="watchdog"), "the watchdog", "journalctl"),
        (ended(0, Result="timeout"), "took too long", "journalctl"),
        (ended(0, Result="oom-kill"), "memory", "journalctl"),
        (ended(0, Result="new\nkind"), "it failed (new?kind)", "journalctl"),
    ],
)
def test_what_systemd_knows_in_words(unit: dict[str, Any], words: str, hint: str) -> None:
    error = absence.explain(unit)
    assert error.code is Code.NOT_RUNNING
    assert words in error.message
    assert hint in error.hint
    assert error.attributes["configuration"] == 0


def test_a_mistake_in_the_configuration_is_told_apart_also_in_the_step_before_the_start() -> None:
    step = ["/usr/bin/python3", ["python3"], False, 1, 1, 2, 2, 77, 1, 78]
    waiting = {"ActiveState": "activating", "SubState": "auto-restart"}
    for unit in (ended(78), ended(0, ExecStartPre=[step]), ended(0, ExecStartPre=[step]) | waiting):
        error = absence.explain(unit)
        assert "its configuration has a mistake" in error.message
        assert error.attributes["configuration"] == 1
    assert "systemd tries again: " in error.message


def test_a_start_after_a_failed_one_may_be_about_the_configuration() -> None:
    unit = {"ActiveState": "activating", "SubState": "start-pre", "NRestarts": 3}
    error = absence.explain(unit)
    assert error.message == "rave-orchestrator is being started again, after 3 failed starts"
    assert "config check" in error.hint
    assert error.attributes["configuration"] == 1
    assert "1 failed start:" in absence.explain(unit | {"NRestarts": 1, "StatusText": "Starting"}).message


@pytest.mark.parametrize(
    "moment",
    [
        {"ActiveState": "inactive", "SubState": "dead", "Job": [7, "/job/7"]},
        # The first properties were read before the wait was over, the others after it.
        {"ActiveState": "activating", "SubState": "auto-restart", "Job": [0, "/"]},
    ],
)
def test_what_is_about_to_be_started_again_need_not_be_started(moment: dict[str, Any]) -> None:
    error = absence.explain({**moment, "Result": "success", "NRestarts": 1})
    assert "is being started again, after 1 failed start" in error.message
    assert "ravectl config check" in error.hint


def test_a_link_in_the_place_of_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rave").symlink_to(tmp_path)
    monkeypatch.setattr(state_directory, "PATH", tmp_path / "rave")
    error = absence.explain(ended(238))
    assert "symbolic link" in error.message
    assert "bind" in error.hint
