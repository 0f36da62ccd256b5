"""Meshes by what a user types, with a service that has some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ravesvc.ctl.client import connected
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.operations.mesh_lookup import FoundMesh
from ravesvc.errors import Code, RaveError
from tests.unit.fake_service import WHEN_US, FakeService

FILM = "cafe4e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
TWIN = "cafe4e4f-ffff-4c2d-8e3f-4a5b6c7d8e9f"
QUIZ = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
BLOCKED = "9f8e7d6c-5b4a-4f3e-8d2c-1b0a4f3e2d1c"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def service(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    fake.manager.meshes = [
        [FILM, "Film", "connected", "/"],
        [TWIN, "Film night: Straße", "connected", "/"],
        [QUIZ, "Café quiz cafe", "connected", "/"],
    ]
    fake.blocklist.entries = [[BLOCKED, "kicked", WHEN_US, 0, "", "service", 1]]
    fake.blocklist.titles = {BLOCKED: "Old room"}
    yield fake
    fake.stop()


def find(text: str) -> FoundMesh:
    with connected() as service:
        return mesh_lookup.find(service, text)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("text", "mesh"),
    [
        (QUIZ, QUIZ),
        ("1c2d", QUIZ),
        ("QUIZ", QUIZ),
        ("NIGHT: STRASSE", TWIN),
        # The title as a whole, though another has it as a part.
        ("film", FILM),
        ("room", BLOCKED),
        (BLOCKED, BLOCKED),
        (UNKNOWN, UNKNOWN),
    ],
)
def test_what_means_one_mesh(text: str, mesh: str) -> None:
    assert find(text).id == mesh


@pytest.mark.usefixtures("service")
def test_the_beginning_of_an_id_is_no_title() -> None:
    with pytest.raises(RaveError, match="2 meshes have an id that begins with cafe") as e:
        find("cafe")
    assert e.value.code is Code.INVALID_ARGUMENT


@pytest.mark.usefixtures("service")
def test_a_part_of_several_titles_means_none_of_them() -> None:
    with pytest.raises(RaveError, match="2 meshes have 'FIL' in their titles") as e:
        find("FIL")
    assert e.value.code is Code.INVALID_ARGUMENT
    assert e.value.hint == f"name one of them by its id: {FILM} (Film), {TWIN} (Film night: Straße)"


def test_what_strangers_have_written_is_bounded_and_printable(service: FakeService) -> None:
    title = "bad\x1b[2J\n" + "x" * 300
    service.manager.meshes = [[f"{number:08x}-0000-4000-8000-000000000000", title, "", "/"] for number in range(100)]
    with pytest.raises(RaveError, match="100 meshes") as e:
        find("bad")
    assert e.value.hint.count("bad?[2J?xxx") == 5
    assert e.value.hint.isprintable()
    assert len(e.value.hint) < 600
    assert str(find("00000007")) == f"00000007-0000-4000-8000-000000000000 (bad?[2J?{'x' * 52})"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("text", ["", " ", "x", "0*", "1" * 37])
def test_what_means_no_mesh(text: str) -> None:
    with pytest.raises(RaveError, match="is not a mesh id, and no mesh has it in its title") as e:
        find(text)
    assert e.value.code is Code.NO_SUCH_MESH
    with pytest.raises(RaveError, match="no mesh has an id that begins with 00, nor 00 in its title"):
        find("00")


@pytest.mark.usefixtures("service")
def test_a_mesh_without_a_title_is_an_id() -> None:
    assert str(find(UNKNOWN)) == UNKNOWN
