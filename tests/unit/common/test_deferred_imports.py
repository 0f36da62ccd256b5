from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ravesvc.common.deferred_imports import deferred

Write = Callable[[str], None]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the module `shelf.light` of a package that has `shelf.heavy` too."""
    for name in ("shelf", "shelf.heavy", "shelf.light"):
        # So that it is gone after the test.
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "shelf"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "heavy.py").write_text("WEIGHT = 5\n")

    def write(light: str) -> None:
        (package / "light.py").write_text(light)

    return write


@pytest.mark.parametrize(
    ("imported", "used"),
    [
        ("import shelf.heavy", "shelf.heavy.WEIGHT"),
        ("from shelf import heavy", "heavy.WEIGHT"),
        ("from . import heavy", "heavy.WEIGHT"),
    ],
)
def test_a_deferred_module_is_imported_when_the_library_uses_it(library: Write, imported: str, used: str) -> None:
    library(f"{imported}\ndef weigh(): return {used}\n")
    with deferred("shelf.heavy"):
        light = importlib.import_module("shelf.light")
    assert "shelf.heavy" not in sys.modules
    assert light.weigh() == 5
    assert light.weigh() == 5
    assert sys.modules["shelf.heavy"].__spec__ is not None, "the module itself"


def test_a_module_in_no_package_is_deferred_as_well(
    library: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy_alone.py").write_text("WEIGHT = 7\n")
    library("import heavy_alone\ndef weigh(): return heavy_alone.WEIGHT\n")
    with deferred("heavy_alone"):
        light = importlib.import_module("shelf.light")
    assert "heavy_alone" not in sys.modules
    assert light.weigh() == 7
    monkeypatch.delitem(sys.modules, "heavy_alone")


def test_what_the_library_uses_at_once_is_imported_at_once(library: Write) -> None:
    library("import shelf.heavy\nWEIGHT = shelf.heavy.WEIGHT\n")
    with deferred("shelf.heavy"):
        light = importlib.import_module("shelf.light")
        assert sys.modules["shelf.heavy"].__spec__ is not None
    assert light.WEIGHT == 5
    assert sys.modules["shelf.heavy"].__spec__ is not None


def test_all_others_import_the_module_itself(library: Write) -> None:
    library("import shelf.heavy\n")
    with deferred("shelf.heavy"):
        light = importlib.import_module("shelf.light")
    heavy = importlib.import_module("shelf.heavy")
    assert heavy.__spec__ is not None
    assert light.shelf.heavy is heavy


def test_what_was_imported_before_stays(library: Write) -> None:
    library("from shelf import heavy\n")
    heavy = importlib.import_module("shelf.heavy")
    with deferred("shelf.heavy"):
        light = importlib.import_module("shelf.light")
    assert light.heavy is heavy
    assert sys.modules["shelf.heavy"] is heavy


def test_a_library_that_fails_to_import_leaves_no_stand_in_behind(library: Write) -> None:
    library("import shelf.heavy, there_is_no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"), deferred("shelf.heavy"):
        importlib.import_module("shelf.light")
    assert "shelf.heavy" not in sys.modules


def test_a_library_that_is_missing_fails_as_its_import_does() -> None:
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_package"), deferred("there_is_no_such_package.a"):
        pass
    assert "there_is_no_such_package.a" not in sys.modules


def test_a_module_that_there_is_not_fails_when_it_is_used(library: Write) -> None:
    library("from shelf import heavier\n")
    with deferred("shelf.heavier"):
        light = importlib.import_module("shelf.light")
    with pytest.raises(ModuleNotFoundError, match=r"shelf\.heavier"):
        _ = light.heavier.WEIGHT
