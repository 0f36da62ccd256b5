"""Writes the completion of ravectl(1) for bash, zsh and fish from ravectl's parser.

python3 packaging/completion/write.py DIRECTORY

The logic of each shell is in a template beside this file; `@...@` in it stands for a table that is made here. A
position is written like `blocklist add/0`: a command and how many arguments stand before it; `/*` is each position.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

DIRECTORY = Path(__file__).parent
sys.path.insert(0, str(DIRECTORY.parents[1]))

from ravesvc.common import timespan  # noqa: E402 - it is found beside the packaging
from ravesvc.ctl import command_line  # noqa: E402

# By shell, under the names by which each shell finds them.
FILES = {"bash": "bash/ravectl", "zsh": "zsh/_ravectl", "fish": "fish/ravectl.fish"}
# What is looked up for an argument, by its metavar; all others are left to the user.
_LOOKED_UP = {"MESH": "mesh", "FILE": "file", "DIRECTORY": "directory", "TIME": "time"}
_FISH = {
    "mesh": "-a '(__ravectl_meshes)'",
    "file": "-F",
    "directory": "-a '(__fish_complete_directories)'",
    "nothing": "",
}


def completion(shell: str) -> str:
    """The completion for `bash`, `zsh` or `fish`."""
    commands = dict(_commands(command_line.parser(), ""))
    tables = {
        "COMMANDS": _cases(_shell_commands(commands)),
        "VALUES": _cases(_shell_values(commands)),
        "OPTIONS": _cases(_shell_options(commands)),
        "ARGUMENTS": _cases(_shell_arguments(commands)),
        "ZSH_OPTIONS": _cases(_zsh_options(commands)),
        "ZSH_ARGUMENTS": _cases(_zsh_arguments(commands)),
        "FISH_COMMANDS": _fish_words(place for place, _ in _shell_commands(commands)),
        "FISH_VALUES": _fish_words(place for place, _ in _shell_values(commands)),
        "FISH_COMPLETE": "\n".join(_fish_lines(commands)),
    }
    text = (DIRECTORY / f"ravectl.{shell}.in").read_text(encoding="utf-8")
    return re.sub(
        r"^( *)(.*)@(\w+)@", lambda found: textwrap.indent(found[2] + tables[found[3]], found[1]), text, flags=re.M
    )


def _commands(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of each command by its words, `ravectl` itself as an empty text."""
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from _commands(command, f"{path} {name}".strip())


Parsers = Mapping[str, argparse.ArgumentParser]


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from (action for action in parser._actions if action.option_strings)


def _arguments(path: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """The arguments that are no options, each with its position."""
    positional = (action for action in parser._actions if not action.option_strings)
    for number, action in enumerate(positional):
        yield f"{path}/{'*' if action.nargs == '*' else number}", action


def _expected(action: argparse.Action) -> list[str]:
    """What may stand there: `words` and a choice of them, `time` and its units, or what is looked up."""
    if action.choices is not None:
        return ["words", *map(str, action.choices)]
    kind = _LOOKED_UP.get(str(action.metavar), "nothing")
    return [kind, *timespan.LONG_UNITS] if kind == "time" else [kind]


# Tables for bash and zsh, of which `case` looks the same.


def _shell_commands(commands: Parsers) -> Iterator[tuple[str, str]]:
    for path in filter(None, commands):
        above, _, name = path.rpartition(" ")
        yield f"{above}/{name}", 'command="${command:+$command }$word"'


def _shell_values(commands: Parsers) -> Iterator[tuple[str, str]]:
    """The options after which a value stands."""
    for path, parser in commands.items():
        for action in _options(parser):
            if action.nargs != 0:
                for name in action.option_strings:
                    yield f"{path}/{name}", f"expected=({' '.join(_expected(action))})"


def _shell_options(commands: Parsers) -> Iterator[tuple[str, str]]:
    for path, parser in commands.items():
        yield path, f"choices=({' '.join(action.option_strings[-1] for action in _options(parser))})"


def _shell_arguments(commands: Parsers) -> Iterator[tuple[str, str]]:
    for path, parser in commands.items():
        for place, action in _arguments(path, parser):
            if _expected(action) != ["nothing"]:
                yield place, f"expected=({' '.join(_expected(action))})"


def _cases(table: Iterable[tuple[str, str]]) -> str:
    """The branches of a `case`, those that do the same as one."""
    branches: dict[str, list[str]] = {}
    for place, done in table:
        quoted = f'"{place.removesuffix("*")}"' + ("*" if place.endswith("*") else "")
        branches.setdefault(done, []).append(quoted)
    lines = (f"{' | '.join(places)})\n    {done}\n    ;;" for done, places in branches.items())
    return "\n".join(lines)


# Tables for zsh alone, with descriptions.


def _zsh_options(commands: Parsers) -> Iterator[tuple[str, str]]:
    for path, parser in commands.items():
        yield path, _zsh_described((action.option_strings[-1], action.help) for action in _options(parser))


def _zsh_arguments(commands: Parsers) -> Iterator[tuple[str, str]]:
    for path, parser in commands.items():
        for place, action in _arguments(path, parser):
            if isinstance(action, argparse._SubParsersAction):
                yield place, _zsh_described((each.dest, each.help) for each in action._choices_actions)
    yield from ((place, done) for place, done in _shell_arguments(commands) if not _names_commands(commands, place))


def _names_commands(commands: Parsers, place: str) -> bool:
    path, _, _ = place.rpartition("/")
    return any(isinstance(action, argparse._SubParsersAction) for action in commands[path]._actions)


def _zsh_described(words: Iterable[tuple[str, str | None]]) -> str:
    """An assignment of words, each with its description."""
    return f"expected=(described {' '.join(f'{word} {shlex.quote(_summary(text))}' for word, text in words)})"


# Tables for fish.


def _fish_words(words: Iterable[str]) -> str:
    return " ".join(map(_fish_quoted, words))


def _fish_lines(commands: Parsers) -> Iterator[str]:
    """A `complete` for each command, option and argument."""
    for path, parser in commands.items():
        for action in _options(parser):
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in action.option_strings
            )
            value = "" if action.nargs == 0 else f" -x {_fish_value(action)}".rstrip()
            yield f"{_fish_at(f'{path}/*')} {names}{value} -d {_fish_quoted(_summary(action.help))}"
        for place, action in _arguments(path, parser):
            if isinstance(action, argparse._SubParsersAction):
                for each in action._choices_actions:
                    yield f"{_fish_at(place)} -a {each.dest} -d {_fish_quoted(_summary(each.help))}"
            elif value := _fish_value(action):
                yield f"{_fish_at(place)} {value}"


def _fish_at(place: str) -> str:
    return f'complete -c ravectl -n "__ravectl_at {_fish_quoted(place)}"'


def _fish_value(action: argparse.Action) -> str:
    kind, *words = _expected(action)
    if kind == "time":
        return f"-a '(__ravectl_times {' '.join(words)})'"
    return f"-a {_fish_quoted(' '.join(words))}" if words else _FISH[kind]


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _summary(text: str | None) -> str:
    # argparse itself expands what a help text may hold.
    return (text or "").replace("%%", "%").replace("`", "")


def write(directory: Path) -> None:
    """Write the files of all shells."""
    for shell, name in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(completion(shell), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
