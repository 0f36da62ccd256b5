"""packaging/release.py: the three files that a release changes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ravesvc.version import __version__
from tests.unit.marking import marks_its_tests

ROOT = next(directory for directory in Path(__file__).parents if (directory / "pyproject.toml").exists())
FILES = ("ravesvc/version.py", "CHANGELOG.md", "debian/changelog")


@pytest.fixture
@marks_its_tests("process")
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = (
        "# Changelog\n\n## [Unreleased]\n\n### Added\n- Something.\n\n## [0.1.0] - 2026-11-01\n\n### Added\n- All.\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(text)
    return tmp_path


def release(tree: Path, version: str) -> tuple[int, str]:
    command = [sys.executable, "-I", str(ROOT / "packaging/release.py"), version]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    return done.returncode, done.stderr


def contents(tree: Path) -> list[str]:
    return [(tree / name).read_text() for name in FILES]


def test_the_version_and_both_changelogs_are_changed(tree: Path) -> None:
    _, _, debian = contents(tree)
    assert release(tree, "12.3.45") == (0, "")
    source, changelog, entries = contents(tree)
    assert re.findall(r'^__version__ = "(.+)"$', source, re.M) == ["12.3.45"]
    head, _, rest = changelog.partition("## [Unreleased]\n")
    assert head == "# Changelog\n\n"
    day, _, rest = rest.removeprefix("\n## [12.3.45] - ").partition("\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    assert rest.startswith("\n### Added\n- Something.\n\n## [0.1.0]")
    entry = entries.removesuffix(debian)
    assert entry.startswith("ravesvc (12.3.45) unstable; urgency=medium\n\n  * ")
    (maintainer,) = set(re.findall(r"^ -- (.+>)  ", entries, re.M))
    assert re.search(
        rf"^ -- {re.escape(maintainer)}  \w{{3}}, \d\d \w{{3}} \d{{4}} [\d:]{{8}} \+0000\n\n\Z", entry, re.M
    )


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("0.0.1", "0.0.1 is not later than"),
        (__version__, f"{__version__} is not later than"),
        ("1.0", "'1.0' is no version such as 0.2.0"),
        ("", "'' is no version"),
        ("1.0.0; rm -r .", "is no version"),
    ],
)
def test_a_wrong_version_changes_nothing(tree: Path, version: str, words: str) -> None:
    before = contents(tree)
    status, printed = release(tree, version)
    assert (status, words in printed) == (1, True), printed
    assert contents(tree) == before


@pytest.mark.parametrize("text", ["# Changelog\n", "## [Unreleased]\n\n## [0.1.0]\n\n- Old.\n"])
def test_a_release_without_a_change_is_refused(tree: Path, text: str) -> None:
    (tree / "CHANGELOG.md").write_text(text)
    before = contents(tree)
    status, printed = release(tree, "12.0.0")
    assert (status, printed.startswith("release: CHANGELOG.md ")) == (1, True), printed
    assert contents(tree) == before
