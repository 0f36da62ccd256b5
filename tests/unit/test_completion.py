"""What the shells complete is what ravectl takes."""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc.ctl import command_line

FILES = Path(__file__).parents[2] / "packaging/completion"
ID = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
LISTED = f"{ID}  connected     A film"
# What does something when a shell expands it; {} is a file that would then be there.
HOSTILE = (
    "$(touch${{IFS}}{})",
    "`touch${{IFS}}{}`",
    "${{x:=$(touch${{IFS}}{})}}",
    "x[$(touch${{IFS}}{})]",
    "${{(e):-$(touch${{IFS}}{})}}",
    "<(touch${{IFS}}{})",
    ";touch${{IFS}}{}",
    "'\"\\",
    "/*",
    "*",
    "~",
    "{{a,b}}",
    "-f",
    "--help",
    "\x1b[31m",
)

# Both define `complete WORD...`, which prints what the last word may become.
SHELLS = {
    "bash": f"""
        ravectl() {{ printf '%s\\n' "$LISTED"; }}
        compopt() {{ :; }}
        source {FILES}/bash/ravectl
        complete() {{
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _ravectl
            echo "${{COMPREPLY[*]}}"
        }}
    """,
    "zsh": f"""
        ravectl() {{ print -r -- "$LISTED" }}
        compadd() {{ shift; print -r -- "$@" }}
        _files() {{ : }}
        complete() {{
            local -a words=("$@")
            local CURRENT=$# PREFIX=$words[-1]
            source {FILES}/zsh/_ravectl
        }}
    """,
}


def completed(shell: str, *words: str, listed: str = LISTED) -> set[str]:
    script = SHELLS[shell] + 'complete ravectl "$@"'
    done = subprocess.run(
        [shell, "-c", script, shell, *words],
        env=os.environ | {"LISTED": listed},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stderr == ""
    # zsh leaves it to its completion to choose by what is typed.
    return {word for word in done.stdout.split() if word.startswith(words[-1])}


def parsers(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from parsers(command, (*path, name))


PARSERS = dict(parsers(command_line.parser()))


@pytest.mark.parametrize("path", PARSERS, ids=lambda path: " ".join(path) or "ravectl")
@pytest.mark.parametrize("shell", SHELLS)
def test_commands_and_options(shell: str, path: tuple[str, ...]) -> None:
    parser = PARSERS[path]
    options = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
    assert completed(shell, *path, "--") == options
    first = next((action for action in parser._actions if not action.option_strings), None)
    found = completed(shell, *path, "")
    if first is None or first.dest in ("email", "user", "command", "file", "directory"):
        assert found == set()
    elif first.dest in ("mesh", "meshes"):
        assert found == {ID}
    else:
        assert found == set(first.choices or ())


def test_the_synopsis_of_the_man_page_has_every_command() -> None:
    page = (FILES.parent / "man/ravectl.1").read_text()
    synopsis = page[page.index(".Sh SYNOPSIS") : page.index(".Sh DESCRIPTION")]
    found = set()
    for block in synopsis.split("\n.Nm\n")[1:]:
        # ".Cm admin add | remove"
        first, *others = block.splitlines()[0].removeprefix(".Cm ").split(" | ")
        *above, name = first.split()
        found |= {(*above, each) for each in (name, *others)}
    commands = {path for path, parser in PARSERS.items() if not parser._subparsers}
    assert commands - found == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_begun_is_completed(shell: str) -> None:
    assert completed(shell, "st") == {"start", "status", "stop", "store"}
    assert completed(shell, "blocklist", "add", "--for", "1c") <= {ID}
    assert completed(shell, "logs", "--follow", "1c2d") == {ID}
    assert completed(shell, "perm", "set", "ping", "") == {"admin", "user"}
    assert completed(shell, "debug", "1c2d", "") == {"on", "off"}
    assert completed(shell, "nonsense", "") == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_that_the_service_answers_is_expanded(shell: str, tmp_path: Path) -> None:
    expanded = tmp_path / "expanded"
    hostile = [text.format(expanded) for text in HOSTILE]
    listed = "\n".join([*(f"{text}  {text}  {text}" for text in hostile), f"{ID}  connected  {' '.join(hostile)}"])
    found = completed(shell, "start", "", listed=listed)
    assert not expanded.exists()
    assert found == {ID}


# How each is started at a terminal, and what makes it complete ravectl there.
TERMINALS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], f"source {FILES}/bash/ravectl"),
    "zsh": (
        ["zsh", "-f", "-i"],
        f"fpath=({FILES}/zsh $fpath); zmodload zsh/complist; autoload -Uz compinit; compinit -u -D",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", TERMINALS)
def test_a_tab_at_a_terminal_expands_nothing(shell: str, tmp_path: Path) -> None:
    expanded = tmp_path / "expanded"
    hostile = [text.format(expanded) for text in HOSTILE]
    (tmp_path / "list").write_text("".join([*(f"{text}  {text}\n" for text in hostile), f"{ID}  up  {hostile}\n"]))
    command = tmp_path / "ravectl"
    command.write_text(f"#!/bin/sh\ncat {tmp_path}/list; touch {tmp_path}/asked\n")
    command.chmod(0o755)
    words, setting_up = TERMINALS[shell]
    with at_terminal(words, {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TERM": "dumb"}) as keyboard:
        os.write(keyboard, f"cd {tmp_path}; {setting_up}; touch ready\n".encode())
        await_file(tmp_path / "ready")
        os.write(keyboard, b"ravectl start \t")
        await_file(tmp_path / "asked")
        # To the start of the line and to its end: what was completed is echoed, and expanded as it would be.
        os.write(keyboard, b"\x01echo \x05> completed; touch done\n")
        await_file(tmp_path / "done")
    assert not expanded.exists()
    assert (tmp_path / "completed").read_text() == f"ravectl start {ID}\n"


@contextlib.contextmanager
def at_terminal(words: list[str], env: dict[str, str]) -> Iterator[int]:
    """Run a program at a terminal; yields the descriptor of its keyboard. What it prints is read, and dropped."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    reader = threading.Thread(target=read_to_the_end, args=(ours,))
    reader.start()
    try:
        yield ours
    finally:
        program.kill()
        program.wait()
        reader.join()
        os.close(ours)


def read_to_the_end(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 4096):
            pass


def await_file(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_that_is_typed_is_expanded(shell: str, tmp_path: Path) -> None:
    expanded = tmp_path / "expanded"
    for text in (text.format(expanded) for text in HOSTILE if not text.startswith("-")):
        assert completed(shell, "perm", "set", text, "") == {"admin", "user"}
        assert completed(shell, "start", text) == set()
    assert not expanded.exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_service_without_meshes_offers_none(shell: str) -> None:
    assert completed(shell, "start", "", listed="There are no meshes.") == set()
