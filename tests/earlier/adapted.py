"""A plug-in of pytest: the booted tests of another revision, with packages and test bed of this tree.

`tests/earlier/__main__.py` has pytest load it in the tree of the other revision. What the tests import of `ravesvc`
comes from there. `intended_changes.yaml` has what is different on purpose. Where a new name stands for an old one, it
is put into what the tests type, or taken out of what they read, and the rest of the test still means something. The
tests that it lists have to fail.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
# Before conftest.py asks for the test bed of its own tree: this one has what the packages depend on.
sys.path.insert(0, str(CHECKOUT / "packaging" / "testbed"))

from testbed import build  # noqa: E402
from testbed.machine import Machine  # noqa: E402

from ravesvc.simulator.client import Control  # noqa: E402

CHANGES_FILE = Path(__file__).with_name("intended_changes.yaml")
BUS_NAME = "org.ravesvc.Rave1"
MAIN_PATH = "/org/ravesvc/Rave1"
# How a program calls the service: the constant's name has that of the interface.
_CALL_IN_PROGRAM = re.compile(r'names\.([A-Z]+)_INTERFACE,(\s*)"(\w+)"')

Changes = Mapping[str, Any]


def read_changes(file: Path) -> Changes:
    """The list of intended changes."""
    return dict(yaml.safe_load(file.read_text()))


class Translation:
    """Between the names that the other revision has and those of this tree."""

    def __init__(self, changes: Changes) -> None:
        self._members = {old: new.split(".") for old, new in changes["members"].items()}
        self._mesh_methods = changes["methods_of_a_mesh"]
        typed, printed = changes["typed"].items(), changes["printed"].items()
        self._typed = [(re.compile(rf"(?<![\w.]){re.escape(old)}(?!\w)"), new) for old, new in typed]
        self._printed = [(re.compile(new), old) for new, old in printed]

    def command(self, command: Sequence[str]) -> list[str]:
        """What a test wants to run, in the names of this tree."""
        words = self._call(list(command)) if command[0] == "busctl" else command
        return [self.text(word) for word in words]

    def text(self, text: str) -> str:
        """A script, a program or a file."""
        for pattern, new in self._typed:
            text = pattern.sub(new, text)
        return _CALL_IN_PROGRAM.sub(self._call_in_program, text)

    def output(self, text: str) -> str:
        """What a command has printed, as the other revision would have."""
        for pattern, old in self._printed:
            text = pattern.sub(old, text)
        return text

    def _call(self, words: list[str]) -> list[str]:
        for at in range(len(words) - 2):
            path, interface, member = words[at : at + 3]
            noun = interface.removeprefix(f"{BUS_NAME}.")
            if new := self._members.get(f"{noun}.{member}"):
                return [*words[: at + 1], f"{BUS_NAME}.{new[0]}", new[1], *words[at + 3 :]]
            if noun == "Mesh" and member in self._mesh_methods:
                mesh = re.sub("_([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), path.rpartition("/")[2])
                call = [MAIN_PATH, f"{BUS_NAME}.Manager", self._mesh_methods[member], "s", mesh]
                return [*words[:at], *call, *words[at + 3 :]]
        return words

    def _call_in_program(self, call: re.Match[str]) -> str:
        noun, space, member = call.groups()
        new = self._members.get(f"{noun.capitalize()}.{member}")
        return f'"{BUS_NAME}.{new[0]}",{space}"{new[1]}"' if new else call[0]


def _adapt_machine(changes: Changes) -> None:
    translation = Translation(changes)
    spawn, run = Machine.spawn, Machine.run

    def spawn_adapted(self: Machine, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        late = [seconds for words, seconds in changes["late"].items() if words in " ".join(command)]
        time.sleep(max(late, default=0))
        return spawn(self, translation.command(command), **options)

    def run_adapted(
        self: Machine, command: Sequence[str], *, input: str | None = None, **options: Any  # noqa: A002
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        done = run(self, command, input=input and translation.text(input), **options)
        done.stdout, done.stderr = translation.output(done.stdout), translation.output(done.stderr)
        return done

    Machine.spawn, Machine.run = spawn_adapted, run_adapted  # type: ignore[method-assign, assignment]


def _adapt_simulator(names: Mapping[str, str]) -> None:
    call: Callable[..., dict[str, Any]] = Control._call

    def call_adapted(
        self: Control, method: str, path: str, body: Mapping[str, Any] | None = None, wait: float = 0.0
    ) -> dict[str, Any]:
        adapted = body and {names.get(name, name): value for name, value in body.items()}
        return call(self, method, path, adapted, wait)

    Control._call = call_adapted  # type: ignore[method-assign]


_CHANGES = pytest.StashKey[Changes]()
_MISSING = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--intended-changes", type=Path, default=CHANGES_FILE, help="in place of the file of this tree")
    parser.addoption("--all-listed", action="store_true", help="each listed test has to be among those that run")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Adapt all before conftest.py is imported, which takes what it needs from these modules."""
    changes = read_changes(early_config.known_args_namespace.intended_changes)
    of_this_tree = build.build
    build.build = lambda _source: of_this_tree(CHECKOUT)
    _adapt_machine(changes)
    _adapt_simulator(changes["simulator"])
    early_config.stash[_CHANGES] = changes


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """On a machine that has booted, do what the changelog asks operators to do at the upgrade."""
    value = yield
    if fixturedef.argname == "machine":
        value.run(["sh", "-ec", request.config.stash[_CHANGES]["operators"]])
    return value


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files."""
    return True if collection_path.name in config.stash[_CHANGES]["left_out"] else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests; let the listed ones fail, and no others."""
    left_out, fails = config.stash[_CHANGES]["left_out"], config.stash[_CHANGES]["fails"]
    items[:] = [item for item in items if _name(item.nodeid) not in left_out]
    for item in items:
        if listed := fails.get(_name(item.nodeid)):
            item.add_marker(pytest.mark.xfail(reason=listed["reason"], strict=True))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A listed test that fails in another place fails for another reason."""
    report = yield
    if report.skipped and hasattr(report, "wasxfail") and call.excinfo:
        place = item.config.stash[_CHANGES]["fails"][_name(item.nodeid)]["at"]
        if not any(place in str(entry.statement) for entry in call.excinfo.traceback):
            report.outcome = "failed"
            report.longrepr = f"it was to fail at: {place}\n\n{item.repr_failure(call.excinfo)}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Find what is listed and is no test."""
    config = session.config
    if config.option.all_listed and not hasattr(config, "workerinput"):
        reports = config.pluginmanager.get_plugin("terminalreporter").stats.values()
        ran = {_name(report.nodeid) for kind in reports for report in kind if isinstance(report, pytest.TestReport)}
        config.stash[_MISSING] = sorted(set(config.stash[_CHANGES]["fails"]) - ran)
        session.exitstatus = session.exitstatus or bool(config.stash[_MISSING])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name it."""
    for name in config.stash.get(_MISSING, []):
        terminalreporter.write_line(f"listed as a test that fails, but there is none: {name}")


def _name(nodeid: str) -> str:
    return nodeid.removeprefix("tests/integration/")
