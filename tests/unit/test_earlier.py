"""The tests of another revision: what they type and read is translated, and the listed ones have to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ravesvc import names
from tests.earlier.adapted import BUS_NAME, CHANGES_FILE, MAIN_PATH, Translation, read_changes

ROOT = Path(__file__).parents[2]
MESH = "0a1b2c3d-1111-4222-8333-944455556666"
CHANGES: dict[str, Any] = {
    "left_out": {"test_left_out.py": "packaging", "test_tree.py::test_left_out": "performance"},
    "members": {"Manager.Admins": "Permissions.Admins", "Manager.AddAdmin": "Permissions.AddAdmin"},
    "methods_of_a_mesh": {"Reconnect": "ReconnectMesh"},
    "typed": {"ravesvc.old": "ravesvc.new"},
    "printed": {r"fixed by (\w+)": r"mended by \1"},
    "late": {},
    "simulator": {},
    "operators": "",
    "fails": {},
}


@pytest.fixture
def translation() -> Translation:
    return Translation(CHANGES)


def test_a_member_that_has_moved_is_called_where_it_is(translation: Translation) -> None:
    call = ["busctl", "--json=short", "call", names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE]
    moved = [*call[:-1], names.PERMISSIONS_INTERFACE]
    assert translation.command([*call, "AddAdmin", "t", "5"]) == [*moved, "AddAdmin", "t", "5"]
    assert translation.command([*call, "ListMeshes"]) == [*call, "ListMeshes"]


def test_a_method_of_a_mesh_is_called_with_its_id(translation: Translation) -> None:
    words = ["busctl", "call", names.BUS_NAME]
    called = translation.command([*words, names.mesh_path(MESH), names.MESH_INTERFACE, "Reconnect"])
    assert called == [*words, names.MANAGER_PATH, names.MANAGER_INTERFACE, "ReconnectMesh", "s", MESH]
    read = [*words, names.mesh_path(MESH), names.MESH_INTERFACE, "State"]
    assert translation.command(read) == read


def test_programs_import_and_call_by_the_new_names(translation: Translation) -> None:
    program = 'from ravesvc.old import x\nfrom ravesvc.older import y\nnames.MANAGER_INTERFACE,\n "AddAdmin", "t"'
    assert translation.command(["python3", "-c", program])[2] == (
        'from ravesvc.new import x\nfrom ravesvc.older import y\n"org.ravesvc.Rave1.Permissions",\n "AddAdmin", "t"'
    )


def test_new_sentences_are_read_as_the_old_ones(translation: Translation) -> None:
    assert translation.output("It was fixed by me.") == "It was mended by me."


def test_the_new_names_in_the_list_are_those_of_this_tree() -> None:
    assert (BUS_NAME, MAIN_PATH) == (names.BUS_NAME, names.MANAGER_PATH)
    changes = read_changes(CHANGES_FILE)
    bus = json.loads((ROOT / "tests/integration/promises.json").read_text())["bus"]
    wanted = [*changes["members"].values(), *(f"Manager.{name}" for name in changes["methods_of_a_mesh"].values())]
    for noun, _, member in (each.partition(".") for each in wanted):
        assert {f"method {member}", f"property {member}"} & set(bus[f"{BUS_NAME}.{noun}"]), f"{noun}.{member}"


_TESTS = """
def test_passes():
    pass

def test_fails_as_listed():
    assert "old words" in "new words"

def test_passes_though_listed():
    pass

def test_fails_elsewhere():
    assert 1 == 2
    assert "old words" in "new words"

def test_fails_and_is_not_listed():
    assert 1 == 2

def test_left_out():
    assert 1 == 2
"""


@pytest.mark.process
def test_a_listed_test_has_to_fail_where_the_list_says(tmp_path: Path) -> None:
    listed = ("test_fails_as_listed", "test_passes_though_listed", "test_fails_elsewhere", "test_gone")
    entry = {"at": 'assert "old words" in', "reason": "the words are new"}
    changes = tmp_path / "changes.yaml"
    changes.write_text(yaml.safe_dump({**CHANGES, "fails": {f"test_tree.py::{name}": entry for name in listed}}))
    directory = tmp_path / "tests/integration"
    directory.mkdir(parents=True)
    (directory / "test_tree.py").write_text(_TESTS)
    (directory / "test_left_out.py").write_text("def test_left_out():\n    assert False\n")
    command = [sys.executable, "-m", "pytest", "-p", "adapted", "-rA", f"--intended-changes={changes}"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--all-listed", "tests/integration"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "tests/earlier")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    said = {line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("PASS", "FAIL", "XFAIL"))}
    assert said == {
        "PASSED tests/integration/test_tree.py::test_passes",
        "XFAIL tests/integration/test_tree.py::test_fails_as_listed",
        "FAILED tests/integration/test_tree.py::test_passes_though_listed",
        "FAILED tests/integration/test_tree.py::test_fails_elsewhere",
        "FAILED tests/integration/test_tree.py::test_fails_and_is_not_listed",
    }
    assert "listed as a test that fails, but there is none: test_tree.py::test_gone" in done.stdout
