"""Files that plugins import: what is read with a plugin, whose it is, and what a failure of one leaves as it was."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc.bot import plugin_helpers
from ravesvc.bot.command import Registry
from ravesvc.bot.plugin_helpers import find, read_helpers
from ravesvc.bot.plugins import PluginLoader, Sources
from ravesvc.common import plugin_files
from ravesvc.errors import RaveError
from ravesvc.testing import FakeRoom

SCORES = "scores = []\ndef add(n):\n    scores.append(n)\n    return sum(scores)\n"
USES = """
from ravesvc.commands import command
from _scores import add

@command("NAME", "Adds.")
async def handler(context, n: int = 1):
    await context.reply(str(add(n)))
"""


class Site:
    """A directory of plugins, and what reads it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry = Registry()
        self.started: list[str] = []
        self.loader = PluginLoader(self.registry, Sources(directory), lambda errors: None, lambda: self)

    def start_plugin(self, part: Registry) -> None:
        self.started.append(Path(part.source).name)

    async def end_plugin(self, part: Registry) -> None: ...

    def write(self, name: str, text: str) -> Path:
        file = self.directory / name
        file.write_text(text)
        file.chmod(0o644)
        return file

    def read(self) -> list[str]:
        """The names of the files that are loaded anew."""
        self.started.clear()
        asyncio.run(self.loader.read([]))
        return self.started

    @property
    def errors(self) -> list[str]:
        return [error.replace(f"{self.directory}/", "") for error in self.loader.errors]

    def version(self, name: str) -> str:
        return next(each.version for each in self.loader.loaded if each.source.endswith(f"/{name}"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(plugin_files, "ROOT_UID", os.getuid())
    directory = tmp_path / "commands.d"
    directory.mkdir(mode=0o755)
    yield Site(directory)
    for name in [name for name in sys.modules if name.startswith("rave_commands_")]:
        del sys.modules[name]


def uses(name: str) -> str:
    return USES.replace("NAME", name)


def test_exactly_the_files_that_import_a_helper_are_loaded_anew_when_it_changes(site: Site) -> None:
    site.write("_scores.py", "from _sums import total\n" + SCORES)
    site.write("_sums.py", "total = 0\n")
    site.write("one.py", uses("one"))
    site.write("two.py", uses("two"))
    site.write("three.py", "# _scores, and 'import _scores'\n" + uses("three").replace("from _scores import add", ""))
    assert site.read() == ["one.py", "three.py", "two.py"]
    assert site.errors == []
    before = site.version("one.py")
    assert site.read() == []
    site.write("_sums.py", "total = 1\n")
    assert site.read() == ["one.py", "two.py"]
    assert site.version("one.py") != before
    site.write("_other.py", "raise ValueError\n")
    assert site.read() == []
    assert [command.name for command in site.registry.commands()] == ["one", "three", "two"]


@pytest.mark.parametrize(
    ("helper", "told"),
    [
        ("1 +", "_scores.py, line 1: SyntaxError: invalid syntax"),
        ("\nraise ValueError('no')", "_scores.py, line 2: ValueError: no"),
        ("def minus(): ...", "one.py, line 3: ImportError: cannot import name 'add'"),
        ("import _nothing", "_scores.py, line 1: ModuleNotFoundError: No module named '_nothing': no import"),
        (
            "import two",
            "_scores.py, line 1: ModuleNotFoundError: No module named 'two': two.py is a plugin; only files",
        ),
        (
            "import _scores.deeper",
            "_scores.py, line 1: ModuleNotFoundError: No module named '_scores': a file beside",
        ),
        ("#" * 300_000, "one.py: _scores.py: it is larger than 256 KiB"),
    ],
)
def test_an_error_in_a_helper_is_named_and_the_version_before_stays(site: Site, helper: str, told: str) -> None:
    site.write("_scores.py", SCORES)
    site.write("one.py", uses("one"))
    site.write("two.py", "")
    site.read()
    module, mine = sys.modules["rave_commands_one"], sys.modules["rave_commands_one._scores"]
    site.write("_scores.py", helper)
    assert site.read() == []
    (error,) = site.errors
    assert error.startswith(told)
    assert [command.name for command in site.registry.commands()] == ["one"]
    assert (sys.modules["rave_commands_one"], sys.modules["rave_commands_one._scores"]) == (module, mine)
    site.write("_scores.py", SCORES + "#")
    assert site.read() == ["one.py"]
    assert site.errors == []


def test_a_helper_is_looked_at_as_a_plugin_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("one.py", uses("one"))
    site.write("_scores.py", SCORES).chmod(0o666)
    assert site.read() == []
    assert site.errors == ["one.py: _scores.py: others than root may write it (chmod go-w)"]
    site.write("_scores.py", SCORES)
    assert site.read() == ["one.py"]
    (site.directory / "_scores.py").unlink()
    assert site.read() == []
    assert site.errors[0].startswith("one.py, line 3: ModuleNotFoundError: No module named '_scores'")


def test_helpers_have_a_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_helpers, "_MAX_HELPERS", 1)
    site.write("_a.py", "import _b")
    site.write("_b.py", "")
    site.write("one.py", "import _a")
    site.read()
    assert site.errors == ["one.py: it imports more than 1 files"]


def test_the_first_directory_that_has_a_helper_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, names in ((first, ["_a"]), (second, ["_a", "_b"])):
        directory.mkdir()
        for name in names:
            (directory / f"{name}.py").write_text("")
    assert [find(name, [first, second]) for name in ("_a", "_b", "_c")] == [
        first / "_a.py",
        second / "_b.py",
        None,
    ]


@pytest.mark.parametrize("content", ["1 +", "\0", "(" * 500 + ")" * 500, "if True:\n  _a\n import _a"])
def test_what_is_no_program_imports_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "_a.py").write_text("")
    assert read_helpers(f"import _a\n{content}".encode(), lambda name: find(name, [tmp_path]), Path.read_bytes) == {}


async def test_each_plugin_has_a_copy_of_its_own_and_its_tasks(tmp_path: Path) -> None:
    (tmp_path / "_scores.py").write_text(
        SCORES
        + "import asyncio\nasync def later(context):\n    await asyncio.sleep(60)\n    await context.send('later')\n"
    )
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            uses(name) + f"\n@command('{name}later', 'Later.')\nasync def start(context):\n"
            "    import asyncio, _scores\n    asyncio.create_task(_scores.later(context))\n"
        )
    async with FakeRoom() as room:
        room.load(tmp_path / "one.py")
        room.load(tmp_path / "two.py")
        assert await room.say("?one 5") == ["5"]
        assert await room.say("?one 5") == ["10"]
        assert await room.say("?two 1") == ["1"]
        await room.say("?onelater")
        assert await room.run_for(60) == ["later"], "a helper sleeps by the clock of the room"
        await room.say("?onelater")
        await room.unload(tmp_path / "one.py")
        assert await room.run_for(60) == [], "its task has ended with the plugin"
        await room.say("?twolater")
        (tmp_path / "_scores.py").write_text(SCORES)
        await room.reload(tmp_path / "two.py")
        assert await room.run_for(60) == []


async def test_helpers_may_import_each_other_and_know_their_classes(tmp_path: Path) -> None:
    (tmp_path / "_a.py").write_text("import _b\nname = 'a'\ndef both(): return name + _b.name\n")
    (tmp_path / "_b.py").write_text(
        "from __future__ import annotations\nimport _a\nfrom dataclasses import dataclass\nname = 'b'\n"
        "@dataclass\nclass Score:\n    points: int = 0\n"
    )
    (tmp_path / "one.py").write_text(
        "from ravesvc.commands import command\nimport _b, _thread\nfrom _b import Score\n"
        "@command('one', 'Says it.')\nasync def one(context):\n    from _a import both\n"
        "    await context.reply(f'{both()} {Score(3).points} {_thread.get_ident() > 0}')\n"
    )
    async with FakeRoom() as room:
        room.load(tmp_path / "one.py")
        assert await room.say("?one") == ["ab 3 True"]


async def test_an_import_that_was_not_seen_fails_in_words(tmp_path: Path) -> None:
    (tmp_path / "_late.py").write_text("")
    (tmp_path / "one.py").write_text(
        "from ravesvc.commands import UserError, command\n"
        "@command('one', 'Fails.')\nasync def one(context):\n    try:\n        __import__('_late')\n"
        "    except ImportError as error:\n        raise UserError(str(error)) from error\n"
    )
    async with FakeRoom() as room:
        room.load(tmp_path / "one.py")
        (said,) = await room.say("?one")
        assert "no import statement had found _late.py when one.py was loaded" in said


async def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    async with FakeRoom() as room:
        with pytest.raises(RaveError, match="it can't be read: No such file"):
            room.load(tmp_path / "nothing.py")
