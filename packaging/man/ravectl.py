"""Writes ravectl(1) in mdoc(7) from ravectl's parser: synopsis, and for each command prose, options and examples.

python3 packaging/man/ravectl.py > ravectl.1

The frame is `ravectl.1.in`; what a command prints is in `samples`, written by tests/unit/ctl/test_samples.py.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = Path(__file__).parent
sys.path.insert(0, str(DIRECTORY.parents[1]))

from ravesvc.ctl import command_line  # noqa: E402 - it is found beside the packaging
from ravesvc.ctl.commands import overview  # noqa: E402
from ravesvc.orchestrator.dbus.account import AccountObject  # noqa: E402
from ravesvc.orchestrator.dbus.manager import STATUS_TYPES, ManagerObject  # noqa: E402
from ravesvc.orchestrator.dbus.permissions import PermissionsObject  # noqa: E402

# What is left of 80 columns within the list of commands.
_SAMPLE_COLUMNS = 67
_ID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_ID_END = 36
_SHORT_ID = 11


def page() -> str:
    """The manual page."""
    text = (DIRECTORY / "ravectl.1.in").read_text(encoding="utf-8")
    synopsis = (line for _, path, parser in _leaves() for line in [".Nm", f".Cm {path}", *_macros(parser)])
    parts = {
        "@SYNOPSIS@": synopsis,
        "@COMMANDS@": _sections(),
        "@SERVICE_KEYS@": _service_keys(),
        "@MESH_KEYS@": _mesh_keys(),
    }
    for mark, lines in parts.items():
        text = text.replace(mark, "\n".join(lines))
    return text


def _service_keys() -> Iterator[str]:
    """The keys of `status --json` about the service."""
    properties = (ManagerObject.properties, AccountObject.properties, PermissionsObject.properties)
    *names, last = (name for keys in (*properties, STATUS_TYPES) for name in keys)
    yield from (f".Sy {name} ," for name in names)
    yield f".Sy {last} ."


def _mesh_keys() -> Iterator[str]:
    """The keys of `status --json` about a mesh, each with what it says."""
    for name, key in overview.MESH_KEYS.items():
        yield f".It Sy {name}"
        yield _marked(_sentence(key.text), set())


def _leaves() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """The section, the words and the parser of each command."""
    for section, parts in command_line.SECTIONS.items():
        for path, parser in _commands(command_line.parser(parts), ""):
            if not parser._subparsers:
                yield section, path, parser


def _commands(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parsers below a parser, those of groups before those in them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                words = f"{path} {name}".strip()
                yield words, command
                yield from _commands(command, words)


def _sections() -> Iterator[str]:
    for section, parts in command_line.SECTIONS.items():
        yield f".Ss {section}"
        listed = False
        for path, parser in _commands(command_line.parser(parts), ""):
            if parser._subparsers:
                if listed:
                    yield ".El"
                    yield ".Pp"
                yield from _prose(parser)
                listed = False
                continue
            if not listed:
                yield ".Bl -tag -width Ds"
                listed = True
            yield " ".join([f".It Cm {path}", *(_inline(macro) for macro in _macros(parser))])
            yield from _prose(parser)
            yield from _options(parser)
            yield from _examples(parser)
            yield from _sample(path)
        yield ".El"


def _macros(parser: argparse.ArgumentParser) -> list[str]:
    """The arguments of a command, each as a line of its synopsis."""
    exclusive = {id(action): group for group in parser._mutually_exclusive_groups for action in group._group_actions}
    found, positional = [], []
    for action in parser._actions:
        group = exclusive.get(id(action))
        if isinstance(action, argparse._HelpAction) or (group and action is not group._group_actions[0]):
            continue
        if not action.option_strings:
            positional.append(_positional(action))
        else:
            found.append(f".Op {' | '.join(map(_option, group._group_actions if group else [action]))}")
    # An Fl before it still stands in an alternative.
    return [line.replace(" | Fl ", " | ") for line in found + positional]


def _option(action: argparse.Action) -> str:
    value = f" Ar {action.metavar}" if action.nargs != 0 else ""
    return f"Fl {action.option_strings[0][1:]}{value}"


def _positional(action: argparse.Action) -> str:
    if action.choices is not None:
        return f".Cm {' | '.join(map(str, action.choices))}"
    repeated = " ..." if action.nargs == "*" else ""
    return f".{'Op ' if action.nargs in ('?', '*') else ''}Ar {action.metavar}{repeated}"


def _inline(macro: str) -> str:
    """A line of a synopsis within another line."""
    return f"Oo {macro[4:]} Oc" if macro.startswith(".Op ") else macro[1:]


def _paragraphs(parser: argparse.ArgumentParser) -> list[str]:
    return (parser.description or "").split("\n\n")


def _prose(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The paragraphs of a command, a sentence a line."""
    variables = {str(action.metavar) for action in parser._actions if action.metavar and action.nargs != 0}
    for number, paragraph in enumerate(each for each in _paragraphs(parser) if not each.startswith("Example")):
        if number:
            yield ".Pp"
        for sentence in " ".join(paragraph.split()).replace(". ", ".\n").splitlines():
            yield _marked(sentence, variables)


def _examples(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The examples of a command, as they are typed."""
    yield ".Pp"
    for paragraph in _paragraphs(parser):
        if paragraph.startswith("Example"):
            for line in paragraph.splitlines()[1:]:
                yield f".Dl {_literal(line.strip())}"


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    options = [action for action in parser._actions if action.option_strings and action.dest != "help"]
    if options:
        yield ".Pp"
        yield ".Bl -tag -width Ds -compact"
        for action in options:
            names = " , ".join(f"Fl {name[1:]}" for name in action.option_strings)
            yield f".It {names}{f' Ar {action.metavar}' if action.nargs != 0 else ''}"
            yield f"{_marked(_sentence(action.help or ''), set())}"
        yield ".El"


def _sample(path: str) -> Iterator[str]:
    """What the command prints, if there is a sample of it."""
    file = DIRECTORY / "samples" / f"{path.replace(' ', '-')}.txt"
    if file.exists():
        yield ".Pp"
        yield "It prints, for example:"
        yield ".Bd -unfilled"
        for line in _short_ids(file.read_text(encoding="utf-8").splitlines()):
            folded = textwrap.wrap(
                line, _SAMPLE_COLUMNS, subsequent_indent="    ", replace_whitespace=False, break_on_hyphens=False
            )
            yield from map(_literal, folded or [""])
        yield ".Ed"


def _short_ids(lines: list[str]) -> list[str]:
    """The lines with the beginning of each mesh id alone; the title of a table's column of ids moves along."""
    columns = {found.start() for line in lines for found in _ID.finditer(line)}
    short = []
    for line in lines:
        text = line
        for start in sorted(columns, reverse=True):
            if text[start : start + _ID_END].strip() == "MESH":
                text = text[: start + _SHORT_ID] + text[start + _ID_END :]
        short.append(_ID.sub(r"\1...", text))
    return short


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _marked(text: str, variables: set[str]) -> str:
    """A line of prose, in which commands, options, arguments and other pages stand out."""
    text = re.sub(r"`([^`]+)`", lambda found: f"\\fB{_literal(found[1])}\\fR", text)
    text = re.sub(r"\b([\w.-]+)\((\d)\)", r"\\fB\1\\fR(\2)", text)
    text = re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", lambda found: f"\\fB{_literal(found[1])}\\fR", text)
    for variable in sorted(variables):
        text = re.sub(rf"\b{variable}\b", rf"\\fI{variable}\\fR", text)
    return _guarded(text)


def _literal(text: str) -> str:
    """Text as it is typed or printed: no macro, no escape, and no minus that became a hyphen."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return _guarded(text)


def _guarded(text: str) -> str:
    """A line that is no macro."""
    return f"\\&{text}" if text[:1] in (".", "'") else text


if __name__ == "__main__":
    sys.stdout.write(page())
