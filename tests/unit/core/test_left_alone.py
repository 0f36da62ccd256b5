from __future__ import annotations

import asyncio

from ravesvc.api.models import Mesh
from ravesvc.core.inventory import Inventory
from ravesvc.core.left_alone import LeftAlone

OWN, ANN = 1, 2


class FakeBlocks:
    """What the blocklist remembers of empty meshes."""

    def __init__(self, *alone: str) -> None:
        self.alone = set(alone)

    def set_left_alone(self, mesh: str) -> asyncio.Future[bool]:
        raise NotImplementedError

    def clear_left_alone(self, mesh: str) -> None:
        self.alone.remove(mesh)


def mesh(name: str, *users: int) -> Mesh:
    return Mesh(name, None, "", True, users)


def company(inventory: Inventory, *alone: str) -> tuple[LeftAlone, FakeBlocks]:
    blocklist = FakeBlocks(*alone)
    return LeftAlone(inventory, blocklist, lambda: OWN), blocklist  # type: ignore[arg-type]


def test_an_empty_mesh_waits_until_a_list_shows_somebody_else() -> None:
    inventory = Inventory()
    found, blocklist = company(inventory, "a", "b", "c")
    assert found.still_empty == {"a", "b", "c"}, "before any list"
    inventory.observe([mesh("a"), mesh("b", OWN), mesh("c", OWN, ANN), mesh("d", ANN)])
    assert found.still_empty == {"a", "b"}
    found.round_finished()
    assert blocklist.alone == {"a", "b"}


def test_a_mesh_that_is_listed_no_more_is_forgotten_and_another_invitation_counts() -> None:
    inventory = Inventory()
    inventory.adopt(["a", "b"])
    found, blocklist = company(inventory, "a", "b")
    for _ in range(2):
        inventory.observe([mesh("a")])
        found.round_finished()
        assert blocklist.alone == {"a", "b"}, "lists may lack it once"
    inventory.observe([mesh("a")])
    found.round_finished()
    assert blocklist.alone == {"a"}


def test_the_beginning_of_a_list_says_nothing_of_the_others() -> None:
    inventory = Inventory()
    found, blocklist = company(inventory, "a")
    inventory.observe_beginning([mesh("x")])
    found.round_finished()
    assert blocklist.alone == {"a"}
