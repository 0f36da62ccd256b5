"""Reading lists of meshes page by page: as much as is needed, and as much as can be read. No HTTP.

A list may be short, long, endless, or break off. What was read of it is kept in any case, and says whether it is all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

from ravesvc.api.models import Listing, Mesh, MeshMode
from ravesvc.errors import Code, RaveError

# Reads a page of a source, with so many meshes at most, from a cursor on; the other one is that of the next page.
ReadPage = Callable[[MeshMode, int, str | None], Awaitable[tuple[list[Mesh], str | None]]]
# Whether what was read so far is all that is wanted.
Enough = Callable[[Collection[Mesh]], bool]

# Between two requests. Rave has rate limits that are not published.
REQUEST_SPACING_S = 0.5
# Of one source. A longer list is cut off.
MAX_PAGES = 100
# The page size for a long list.
LARGE_PAGE_MESHES = 100

# What the account is invited to comes first, because it may be enough.
_SOURCES = {MeshMode.ALL: (MeshMode.INVITED, MeshMode.FRIENDS, MeshMode.PUBLIC)}
# These say something of one list; after any other failure the next list would fail as well.
_OF_THE_LIST = frozenset({Code.BAD_REQUEST, Code.FORBIDDEN, Code.NOT_FOUND, Code.REFUSED, Code.BAD_DATA})
# These leave nothing to go on with.
_OF_US = frozenset({Code.UNAUTHORIZED, Code.CLOSED})


def all_of_it(_found: Collection[Mesh]) -> bool:
    """Nothing less is enough."""
    return False


class _End(Enum):
    """Why reading a list has ended."""

    LAST_PAGE = "last page"
    ENOUGH = "enough"
    TOO_LONG = "too long"


@dataclass(slots=True)
class _ListedMeshes:
    """What was read so far."""

    meshes: dict[str, Mesh] = field(default_factory=dict)
    pages: int = 0
    error: RaveError | None = None
    note: str = ""

    def add(self, meshes: Iterable[Mesh]) -> None:
        self.pages += 1
        for mesh in meshes:
            self.meshes.setdefault(mesh.id, mesh)

    def listing(self, *, complete: bool) -> Listing:
        return Listing(tuple(self.meshes.values()), complete=complete, error=self.error, note=self.note)


class ListReader:
    """Reads lists, and remembers which of them are long enough for large pages.

    Attributes:
        page: reads one page.
    """

    def __init__(self, page: ReadPage, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.page = page
        self._sleep = sleep
        self._long: set[MeshMode] = set()
        # Whose server wants no large pages.
        self._small: set[MeshMode] = set()

    async def read(self, mode: MeshMode, limit: int, enough: Enough) -> Listing:
        """The meshes of `mode`, each once, until they are `enough`, or there are no more.

        `limit` is the size of a page as long as the list is not longer. Raises the `RaveError` that kept us from
        reading anything; one that came later is in the listing, beside what was read before it.
        """
        found = _ListedMeshes()
        sources = _SOURCES.get(mode, (mode,))
        for position, source in enumerate(sources):
            if position:
                if enough(found.meshes.values()):
                    return found.listing(complete=False)
                await self._sleep(REQUEST_SPACING_S)
            try:
                end = await self._source(source, limit, found, enough)
            except RaveError as e:
                if e.code in _OF_US:
                    raise
                found.error = found.error or e
                if e.code not in _OF_THE_LIST:
                    break
                continue
            if end is _End.ENOUGH:
                return found.listing(complete=False)
            if end is _End.TOO_LONG:
                found.note = f"the list of {source} meshes has more than {MAX_PAGES} pages, of which these were read"
        if found.error and not found.pages:
            raise found.error
        return found.listing(complete=not found.error and not found.note)

    async def _source(self, source: MeshMode, limit: int, found: _ListedMeshes, enough: Enough) -> _End:
        """Read one list, page by page with a pause between them; what is read goes to `found` at once."""
        size, meshes, cursor = await self._first_page(source, limit)
        found.add(meshes)
        full = len(meshes) >= size
        if (
            cursor
            and full
            and size < LARGE_PAGE_MESHES
            and source not in self._small
            and not enough(found.meshes.values())
        ):
            # From the beginning, because a cursor may count pages of one size.
            self._long.add(source)
            await self._sleep(REQUEST_SPACING_S)
            size, meshes, cursor = await self._first_page(source, limit)
            found.add(meshes)
        cursors: set[str] = set()
        while cursor is not None:
            if enough(found.meshes.values()):
                return _End.ENOUGH
            if cursor in cursors:
                what = f"reading the list of {source} meshes failed: it comes back to a page it had already"
                raise RaveError(Code.BAD_DATA, what)
            cursors.add(cursor)
            if len(cursors) >= MAX_PAGES:
                return _End.TOO_LONG
            await self._sleep(REQUEST_SPACING_S)
            meshes, cursor = await self.page(source, size, cursor)
            found.add(meshes)
        return _End.LAST_PAGE

    async def _first_page(self, source: MeshMode, limit: int) -> tuple[int, list[Mesh], str | None]:
        """The size that was asked for, and the page: a large one if the list was long, and the server has those."""
        if source in self._long:
            size = max(limit, LARGE_PAGE_MESHES)
            try:
                meshes, cursor = await self.page(source, size, None)
            except RaveError as e:
                self._long.discard(source)
                if e.code not in _OF_THE_LIST:
                    raise
                self._small.add(source)
                await self._sleep(REQUEST_SPACING_S)
            else:
                if cursor is None and len(meshes) <= limit:
                    self._long.discard(source)
                return size, meshes, cursor
        meshes, cursor = await self.page(source, limit, None)
        return limit, meshes, cursor
