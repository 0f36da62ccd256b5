from __future__ import annotations

import contextlib
import re
import string

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ravesvc import names
from ravesvc.errors import Code, RaveError

MESH = "11111111-2222-4333-8444-555555555555"
ESCAPED = "_311111111_2d2222_2d4333_2d8444_2d555555555555"
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", "_"),
        ("_", "_5f"),
        ("abcXYZ019", "abcXYZ019"),
        ("1abc", "_31abc"),
        ("a1", "a1"),
        ("rave-mesh@x.service", "rave_2dmesh_40x_2eservice"),
        ("é", "_c3_a9"),
        ("٣", "_d9_a3"),
        ("/", "_2f"),
        (MESH, ESCAPED),
    ],
)
def test_escape_as_sd_bus_path_encode_does(text: str, label: str) -> None:
    assert names.escape(text) == label
    assert names.unescape(label) == text


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.text())
def test_escape_makes_a_bus_name_element_that_unescape_undoes(text: str) -> None:
    label = names.escape(text)
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", label)
    assert names.unescape(label) == text


@hypothesis.settings(deadline=None)
@given(ANY_TEXT | st.text(string.hexdigits + "_"))
@example("_5F")
@example("_61")
@example("1a")
@example("a_")
@example("_c3")
@example("\ud800")
@example("")
def test_unescape_takes_only_what_escape_makes(label: str) -> None:
    with contextlib.suppress(RaveError):
        assert names.escape(names.unescape(label)) == label


@pytest.mark.parametrize("label", ["", "_5F", "_61", "1a", "a_", "_c3", "_zz", "a-b", "é", "\ud800", "__"])
def test_unescape_refuses(label: str) -> None:
    with pytest.raises(RaveError, match="is not an escaped label") as e:
        names.unescape(label)
    assert e.value.code is Code.INVALID_ARGUMENT


def test_a_mesh_id_is_a_lower_case_uuid() -> None:
    assert names.mesh_id(MESH) == MESH


@pytest.mark.parametrize(
    "text",
    [
        "",
        MESH.replace("8", "G"),
        MESH.upper().replace("1", "A"),
        MESH + "\n",
        MESH[:-1],
        f"{MESH}/..",
        "٣" + MESH[1:],
    ],
)
def test_anything_else_is_no_mesh_id(text: str) -> None:
    with pytest.raises(RaveError, match="is not a mesh id") as e:
        names.mesh_id(text)
    assert e.value.code is Code.INVALID_ARGUMENT
    assert e.value.hint


def test_a_refused_id_is_not_repeated_at_full_length() -> None:
    with pytest.raises(RaveError) as e:
        names.mesh_id("x" * 10_000)
    assert len(e.value.message) < 120


def test_units_paths_and_names_of_a_mesh() -> None:
    assert names.mesh_unit(MESH) == f"rave-mesh@{MESH}.service"
    assert names.mesh_path(MESH) == f"/org/ravesvc/Rave1/mesh/{ESCAPED}"
    assert names.worker_name(MESH) == f"org.ravesvc.Rave1.Worker.{ESCAPED}"
    assert names.worker_path(MESH) == f"/org/ravesvc/Rave1/worker/{ESCAPED}"


@hypothesis.settings(deadline=None)
@given(st.uuids().map(str))
def test_the_mesh_of_a_unit_and_of_a_path(mesh: str) -> None:
    assert names.mesh_of_unit(names.mesh_unit(mesh)) == mesh
    assert names.mesh_of_worker_path(names.worker_path(mesh)) == mesh


@pytest.mark.parametrize(
    "unit",
    [
        "rave-mesh@x.service",
        "rave-mesh@.service",
        f"rave-mesh@{MESH}.socket",
        f"rave-mesh@{MESH}.service\n",
        f"xrave-mesh@{MESH}.service",
        "rave-orchestrator.service",
        "",
    ],
)
def test_a_unit_of_no_mesh(unit: str) -> None:
    assert names.mesh_of_unit(unit) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        names.mesh_path(MESH),
        names.worker_path(MESH) + "/x",
        names.worker_path("no-mesh"),
        "/org/ravesvc/Rave1/worker/",
        "/org/ravesvc/Rave1/worker/a-b",
    ],
)
def test_a_path_of_no_worker(path: str) -> None:
    assert names.mesh_of_worker_path(path) is None


def test_only_a_crash_and_an_ordered_stop_are_not_final() -> None:
    assert set(names.ExitStatus) - names.FINAL_STATUSES == {names.ExitStatus.STOPPED, names.ExitStatus.CRASHED}


def test_exit_statuses_never_change() -> None:
    # A bot of one version may be learnt from by a parent of another.
    assert {status.name: status.value for status in names.ExitStatus} == {
        "STOPPED": 0,
        "CRASHED": 1,
        "CONFIG": 78,
        "KICKED": 80,
        "LEFT": 81,
        "GONE": 82,
        "UNREACHABLE": 83,
        "REJECTED": 84,
        "LOGIN_NEEDED": 85,
        "NO_SETTINGS": 86,
        "TOO_LARGE": 87,
        "ELSEWHERE": 88,
        "ALONE": 89,
    }


def test_exit_statuses_keep_clear_of_what_others_mean_by_them() -> None:
    ours = names.FINAL_STATUSES - {names.ExitStatus.CONFIG}
    taken = {*range(8), *range(64, 79), *range(128, 256)}
    assert not ours & taken
