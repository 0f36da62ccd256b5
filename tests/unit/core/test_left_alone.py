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


def company(census: Inventory, *alone: str) -> tuple[LeftAlone, FakeBlocks]:
    blocks = FakeBlocks(*alone)
    return LeftAlone(census, blocks, lambda: OWN), blocks  # type: ignore[arg-type]


def test_an_empty_mesh_waits_until_a_list_shows_somebody_else() -> None:
    census = Inventory()
    found, blocks = company(census, "a", "b", "c")
    assert found.wanting == {"a", "b", "c"}, "before any list"
    census.observe([mesh("a"), mesh("b", OWN), mesh("c", OWN, ANN), mesh("d", ANN)])
    assert found.wanting == {"a", "b"}
    found.welcome()
    assert blocks.alone == {"a", "b"}


def test_a_mesh_that_is_listed_no_more_is_forgotten_and_another_invitation_counts() -> None:
    census = Inventory()
    census.adopt(["a", "b"])
    found, blocks = company(census, "a", "b")
    for _ in range(2):
        census.observe([mesh("a")])
        found.welcome()
        assert blocks.alone == {"a", "b"}, "lists may lack it once"
    census.observe([mesh("a")])
    found.welcome()
    assert blocks.alone == {"a"}


def test_the_beginning_of_a_list_says_nothing_of_the_others() -> None:
    census = Inventory()
    found, blocks = company(census, "a")
    census.glimpse([mesh("x")])
    found.welcome()
    assert blocks.alone == {"a"}
