"""The author's files with the helpers that they import, and their copies in the bot's directory of commands.

The bot takes files that only their owner may write and that belong to its user. The author's files need not fit that,
and are only read: the bot gets copies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ravesvc.bot.plugin_helpers import find, read_helpers
from ravesvc.bot.plugins import is_plugin
from ravesvc.errors import Code, RaveError

# More than a bot reads of a file: it says so itself when one is too large.
_MAX_FILE_BYTES = 1 << 20


class PluginFile:
    """A file of the author.

    Attributes:
        given: its path as the author has written it.
        path: where it is, with links followed.
        copy: the path of the copy.
        helpers: the paths of the helpers that it imports, in the directory of the file, by those of their copies.
    """

    def __init__(self, given: str, directory: Path) -> None:
        """`directory` gets the copy."""
        self.given = given
        self.path = Path(given).resolve()
        self.copy = directory / Path(given).name
        self.helpers: dict[Path, Path] = {}
        self._contents: dict[Path, bytes] = {}

    def bring_up_to_date(self) -> bool:
        """Copy the files that have changed; returns whether any has.

        Raises OSError if one can't be read, and `RaveError` for too many helpers.
        """
        content = _read(self.path)
        found = read_helpers(content, lambda name: find(name, [self.path.parent]), _read).values()
        self.helpers = {self.copy.with_name(each.path.name): each.path for each in found}
        contents = {self.copy.with_name(each.path.name): each.content for each in found} | {self.copy: content}
        before, self._contents = self._contents, contents
        for gone in before.keys() - contents.keys():
            gone.unlink(missing_ok=True)
        for copy, changed in contents.items():
            if before.get(copy) != changed:
                # Renamed into place: the bot may read its directory at any time. It ignores names with a dot.
                new = copy.with_name(f".{copy.name}")
                new.write_bytes(changed)
                new.chmod(0o644)
                new.rename(copy)
        return contents != before


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES)


def plugin_files(given: Sequence[str], directory: Path) -> list[PluginFile]:
    """The files that a command line names. Raises `RaveError` (InvalidArgument) for one that no bot would load."""
    files = [PluginFile(each, directory) for each in dict.fromkeys(given)]
    for problem in _problems(files):
        raise problem
    return files


def _problems(files: Sequence[PluginFile]) -> Iterator[RaveError]:
    seen: dict[str, PluginFile] = {}
    for file in files:
        name = file.copy.name
        if not is_plugin(file.copy):
            hint = "bots load files whose names end in .py and begin with no dot or _"
            yield RaveError(Code.INVALID_ARGUMENT, f"{file.given} is no file of commands", hint=hint)
        elif not file.path.exists():
            yield RaveError(Code.INVALID_ARGUMENT, f"{file.given} does not exist")
        elif not file.path.is_file():
            yield RaveError(Code.INVALID_ARGUMENT, f"{file.given} is no file")
        elif not os.access(file.path, os.R_OK):
            yield RaveError(Code.INVALID_ARGUMENT, f"you may not read {file.given}")
        elif other := seen.get(name):
            text = f"{other.given} and {file.given} have one name"
            yield RaveError(Code.INVALID_ARGUMENT, text, hint="a bot has its commands in one directory: rename one")
        seen[name] = file
