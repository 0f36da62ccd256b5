"""Plugins: what is read when, what is refused, and what a failure leaves as it was."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bot import builtin, plugins
from ravesvc.bot.backend import EntryPoint
from ravesvc.bot.command import Registry
from ravesvc.bot.command_names import Permission
from ravesvc.bot.event import EventKind
from ravesvc.bot.plugins import PluginLoader, Sources, load_file
from ravesvc.common import plugin_files
from ravesvc.common.plugin_files import FileVersion

Run = Callable[[Any], Any]

GREET = """
from ravesvc.commands import command, on_message

@command("greet", "Greets the user who asks.")
async def greet(context): ...

@on_message
async def heard(event): ...
"""


class Runner:
    """What stands in the place of the bot: it notes which plugins run."""

    def __init__(self) -> None:
        self.running: list[str] = []

    def start_plugin(self, part: Registry) -> None:
        self.running.append(part.source)

    async def end_plugin(self, part: Registry) -> None:
        self.running.remove(part.source)


class Site:
    """A directory, and a bot's registry. `told` is each list of errors."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "commands.d"
        self.directory.mkdir()
        self.directory.chmod(0o755)
        self.registry = Registry()
        builtin.register(self.registry)
        self.told: list[list[str]] = []
        self.bot = Runner()
        self.own = self.loader(Sources(self.directory))
        self.modules: list[EntryPoint] = []

    def loader(self, sources: Sources) -> PluginLoader:
        return PluginLoader(self.registry, sources, self.told.append, lambda: self.bot)

    def write(self, name: str, text: str | bytes) -> Path:
        file = self.directory / name
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        file.chmod(0o644)
        return file

    def read(self) -> list[str]:
        """The plugins there are then, with their sources."""
        asyncio.run(self.own.read(self.modules))
        return [Path(command.source).name for command in self.registry.commands() if command.source]

    def description(self, name: str) -> str:
        command = self.registry.get(name)
        assert command
        return command.description

    @property
    def errors(self) -> list[str]:
        return [error.replace(f"{self.directory}/", "") for error in self.own.errors]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    assert plugin_files.ROOT_UID == 0
    monkeypatch.setattr(plugin_files, "ROOT_UID", os.getuid())
    forget()
    yield Site(tmp_path)
    forget()


def forget() -> None:
    """As if nothing had been loaded."""
    for name in [name for name in sys.modules if name.startswith(("rave_commands_", "greetings"))]:
        del sys.modules[name]


def say(name: str, description: str) -> str:
    return GREET.replace("greet", name).replace("Greets the user who asks.", description)


# Files.


def test_a_version_is_named_with_its_commands(site: Site) -> None:
    file = site.write("greet.py", GREET)
    site.read()
    first = site.own.loaded
    site.write("greet.py", say("hi", "Says hi."))
    site.read()
    second = site.own.loaded
    assert [(each.source, each.commands) for each in first + second] == [(str(file), "greet"), (str(file), "hi")]
    assert len({each.version for each in first + second}) == 2
    site.write("greet.py", GREET)
    site.read()
    assert site.own.loaded == first


def try_next(site: Site, name: str, text: str) -> FileVersion:
    """A new version of a file, as an operator puts it where it is tried."""
    new = site.directory / plugin_files.CANARY_DIRECTORY
    new.mkdir(exist_ok=True)
    file = new / name
    file.write_text(text)
    file.chmod(0o644)
    return plugin_files.described(file)


def test_a_version_that_is_tried_takes_the_place_of_the_file(site: Site) -> None:
    site.write("greet.py", GREET)
    version = try_next(site, "greet.py", say("greet", "Says hi."))
    asyncio.run(site.own.read([]))
    assert site.description("greet") == "Greets the user who asks.", "none is tried"
    asyncio.run(site.own.read([], [version]))
    assert site.description("greet") == "Says hi."
    assert [each.source for each in site.own.loaded] == [f"{site.directory}/greet.py"]
    asyncio.run(site.own.read([]))
    assert site.description("greet") == "Greets the user who asks."
    assert site.errors == []


def test_root_moves_a_version_that_is_tried_and_it_goes_on_as_it_is(site: Site) -> None:
    site.write("greet.py", GREET)
    version = try_next(site, "greet.py", say("greet", "Says hi."))
    asyncio.run(site.own.read([], [version]))
    before = site.registry.get("greet")
    (site.directory / "canary/greet.py").replace(site.directory / "greet.py")
    for tried in [version], []:
        asyncio.run(site.own.read([], tried))
        assert site.registry.get("greet") is before
    assert site.errors == []


def test_a_file_may_be_new(site: Site) -> None:
    version = try_next(site, "greet.py", GREET)
    asyncio.run(site.own.read([], [version]))
    assert site.description("greet") == "Greets the user who asks."
    asyncio.run(site.own.read([]))
    assert site.registry.get("greet") is None


def test_a_file_that_plugins_import_may_be_tried(site: Site) -> None:
    imports = "from _words import DESCRIPTION\nfrom ravesvc.commands import command\n"
    handler = '@command("greet", DESCRIPTION)\nasync def greet(context): ...\n'
    site.write("greet.py", imports + handler)
    site.write("_words.py", "DESCRIPTION = 'Greets.'\n")
    version = try_next(site, "_words.py", "DESCRIPTION = 'Says hi.'\n")
    for tried, description in ([], "Greets."), ([version], "Says hi."), ([], "Greets."):
        asyncio.run(site.own.read([], tried))
        assert site.description("greet") == description
    assert site.errors == []


def test_only_the_version_that_was_begun_with_is_tried(site: Site) -> None:
    site.write("greet.py", GREET)
    version = try_next(site, "greet.py", say("greet", "Says hi."))
    try_next(site, "greet.py", say("greet", "Says something else."))
    asyncio.run(site.own.read([], [version]))
    assert site.description("greet") == "Greets the user who asks."
    assert site.errors == ["canary/greet.py: it has changed since it is tried (begin anew)"]
    (site.directory / "canary/greet.py").unlink()
    asyncio.run(site.own.read([], [version]))
    assert site.errors == ["canary/greet.py: it can't be read: No such file or directory"]


def test_a_version_that_is_tried_has_to_be_roots(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("greet.py", GREET)
    version = try_next(site, "greet.py", say("greet", "Says hi."))
    (site.directory / "canary/greet.py").chmod(0o666)
    asyncio.run(site.own.read([], [version]))
    assert site.description("greet") == "Greets the user who asks."
    assert site.errors == ["canary/greet.py: others than root may write it (chmod go-w)"]


def test_the_directory_of_what_is_tried_has_to_be_roots(site: Site) -> None:
    version = try_next(site, "greet.py", GREET)
    (site.directory / "canary").chmod(0o777)
    asyncio.run(site.own.read([], [version]))
    assert site.registry.get("greet") is None
    assert site.errors == ["canary/greet.py: canary: others than root may write it (chmod go-w)"]


def test_a_version_that_does_not_load_is_named_and_the_former_one_stays(site: Site) -> None:
    site.write("greet.py", GREET)
    asyncio.run(site.own.read([]))
    version = try_next(site, "greet.py", GREET + "\nnonsense(\n")
    asyncio.run(site.own.read([], [version]))
    assert site.errors == ["canary/greet.py, line 10: SyntaxError: '(' was never closed"]
    assert site.description("greet") == "Greets the user who asks."


def test_what_a_bot_tells_of_its_plugins_fits_into_a_message(site: Site) -> None:
    """The service kills a bot that sends more than 64 KiB, in which the errors need a place as well."""
    command = "\n@command('{name}', 'X.')\nasync def hear(context): ...\n"
    for number in range(60):
        # Two bytes a character, and four.
        text = "".join(command.format(name=f"{number:02}{n}" + "\U00020000" * 29) for n in range(3))
        site.write(f"{number:02}{'é' * 120}.py", f"from ravesvc.commands import command\n{text}")
    assert len(site.read()) == 180
    assert site.errors == []
    told = site.own.loaded
    assert len(told) == 48
    assert told[0].commands.endswith("…")
    assert sum(len(part.encode()) for each in told for part in each) < 44 * 1024


def test_files_come_change_and_go(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert site.read() == []
    file = site.write("greet.py", GREET)
    site.write("README", "no commands")
    site.write(".#greet.py", "an editor's")
    site.write("greet.py~", "an older one")
    assert site.read() == ["greet.py"]
    command = site.registry.get("greet")
    assert command
    assert (command.source, command.permission) == (str(file), Permission.USER)
    assert f"Plugins read: {file} (greet)" in caplog.text
    part = site.registry.parts[1]
    assert len(part.handlers(EventKind.MESSAGE)) == 1

    caplog.clear()
    assert site.read() == ["greet.py"]
    assert site.registry.get("greet") is command, "what has not changed is not read again"
    assert caplog.text == ""

    site.write("greet.py", say("hail", "Hails."))
    assert site.read() == ["greet.py"]
    assert site.registry.get("greet") is None
    assert site.description("hail") == "Hails."
    file.unlink()
    assert site.read() == []
    assert f"Plugins gone: {file}" in caplog.text
    assert site.registry.parts == (site.registry,)
    assert site.told == [], "nothing was ever wrong"


def test_a_directory_need_not_exist(site: Site) -> None:
    site.directory.rmdir()
    assert site.read() == []
    assert site.errors == []


def test_files_may_use_what_python_has(site: Site) -> None:
    text = """
from __future__ import annotations
import dataclasses
@dataclasses.dataclass
class Pair:
    one: ClassVar[int]
    other: "str"
assert __file__.endswith("pair.py")
"""
    site.write("pair.py", text)
    assert site.read() == []
    assert site.errors == []


BROKEN = [
    ("x = (\n", ", line 1: SyntaxError: '(' was never closed"),
    ("\n\n1 / 0\n", ", line 3: ZeroDivisionError: division by zero"),
    ("import no_such_module\n", ", line 1: ModuleNotFoundError: No module named 'no_such_module'"),
    ("import json\njson.loads('{')\n", ", line 2: JSONDecodeError: Expecting property name"),
    ("raise SystemExit\n", ", line 1: SystemExit"),
    ("import sys\nsys.exit('bye')\n", ", line 2: SystemExit: bye"),
    ("raise KeyboardInterrupt\n", ", line 1: KeyboardInterrupt"),
    ("import asyncio\nraise asyncio.CancelledError\n", ", line 2: CancelledError"),
    ("class Other(BaseException): ...\nraise Other('no')\n", ", line 2: Other: no"),
    ("open('/no/such/file')\n", ", line 1: FileNotFoundError: [Errno 2]"),
    ("raise ValueError('a\\nb\\x1b[m')\n", ", line 1: ValueError: a?b?[m"),
    (b"\xff\xfe", "SyntaxError: "),
    ("x = 1\0", "null byte"),
    (GREET.replace('"greet"', '"ping"'), ", line 4: there is a command ping already: it belongs to the bot itself"),
    (GREET.replace('"greet"', '"setperm"'), ", line 4: the command setperm is for admins only"),
    (GREET.replace('"Greets', "'''Greets\n").replace('."', "'''"), "needs a description"),
    (GREET.replace("async def greet", "def greet"), "write async def greet(...)"),
    ("#" * (256 * 1024 + 1), "it is larger than 256 KiB"),
]


@pytest.mark.parametrize(("text", "told"), BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_a_broken_file_is_named_and_harms_nothing(
    site: Site, caplog: pytest.LogCaptureFixture, text: str | bytes, told: str
) -> None:
    site.write("broken.py", text)
    site.write("greet.py", GREET)
    assert site.read() == ["greet.py"]
    (error,) = site.errors
    assert error.startswith("broken.py")
    assert told in error
    assert "Plugins: " in caplog.text
    assert site.told == [site.own.errors]
    assert site.own.unloaded == ["broken.py"]
    assert {name for name in sys.modules if name.startswith("rave_commands")} == {"rave_commands_greet"}
    (site.directory / "broken.py").unlink()
    assert site.read() == ["greet.py"]
    assert site.told[1:] == [[]]


def test_of_a_file_that_breaks_the_version_before_stays(site: Site) -> None:
    site.write("greet.py", GREET)
    site.read()
    module = sys.modules["rave_commands_greet"]
    site.write("greet.py", say("hail", "Hails.") + "\nraise ValueError\n")
    assert site.read() == ["greet.py"]
    assert site.description("greet") == "Greets the user who asks."
    assert site.registry.get("hail") is None, "all of it or nothing"
    assert sys.modules["rave_commands_greet"] is module
    assert site.errors == ["greet.py, line 10: ValueError"]
    site.write("greet.py", GREET)
    site.read()
    assert site.errors == []


def test_what_has_failed_is_tried_again(site: Site, tmp_path: Path) -> None:
    site.write("greet.py", f"{GREET}\nassert open({str(tmp_path / 'there')!r}).close() is None\n")
    assert site.read() == []
    (tmp_path / "there").touch()
    assert site.read() == ["greet.py"]
    assert site.errors == []


def test_a_file_that_does_not_end_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugins._LOAD_TIMEOUT_S < 15
    monkeypatch.setattr(plugins, "_LOAD_TIMEOUT_S", 0.05)
    site.write("greet.py", GREET)
    site.write("slow.py", "import time\nfor _ in range(9):\n    time.sleep(30)\n")
    assert site.read() == ["greet.py"]
    assert site.errors == ["slow.py, line 3: TimeoutError: it kept everything else waiting for more than 0.05 s"]


@pytest.mark.parametrize(
    ("mode", "told"),
    [(0o664, "others than root may write it (chmod go-w)"), (0o646, "others than root may write it (chmod go-w)")],
)
def test_a_file_that_others_may_write_is_refused(site: Site, mode: int, told: str) -> None:
    file = site.write("greet.py", GREET)
    file.chmod(mode)
    assert site.read() == []
    assert site.errors == [f"greet.py: {told}"]
    file.chmod(0o644)
    assert site.read() == ["greet.py"]
    assert site.errors == []
    site.write("greet.py", say("hail", "Hails."))
    file.chmod(mode)
    assert site.read() == ["greet.py"]
    assert site.description("greet"), "what was there before stays"


def test_a_file_of_somebody_else_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("greet.py", GREET)
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[stat.ST_UID] += 1
        return os.stat_result(found)

    monkeypatch.setattr(plugin_files.os, "fstat", fstat)
    assert site.read() == []
    assert site.errors == ["greet.py: it does not belong to root (chown root)"]


def test_a_directory_that_others_may_write_is_refused(site: Site) -> None:
    site.write("greet.py", GREET)
    site.read()
    site.write("hail.py", say("hail", "Hails."))
    site.directory.chmod(0o777)
    assert site.read() == ["greet.py"], "what was there before stays"
    assert site.own.errors == [f"{site.directory}: others than root may write it (chmod go-w)"]


def test_what_is_no_file_is_refused_at_once(site: Site) -> None:
    os.mkfifo(site.directory / "pipe.py")
    (site.directory / "folder.py").mkdir()
    (site.directory / "link.py").symlink_to("/no/such/file")
    assert site.read() == []
    assert site.errors == [
        "folder.py: it can't be read: Is a directory",
        "link.py: it can't be read: No such file or directory",
        "pipe.py: it is no regular file",
    ]


def test_a_file_that_may_not_be_read_is_told_with_the_mend(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("greet.py", GREET)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(plugin_files.os, "open", refuse)
    assert site.read() == []
    assert site.errors == ["greet.py: it can't be read: Permission denied (chmod go+rX)"]


def test_a_command_belongs_to_the_file_that_had_it_first(site: Site) -> None:
    site.write("b.py", GREET)
    site.read()
    site.write("a.py", say("greet", "Another."))
    assert site.read() == ["b.py"]
    assert site.description("greet") == "Greets the user who asks."
    assert site.errors == [
        f"a.py, line 4: there is a command greet already: it belongs to {site.directory}/b.py".replace(
            f"{site.directory}/", ""
        )
        + " (take another name)"
    ]
    site.write("b.py", say("hail", "Hails."))
    assert site.read() == ["a.py", "b.py"]
    assert site.description("greet") == "Another."
    assert site.errors == []


def test_of_two_that_claim_a_name_nobody_loses_more_than_it(site: Site) -> None:
    """One gives a name up and fails over it, another has taken it meanwhile."""
    site.write("b.py", GREET)
    site.read()
    site.write("a.py", say("greet", "Another."))
    site.write("b.py", "1 / 0")
    site.read()
    assert site.description("greet") == "Another."
    assert [error.partition(",")[0] for error in site.errors] == ["b.py"]


# While they run.


def test_troubles_are_told_once_and_forgotten_with_the_next_read(site: Site) -> None:
    site.own.report_failure("greet.py", "the command greet failed: ValueError")
    site.own.report_failure("greet.py", "the command greet failed: ValueError")
    site.own.report_failure("hail.py", "the command hail took too long")
    first, second = "greet.py: the command greet failed: ValueError", "hail.py: the command hail took too long"
    assert site.told == [[first], [first, second]]
    site.read()
    assert site.told[2:] == [[]]


def test_too_many_errors_are_cut(site: Site) -> None:
    for number in range(20):
        site.own.report_failure(f"{number}.py", "x" * 1000)
    assert len(site.own.errors) == 16
    assert max(map(len, site.own.errors)) == 300


# Modules of packages.


@pytest.fixture
def packages(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "packages"
    (directory / "greetings").mkdir(parents=True)
    (directory / "greetings" / "__init__.py").touch()
    (directory / "greetings" / "words.py").write_text("DESCRIPTION = 'Greets.'\n")
    (directory / "greetings" / "commands.py").write_text(GREET)
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return directory


def test_modules_come_change_and_go(site: Site, packages: Path) -> None:
    site.modules = [
        EntryPoint("greet", "greetings.commands", "1.0"),
        EntryPoint("again", "greetings.commands", "1.0"),
    ]
    assert site.read() == ["greetings.commands"]
    before = site.registry.get("greet")
    (packages / "greetings" / "commands.py").write_text(say("greet", "Another."))
    assert site.read() == ["greetings.commands"]
    assert site.registry.get("greet") is before, "the version says whether there is another"
    site.modules = [EntryPoint("greet", "greetings.commands", "1.1")]
    site.read()
    assert site.description("greet") == "Another."
    assert site.own.loaded == [("greetings.commands", "1.1", "greet")]
    site.modules = []
    assert site.read() == []
    site.modules = [EntryPoint("greet", "greetings.commands", "1.1")]
    assert site.read() == ["greetings.commands"], "it is back"
    assert site.errors == []


def test_what_is_below_a_module_is_read_with_it(site: Site, packages: Path) -> None:
    (packages / "greetings" / "__init__.py").write_text(
        "from ravesvc.commands import command\nfrom greetings.words import DESCRIPTION\n"
        "@command('greet', DESCRIPTION)\nasync def greet(context): ...\n"
    )
    site.modules = [EntryPoint("greet", "greetings", "1.0")]
    site.read()
    (packages / "greetings" / "words.py").write_text("DESCRIPTION = 'Another one.'\n")
    site.modules = [EntryPoint("greet", "greetings", "1.1")]
    site.read()
    assert site.description("greet") == "Another one."


def test_a_broken_module_is_named_with_its_line(site: Site, packages: Path) -> None:
    (packages / "greetings" / "commands.py").write_text("\n\n1 / 0\n")
    site.modules = [EntryPoint("greet", "greetings.commands", "1.0")]
    assert site.read() == []
    file = packages / "greetings" / "commands.py"
    assert site.own.errors == [f"{file}, line 3: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(
    "name", ["ravesvc.bot.builtin", "ravesvc", "greetings:greet", "", "greet ings", "no_such_module"]
)
def test_what_is_no_module_of_a_package_is_named(site: Site, name: str) -> None:
    loaded = sys.modules["ravesvc"]
    site.modules = [EntryPoint("greet", name, "1.0")]
    assert site.read() == []
    (error,) = site.own.errors
    assert error.startswith(f"{name}: ")
    assert sys.modules["ravesvc"] is loaded


# Libraries.


@pytest.fixture
def libraries(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    site.own = site.loader(Sources(site.directory, libraries=tmp_path / "libraries"))
    site.write("greet.py", f"import greetings_of_all, json\nassert json.loads('1') == 1\n{GREET}")
    return tmp_path / "libraries"


def install(libraries: Path) -> None:
    for path in (libraries, libraries / "greetings_of_all", libraries / "json"):
        path.mkdir(mode=0o755)
        (path / "__init__.py").write_text("")
        (path / "__init__.py").chmod(0o644)


def test_a_plugin_imports_what_was_installed_for_plugins_and_it_replaces_nothing(site: Site, libraries: Path) -> None:
    assert site.read() == []
    assert "No module named 'greetings_of_all'" in site.errors[0]
    install(libraries)
    assert site.read() == ["greet.py"]
    assert site.read() == ["greet.py"]
    assert sys.path.index(str(libraries)) == len(sys.path) - 1


@pytest.mark.parametrize("name", [".", "greetings_of_all", "greetings_of_all/__init__.py"])
def test_what_others_may_write_is_no_library(site: Site, libraries: Path, name: str) -> None:
    install(libraries)
    (libraries / name).chmod(0o777)
    assert site.read() == []
    error, failed = site.own.errors
    assert error == f"{libraries / name}: others than root may write it (chmod go-w)"
    assert "No module named" in failed
    assert str(libraries) not in sys.path
    (libraries / name).chmod(0o755)
    assert site.read() == ["greet.py"]
    assert site.errors == []


def test_one_file_by_itself(site: Site) -> None:
    (command,) = load_file(site.write("greet.py", GREET), {}).commands()
    assert command.name == "greet"


def test_what_the_surrounding_program_has_registered_comes_first_and_stays(site: Site) -> None:
    given = Registry("my program")
    given.command("greet", "Greets.")(nothing)
    site.own = PluginLoader(
        site.registry, Sources(site.directory, registries=(given,)), site.told.append, lambda: site.bot
    )
    assert site.description("greet") == "Greets."
    site.write("greet.py", GREET)
    site.write("hail.py", say("hail", "Hails."))
    assert site.read() == ["my program", "hail.py"]
    (error,) = site.errors
    assert error.startswith("greet.py, line 4: there is a command greet already: it belongs to my program")


def test_files_of_whoever_runs_the_bots_for_nobody_else_are_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_files, "ROOT_UID", os.getuid() + 1)
    site.own = site.loader(Sources(site.directory))
    site.write("hail.py", say("hail", "Hails."))
    assert site.read() == []
    site.own = PluginLoader(
        site.registry, Sources(site.directory, frozenset({os.getuid()})), site.told.append, lambda: site.bot
    )
    assert site.read() == ["hail.py"]
    (site.directory / "hail.py").chmod(0o666)
    site.read()
    assert site.errors == ["hail.py: others than its owner may write it (chmod go-w)"]


async def nothing(_: object) -> None:
    pass
