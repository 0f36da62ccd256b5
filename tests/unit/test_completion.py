"""What the shells complete is what ravectl takes."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import re
import runpy
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ravesvc.ctl import command_line

pytestmark = pytest.mark.slow

WRITER = Path(__file__).parents[2] / "packaging/completion/write.py"
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

# Each prints what the last of some words may become, by the file in $COMPLETION. An argument @ ends the words, a
# line @ what is printed of them.
SHELLS = {
    "bash": """
        ravectl() { printf '%s\\n' "$LISTED"; }
        compopt() { :; }
        source "$COMPLETION"
        given=()
        for word in "$@"; do
            [[ $word == @ ]] || { given+=("$word"); continue; }
            COMP_WORDS=("${given[@]}") COMP_CWORD=$((${#given[@]} - 1)) COMPREPLY=() given=()
            _ravectl
            echo "${COMPREPLY[*]}"
            echo @
        done
    """,
    "zsh": """
        ravectl() { print -r -- "$LISTED" }
        compadd() {
            while [[ $1 != -- ]]; do shift; done
            shift
            if [[ -n $DESCRIBE ]]; then print -rl -- $described; else print -r -- "$@"; fi
        }
        compset() { PREFIX=${PREFIX#*=} }
        _files() { : }
        complete() {
            local -a words=("$@")
            local CURRENT=$# PREFIX=$words[-1]
            source "$COMPLETION"
            print @
        }
        given=()
        for each in "$@"; do
            [[ $each == @ ]] || { given+=("$each"); continue; }
            complete "${(@)given}"
            given=()
        done
    """,
    # The shell itself completes; what follows a tab describes the word. The words were typed without quotes.
    "fish": """
        function ravectl; printf '%s\\n' $LISTED; end
        source $COMPLETION
        set given
        for word in $argv
            if test $word != @
                set --append given $word
                continue
            end
            set escaped (string escape --no-quoted -- $given[1..-2]) $given[-1]
            set found (complete -C (string join ' ' -- $escaped))
            test -n "$DESCRIBE"; or set found (string replace --regex '\\t.*' '' -- $found)
            printf '%s\\n' $found
            echo @
            set given
        end
    """,
}
# fish takes seconds.
in_each_shell = pytest.mark.parametrize(
    "shell", [pytest.param(shell, marks=[pytest.mark.slow] * (shell == "fish")) for shell in SHELLS]
)
STARTED = {"bash": ["bash", "-c"], "zsh": ["zsh", "-c"], "fish": ["fish", "--no-config", "-c"]}
FILES = {"bash": "bash/ravectl", "zsh": "zsh/_ravectl", "fish": "fish/ravectl.fish"}


class Completions:
    """What shells complete with the files of the packages."""

    def __init__(self, files: Path, directory: Path) -> None:
        self._files, self._directory = files, directory

    def all(self, shell: str, lines: Sequence[Sequence[str]], listed: str = LISTED) -> list[set[str]]:
        """What the last word of each line becomes, when `ravectl list` prints `listed`."""
        # zsh leaves it to its completion to choose by what is typed.
        pairs = zip(lines, self._printed(shell, lines, listed), strict=True)
        return [{word for word in text.split() if word.startswith(line[-1])} for line, text in pairs]

    def described(self, shell: str, *words: str, listed: str = LISTED) -> dict[str, str]:
        """What the last word may become, each with its description, as zsh and fish show it."""
        (text,) = self._printed(shell, [words], listed, DESCRIBE="yes")
        return dict(re.split(r" +-- |\t", line, maxsplit=1) for line in text.splitlines())

    def _printed(self, shell: str, lines: Sequence[Sequence[str]], listed: str, **more: str) -> list[str]:
        """What a shell prints for each line."""
        words = [word for line in lines for word in ("ravectl", *line, "@")]
        done = subprocess.run(
            [*STARTED[shell], SHELLS[shell], *([] if shell == "fish" else [shell]), *words],
            env=os.environ | {"LISTED": listed, "COMPLETION": str(self._files / FILES[shell])} | more,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            cwd=self._directory,
        )
        assert done.stderr == ""
        *printed, rest = done.stdout.split("@\n")
        assert rest == ""
        return printed

    def __call__(self, shell: str, *words: str, listed: str = LISTED) -> set[str]:
        """The same for one line."""
        return self.all(shell, [words], listed)[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the files as the packages install them."""
    directory = tmp_path_factory.mktemp("completion")
    runpy.run_path(str(WRITER))["write"](directory)
    return directory


@pytest.fixture
def completed(files: Path, tmp_path: Path) -> Completions:
    return Completions(files, tmp_path)


def parsers(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from parsers(command, (*path, name))


PARSERS = dict(parsers(command_line.parser()))


def arguments(parser: argparse.ArgumentParser) -> set[str]:
    """What the first argument of a command may be."""
    first = next((action for action in parser._actions if not action.option_strings), None)
    if first is None or (
        first.metavar in ("EMAIL", "USER_ID", "COMMAND", "FILE", "DIRECTORY", "NUMBER") and not first.choices
    ):
        return set()
    return {ID} if first.metavar == "MESH" else set(first.choices or ())


@in_each_shell
def test_commands_and_options(completed: Completions, shell: str) -> None:
    found = completed.all(shell, [(*path, typed) for path in PARSERS for typed in ("--", "")])
    for path, options, words in zip(PARSERS, found[::2], found[1::2], strict=True):
        parser = PARSERS[path]
        named = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
        assert options == named, path
        assert words == arguments(parser), path


@in_each_shell
def test_what_is_begun_is_completed(completed: Completions, shell: str) -> None:
    assert completed(shell, "st") == {"start", "status", "stop", "store"}
    assert completed(shell, "logs", "--follow", "1c2d") == {ID}
    assert completed(shell, "perm", "set", "ping", "") == {"admin", "user"}
    assert completed(shell, "debug", "1c2d", "") == {"on", "off"}
    assert completed(shell, "nonsense", "") == set()
    # The value of an option is none of the arguments.
    assert completed(shell, "blocklist", "add", "--for", "") == set()
    assert completed(shell, "blocklist", "add", "--for", "7d", "") == {ID}
    assert completed(shell, "logs", "-n", "5", "") == {ID}
    assert completed(shell, "admin", "undo", "--mesh", "1c") == {ID}
    assert completed(shell, "blocklist", "remove", "--reason", "cr") == {"crashes"}
    assert completed(shell, "blocklist", "add", "--for", "7") == {"7s", "7min", "7h", "7d"}
    assert completed(shell, "blocklist", "remove", "--since", "7m") == {"7min"}
    assert completed(shell, "blocklist", "remove", "--since", "m") == set()


def test_a_value_after_an_equals_sign(completed: Completions) -> None:
    # zsh is told by compset that what stands before the sign stays.
    assert "crashes" in completed._printed("zsh", [["blocklist", "remove", "--reason=cr"]], LISTED)[0].split()
    # To bash these are three words.
    assert completed("bash", "blocklist", "remove", "--reason", "=", "cr") == {"crashes"}
    assert completed("fish", "blocklist", "remove", "--reason=cr") == {"--reason=crashes"}
    assert completed("fish", "blocklist", "add", "--for=7m") == {"--for=7min"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_what_is_offered_is_described(completed: Completions, shell: str) -> None:
    parser = PARSERS[()]
    (commands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    assert completed.described(shell, "") == {
        each.dest: (each.help or "").replace("`", "") for each in commands._choices_actions
    }
    assert completed.described(shell, "logs", "--")["--follow"] == "go on with new entries"
    assert completed.described(shell, "blocklist", "")["list"] == "list the entries, the oldest first"
    (shown,) = completed.described(shell, "start", "").items()
    assert shown[0] == ID
    assert shown[1].split() == ["connected", "A", "film"]


@in_each_shell
def test_nothing_that_the_service_answers_is_expanded(completed: Completions, shell: str, tmp_path: Path) -> None:
    expanded = tmp_path / "expanded"
    hostile = [text.format(expanded) for text in HOSTILE]
    listed = "\n".join([*(f"{text}  {text}  {text}" for text in hostile), f"{ID}  connected  {' '.join(hostile)}"])
    found = completed(shell, "start", "", listed=listed)
    assert not expanded.exists()
    assert found == {ID}


# How each is started at a terminal, and what makes it complete ravectl there.
TERMINALS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source $FILES/bash/ravectl"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "fpath=($FILES/zsh $fpath); zmodload zsh/complist; autoload -Uz compinit; compinit -u -D",
    ),
    "fish": (["fish", "--no-config", "-i"], "source $FILES/fish/ravectl.fish"),
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", TERMINALS)
def test_a_tab_at_a_terminal_expands_nothing(files: Path, shell: str, tmp_path: Path) -> None:
    expanded = tmp_path / "expanded"
    hostile = [text.format(expanded) for text in HOSTILE]
    (tmp_path / "list").write_text("".join([*(f"{text}  {text}\n" for text in hostile), f"{ID}  up  {hostile}\n"]))
    command = tmp_path / "ravectl"
    command.write_text(f"#!/bin/sh\ncat {tmp_path}/list; touch {tmp_path}/asked\n")
    command.chmod(0o755)
    words, setting_up = TERMINALS[shell]
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TERM": "dumb", "FILES": str(files)}
    with at_terminal(words, env) as keyboard:
        os.write(keyboard, f"cd {tmp_path}; {setting_up}; touch ready\n".encode())
        await_file(tmp_path / "ready")
        os.write(keyboard, b"ravectl start \t")
        await_file(tmp_path / "asked")
        # To the start of the line and to its end: what was completed is echoed, and expanded as it would be.
        os.write(keyboard, b"\x01echo \x05> completed; touch done\n")
        await_file(tmp_path / "done")
    assert not expanded.exists()
    assert (tmp_path / "completed").read_text() == f"ravectl start {ID}\n"


@pytest.mark.slow
@pytest.mark.parametrize("title", ["Film night: 1/2 | $HOME", "Film $(touch expanded) `touch expanded`;'\"!{a,b}*"])
def test_bash_completes_a_title_and_quotes_it(files: Path, tmp_path: Path, title: str) -> None:
    command = tmp_path / "ravectl"
    command.write_text(f"#!/bin/sh\ncat {tmp_path}/list; touch {tmp_path}/asked\n")
    command.chmod(0o755)
    (tmp_path / "list").write_text(f"{ID}  connected     {title}\n{ID[:-1]}0  connected  Talk\n")
    words, setting_up = TERMINALS["bash"]
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TERM": "dumb", "FILES": str(files)}
    with at_terminal(words, env) as keyboard:
        os.write(keyboard, f"cd {tmp_path}; {setting_up}; touch ready\n".encode())
        await_file(tmp_path / "ready")
        os.write(keyboard, b"ravectl explain Fi\t")
        await_file(tmp_path / "asked")
        os.write(keyboard, b"\x01printf '%s,' \x05> completed; touch done\n")
        await_file(tmp_path / "done")
    assert not (tmp_path / "expanded").exists()
    # One word, and the title as it is.
    assert (tmp_path / "completed").read_text() == f"ravectl,explain,{title},"


@contextlib.contextmanager
def at_terminal(words: list[str], env: dict[str, str]) -> Iterator[int]:
    """Run a program at a terminal; yields the descriptor of its keyboard. What it prints is read, and dropped."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        start_new_session=True,
        # fish wants it for its own.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
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


@in_each_shell
def test_nothing_that_is_typed_is_expanded(completed: Completions, shell: str, tmp_path: Path) -> None:
    expanded = tmp_path / "expanded"
    typed = [text.format(expanded) for text in HOSTILE if not text.startswith("-")]
    assert completed.all(shell, [("perm", "set", text, "") for text in typed]) == [{"admin", "user"}] * len(typed)
    # A shell may complete what is its own, such as the names of users after a tilde.
    assert all(ID not in found for found in completed.all(shell, [("start", text) for text in typed]))
    assert not expanded.exists()


@in_each_shell
def test_a_service_without_meshes_offers_none(completed: Completions, shell: str) -> None:
    assert completed(shell, "start", "", listed="There are no meshes.") == set()
