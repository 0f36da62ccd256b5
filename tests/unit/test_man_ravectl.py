"""ravectl(1) is written from the parser: every command is there, described, and has an example that ravectl takes."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc.ctl import command_line

WRITER = Path(__file__).parents[2] / "packaging/man/ravectl.py"


def leaves(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path, parser
    for group in groups:
        for name, command in group.choices.items():
            yield from leaves(command, f"{path} {name}".strip())


COMMANDS = dict(leaves(command_line.parser()))


@pytest.fixture(scope="module")
def page() -> str:
    return str(runpy.run_path(str(WRITER))["page"]())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_synopsis_and_text(page: str, command: str) -> None:
    synopsis, text = page.split("\n.Sh DESCRIPTION\n")
    assert f"\n.Cm {command}\n" in synopsis
    (entry,) = re.findall(rf"^\.It Cm {command}(?:$| .*$)", text, re.M)
    for action in COMMANDS[command]._actions:
        if action.dest != "help":
            (first, *_) = action.option_strings or (
                [action.metavar] if action.metavar else list(action.choices or ())
            )
            assert str(first).removeprefix("-") in entry


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_that_ravectl_takes(command: str) -> None:
    lines = re.findall(r"^    (?:sudo )?ravectl (.*)$", COMMANDS[command].description or "", re.M)
    assert lines, "its docstring needs an example, see ravesvc/ctl/command.py"
    for line in lines:
        words = shlex.split(line)
        assert words[: len(command.split())] == command.split()
        command_line.parser().parse_args(words)


def test_a_command_is_summed_up_in_one_line_without_a_final_stop() -> None:
    for command, parser in COMMANDS.items():
        summary = (parser.description or "").split("\n", 1)[0]
        assert summary.endswith("."), command
        assert summary[0].isupper(), command


def test_samples_fit_a_terminal_of_80_columns(page: str) -> None:
    samples = re.findall(r"^\.Bd -unfilled\n(.*?)^\.Ed$", page, re.M | re.S)
    assert samples
    for line in "".join(samples).splitlines():
        # They stand 13 columns from the left.
        assert len(line.replace("\\-", "-").replace("\\&", "").replace("\\(dq", '"')) <= 80 - 13


def test_the_keys_of_the_status_as_json_are_listed(page: str) -> None:
    text = page.split("\n.Sh JSON\n")[1].split("\n.Sh ")[0]
    for key in ("LoginNeeded", "Outages", "Connected", "MemoryCurrent"):
        assert re.search(rf"^\.(It )?Sy {key}\b", text, re.M)


@pytest.mark.skipif(not shutil.which("groff"), reason="there is no groff here; lintian looks at the page as well")
def test_it_is_well_formed(page: str) -> None:
    done = subprocess.run(
        ["groff", "-mdoc", "-Tutf8", "-ww", "-z"], input=page, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
