"""What pip leaves out unless it is asked for is told in a sentence by the programs that need it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ravesvc.common import extras
from ravesvc.errors import Code, RaveError
from tests.unit.single.test_elsewhere import LINUX_ALONE

pytestmark = pytest.mark.process

CHECKOUT = Path(__file__).parents[3]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]

# dbus-next comes with pip all the same.
NO_LINUX = LINUX_ALONE.replace("dbus_next", "")


def program(name: str, *arguments: str, prelude: str) -> subprocess.CompletedProcess[str]:
    """Run a console script after `prelude`."""
    module, function = PROJECT["scripts"][name].split(":")
    code = f"{prelude}\nimport sys\nfrom {module} import {function} as main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def without(*modules: str) -> str:
    return f"import sys; sys.modules.update(dict.fromkeys({modules!r}))"


def test_the_extras_are_those_of_the_project() -> None:
    for module, extra in extras.EXTRAS.items():
        assert any(each.startswith(f"{module}>=") for each in PROJECT["optional-dependencies"][extra])
        assert not any(each.startswith(module) for each in PROJECT["dependencies"])


@pytest.mark.parametrize(
    ("prelude", "command", "said"),
    [
        (
            without("aiohttp"),
            "rave-simulator --state-dir {directory} --control {directory}/c serve",
            "rave-simulator: the Python package aiohttp is missing (pip install 'ravesvc[simulator]')",
        ),
        (
            without("aiohttp"),
            "ravesvc-dev {directory}/greet.py",
            "ravesvc-dev: the Python package aiohttp is missing (pip install 'ravesvc[simulator]')",
        ),
        (
            without("pystemd"),
            "rave-orchestrator",
            "CRITICAL the Python package pystemd is missing (pip install 'ravesvc[service]')",
        ),
        (
            without("dbus_next"),
            "ravectl status",
            "ravectl: the Python package dbus_next is missing\nhint: pip install 'ravesvc'",
        ),
        # Where there is no Linux, either.
        (
            NO_LINUX,
            "rave-orchestrator",
            "CRITICAL the Python package pystemd is missing (pip install 'ravesvc[service]')",
        ),
        (NO_LINUX, "ravectl status", "ravectl: the system bus can't be reached\nhint: "),
    ],
)
def test_what_is_missing_is_told_in_a_sentence(tmp_path: Path, prelude: str, command: str, said: str) -> None:
    done = program(*command.format(directory=tmp_path).split(), prelude=prelude)
    assert done.returncode
    assert done.stdout == ""
    # A log has times, what a command says has none.
    assert re.sub(r"^[\d :-]{19} \S+ (?=CRITICAL)", "", done.stderr).startswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", sorted(PROJECT["scripts"]))
def test_help_needs_nothing_of_it(name: str) -> None:
    done = program(name, "--help", prelude=without("aiohttp", "pystemd"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name} ")


def test_a_mistake_of_ours_is_no_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError), extras.explain_missing():
        import ravesvc.nonsense  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(RaveError) as raised, extras.explain_missing():
        raise ImportError("no", name="yaml.nodes")
    assert (raised.value.code, raised.value.hint) == (Code.CONFIG, "pip install 'ravesvc'")
    extras.require_module("yaml")
