from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any

import pytest

from ravesvc.api import listing as module
from ravesvc.api.listing import LARGE_PAGE_MESHES, REQUEST_SPACING_S, ListReader, all_of_it
from ravesvc.api.models import Listing, Mesh, MeshMode
from ravesvc.errors import Code, RaveError

Run = Callable[[Coroutine[Any, Any, Any]], Any]

INVITED, FRIENDS, PUBLIC, ALL = MeshMode.INVITED, MeshMode.FRIENDS, MeshMode.PUBLIC, MeshMode.ALL


class Rave:
    """Lists of so many meshes, by source, whose cursors count meshes; a page holds at most `most`.

    `asked` is every request; `refuse` may raise in place of an answer, and `slept` is every pause.
    """

    def __init__(self, most: int = 1000, **lengths: int) -> None:
        self.lengths = lengths
        self.most = most
        self.asked: list[tuple[str, int, str | None]] = []
        self.refuse: Callable[[MeshMode, int, str | None], RaveError | None] = lambda *_: None
        self.slept: list[float] = []
        self.reader = ListReader(self.page, self.sleep)

    async def page(self, source: MeshMode, size: int, cursor: str | None) -> tuple[list[Mesh], str | None]:
        self.asked.append((source.value, size, cursor))
        if error := self.refuse(source, size, cursor):
            raise error
        begin = int(cursor or 0)
        end = min(begin + min(size, self.most), self.lengths.get(source.value, 0))
        meshes = [Mesh(f"{source}-{n}", None, "", source is INVITED, ()) for n in range(begin, end)]
        return meshes, str(end) if end < self.lengths.get(source.value, 0) else None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def read(self, run: Run, mode: MeshMode, enough: module.Enough = all_of_it) -> Listing:
        self.asked.clear()
        found: Listing = run(self.reader.read(mode, 20, enough))
        assert len({mesh.id for mesh in found.meshes}) == len(found.meshes), "each once"
        return found


def at_least(count: int) -> module.Enough:
    return lambda found: len(found) >= count


def test_a_short_list_is_one_request(run: Run) -> None:
    rave = Rave(invited=20)
    found = rave.read(run, INVITED)
    assert (len(found.meshes), found.complete, found.error, found.note) == (20, True, None, "")
    assert rave.asked == [("invited", 20, None)]
    assert rave.slept == []


def test_a_long_list_is_read_in_large_pages_from_its_beginning(run: Run) -> None:
    rave = Rave(public=2100)
    found = rave.read(run, PUBLIC)
    assert (len(found.meshes), found.complete) == (2100, True)
    assert rave.asked[:3] == [("public", 20, None), ("public", 100, None), ("public", 100, "100")]
    assert len(rave.asked) == 1 + 21
    assert rave.slept == [REQUEST_SPACING_S] * 21
    # From then on at once, until it is short again.
    rave.read(run, PUBLIC)
    assert rave.asked[0] == ("public", 100, None)
    assert len(rave.asked) == 21
    rave.lengths["public"] = 20
    rave.read(run, PUBLIC)
    assert rave.asked == [("public", 100, None)]
    rave.read(run, PUBLIC)
    assert rave.asked == [("public", 20, None)]


def test_a_server_with_small_pages_is_not_asked_for_larger_ones(run: Run) -> None:
    rave = Rave(most=2, invited=5)
    assert len(rave.read(run, INVITED).meshes) == 5
    assert rave.asked == [("invited", 20, None), ("invited", 20, "2"), ("invited", 20, "4")]


def test_a_server_that_refuses_large_pages_is_asked_once(run: Run) -> None:
    rave = Rave(invited=50)
    refused = RaveError(Code.BAD_REQUEST, "limit is too large")
    rave.refuse = lambda _source, size, _cursor: refused if size > 20 else None
    for large in (1, 0):
        found = rave.read(run, INVITED)
        assert (len(found.meshes), found.complete, found.error) == (50, True, None)
        assert [size for _, size, _ in rave.asked].count(LARGE_PAGE_MESHES) == large


def test_no_more_is_read_than_is_enough(run: Run) -> None:
    rave = Rave(public=2100)
    found = rave.read(run, PUBLIC, at_least(3))
    assert (len(found.meshes), found.complete, found.error, found.note) == (20, False, None, "")
    assert rave.asked == [("public", 20, None)]
    found = rave.read(run, PUBLIC, at_least(150))
    assert (len(found.meshes), found.complete) == (200, False)


def test_a_list_that_ends_with_enough_is_complete(run: Run) -> None:
    rave = Rave(public=20)
    assert rave.read(run, PUBLIC, at_least(3)).complete
    assert not Rave(invited=5, public=3).read(run, ALL, at_least(3)).complete, "the others are unread"
    assert Rave(invited=1, friends=1, public=1).read(run, ALL, at_least(3)).complete


def test_invitations_may_be_enough(run: Run) -> None:
    rave = Rave(invited=3, friends=500, public=2100)
    found = rave.read(run, ALL, at_least(3))
    assert [mesh.id for mesh in found.meshes] == ["invited-0", "invited-1", "invited-2"]
    assert rave.asked == [("invited", 20, None)]


def test_a_list_without_end_is_read_for_so_many_pages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 3)
    rave = Rave(most=10, invited=10**6, friends=1)
    found = rave.read(run, ALL)
    assert len(found.meshes) == 31, "and the other lists after it"
    assert (found.complete, found.error) == (False, None)
    assert found.note == "the list of invited meshes has more than 3 pages, of which these were read"
    exact = Rave(most=10, invited=30).read(run, INVITED)
    assert (len(exact.meshes), exact.complete) == (30, True)


async def test_going_round_in_circles_ends() -> None:
    rave = Rave(most=10)

    async def page(_source: MeshMode, _size: int, cursor: str | None) -> tuple[list[Mesh], str | None]:
        rave.asked.append(("", 0, cursor))
        return [Mesh(f"{cursor}", None, "", True, ())], {None: "a", "a": "b", "b": "a"}[cursor]

    found = await ListReader(page, rave.sleep).read(INVITED, 20, all_of_it)
    assert [mesh.id for mesh in found.meshes] == ["None", "a", "b"]
    assert not found.complete
    assert found.error.code is Code.BAD_DATA
    assert len(rave.asked) == 3


@pytest.mark.parametrize("code", [Code.SERVER_ERROR, Code.NETWORK, Code.RATE_LIMITED, Code.TIMEOUT])
def test_what_was_read_before_a_failure_is_kept(run: Run, code: Code) -> None:
    rave = Rave(most=2, invited=6, friends=1)
    failure = RaveError(code, "it failed")
    rave.refuse = lambda _source, _size, cursor: failure if cursor == "4" else None
    found = rave.read(run, ALL)
    assert [mesh.id for mesh in found.meshes] == [f"invited-{n}" for n in range(4)]
    assert (found.complete, found.error) == (False, failure)
    assert rave.asked[-1][0] == "invited", "nothing else is asked of a server in trouble"


def test_a_list_that_is_refused_spoils_no_other(run: Run) -> None:
    rave = Rave(invited=1, friends=1, public=1)
    failure = RaveError(Code.FORBIDDEN, "no friends for you")
    rave.refuse = lambda source, *_: failure if source is FRIENDS else None
    found = rave.read(run, ALL)
    assert [mesh.id for mesh in found.meshes] == ["invited-0", "public-0"]
    assert (found.complete, found.error) == (False, failure)


@pytest.mark.parametrize("code", [Code.SERVER_ERROR, Code.FORBIDDEN, Code.UNAUTHORIZED, Code.CLOSED])
def test_when_nothing_can_be_read_the_first_failure_says_why(run: Run, code: Code) -> None:
    rave = Rave()
    rave.refuse = lambda source, *_: RaveError(code, f"no {source}")
    with pytest.raises(RaveError, match="no invited") as caught:
        rave.read(run, ALL)
    assert caught.value.code is code


@pytest.mark.parametrize("code", [Code.UNAUTHORIZED, Code.CLOSED])
def test_a_session_that_ends_in_between_is_an_error(run: Run, code: Code) -> None:
    rave = Rave(most=2, invited=6)
    rave.refuse = lambda _source, _size, cursor: RaveError(code, "over") if cursor else None
    with pytest.raises(RaveError, match="over"):
        rave.read(run, INVITED)


def test_a_failure_with_large_pages_is_one_like_any_other(run: Run) -> None:
    rave = Rave(invited=50)
    failure = RaveError(Code.SERVER_ERROR, "too much")
    rave.refuse = lambda _source, size, _cursor: failure if size > 20 else None
    found = rave.read(run, INVITED)
    assert (len(found.meshes), found.complete, found.error) == (20, False, failure)


def test_how_much_is_enough_is_asked_about_all_that_was_read(run: Run) -> None:
    seen: list[int] = []

    def enough(found: Collection[Mesh]) -> bool:
        seen.append(len(found))
        return False

    Rave(invited=150).read(run, INVITED, enough)
    assert seen == [20, 100]
