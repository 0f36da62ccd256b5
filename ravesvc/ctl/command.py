"""How a command of ravectl is declared: name, arguments, help and function stand in one place.

    COMMANDS = Commands()

    @COMMANDS.service_command("stop", MESH)
    def _stop(service: Service, options: argparse.Namespace) -> None:
        '''Stop a mesh, and hold it.

        It stays stopped until an operator starts it.

        Example:
            ravectl stop 1c2d3e4f
        '''

The docstring is what `ravectl stop --help` and ravectl(1) say, and its first line stands in the list of commands. The
completion of a shell goes by the metavar of an argument: MESH, FILE, DIRECTORY and TIME are looked up.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

from ravesvc.common.text import printable

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
# A function that carries a command out. It takes the options, those of `service_command` the service before them, and
# may return an exit status.
Function = TypeVar("Function", bound=Callable[..., Any])

# The message about a wrong command line, which quotes it.
_MAX_ERROR_CHARS = 500


class Parser(argparse.ArgumentParser):
    """A parser whose messages about a wrong command line are safe to print on a terminal, as they quote it."""

    def error(self, message: str) -> NoReturn:
        """Print it with the usage, and end the process."""
        super().error(printable(message, _MAX_ERROR_CHARS))


class Addable(Protocol):
    """What a command line may have."""

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Add it to a parser."""


class Argument:
    """An argument or option, declared with what `ArgumentParser.add_argument` takes."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self._names = names
        self._settings = settings

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Add it to a parser."""
        parser.add_argument(*self._names, **self._settings)


class OneOf:
    """Options of which a command line may have one."""

    def __init__(self, *arguments: Argument) -> None:
        self._arguments = arguments

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Add them to a parser."""
        group = parser.add_mutually_exclusive_group()
        for argument in self._arguments:
            argument.add_to(group)


class Commands:
    """The commands of a module, in the order in which they are declared."""

    def __init__(self) -> None:
        self._declared: list[tuple[str, tuple[Addable, ...], dict[str, Any]]] = []

    def service_command(self, name: str, *arguments: Addable) -> Callable[[Function], Function]:
        """Declare a command that needs the running service: its function takes `Service` and options."""
        return self._declare("run", name, arguments)

    def local_command(self, name: str, *arguments: Addable) -> Callable[[Function], Function]:
        """Declare a command that works without the service: its function takes the options alone."""
        return self._declare("run_alone", name, arguments)

    def _declare(self, kind: str, name: str, arguments: tuple[Addable, ...]) -> Callable[[Function], Function]:
        def declare(function: Function) -> Function:
            self._declared.append((name, arguments, {kind: function}))
            return function

        return declare

    def names(self) -> Sequence[str]:
        """The words with which the commands begin."""
        return [name for name, _, _ in self._declared]

    def add_to(self, commands: Subcommands) -> None:
        """Add the commands to a command line."""
        for name, arguments, run in self._declared:
            (function,) = run.values()
            parser = _add(commands, name, function.__doc__ or "")
            for argument in arguments:
                argument.add_to(parser)
            parser.set_defaults(**run)


class CommandGroup(Commands):
    """Commands with a word before them, such as `blocklist`; `text` is about all of them, as a docstring."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self._name = name
        self._text = text

    def names(self) -> Sequence[str]:
        """The word with which all of them begin."""
        return [self._name]

    def add_to(self, commands: Subcommands) -> None:
        """Add the group to a command line."""
        parser = _add(commands, self._name, self._text)
        super().add_to(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))


class _HelpFormatter(argparse.HelpFormatter):
    """Help with paragraphs, of which examples keep their lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            each if each.startswith("Example") else super(_HelpFormatter, self)._fill_text(each, width, indent)
            for each in paragraphs
        )


def _add(commands: Subcommands, name: str, docstring: str) -> argparse.ArgumentParser:
    first, _, rest = docstring.partition("\n")
    summary = first[:1].lower() + first[1:].rstrip(".")
    text = f"{first}\n\n{textwrap.dedent(rest).strip()}".strip()
    return commands.add_parser(name, help=summary, description=text, formatter_class=_HelpFormatter)
