"""`ravectl status --watch`: the table on a screen of its own, as long as the user looks at it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from ravesvc.ctl.client import Service
from ravesvc.ctl.operations import status_view
from ravesvc.ctl.operations.status_page import StatusPage, page
from ravesvc.ctl.operations.status_view import StatusFacts
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.interrupt import interrupting
from ravesvc.ctl.ui.screen import Key, Screen
from ravesvc.errors import RaveError

# Changes within the pause are drawn together; without any, the interval updates the times.
_REDRAW_PAUSE_S, _REDRAW_INTERVAL_S = 0.5, 5.0
# SGR parameter of ECMA-48: reverse.
_FOOTER_COLOUR = "7"


class WatchRun:
    """One look at the table, from its first drawing to its end.

    Args:
        look: asks the service for what there is to show.
    """

    def __init__(self, service: Service, look: Callable[[], Awaitable[StatusFacts]]) -> None:
        self._service = service
        self._look = look
        self._screen = Screen(self._press, self._redraw)
        self._top = 0
        self._page: StatusPage
        self._facts: StatusFacts
        # The widths of the columns that were drawn last, and of the screen.
        self._widths: Sequence[int] = ()
        self._cells = 0
        # Set when there is news to ask for, and when what is drawn is out of date.
        self._changed: asyncio.Event
        self._stale: asyncio.Event
        self._over: asyncio.Future[RaveError | None]

    async def run(self) -> None:
        """Draw until the user quits; raises `RaveError` when the service can't be asked, or goes away."""
        self._changed, self._stale = asyncio.Event(), asyncio.Event()
        self._over = asyncio.get_running_loop().create_future()
        await self._service.on_change(self._changed.set)
        await self._service.on_end(self._end)
        self._facts = await self._look()
        task = asyncio.current_task()
        assert task
        with interrupting(task), self._screen:
            refreshing = asyncio.create_task(self._refresh())
            refreshing.add_done_callback(lambda _: self._redraw())
            try:
                while not self._over.done() and not refreshing.done():
                    self._stale.clear()
                    self._draw()
                    await self._stale.wait()
            finally:
                refreshing.cancel()
                (failure,) = await asyncio.gather(refreshing, return_exceptions=True)
        # When it is over it was cancelled.
        if error := self._over.result() if self._over.done() else failure:
            raise error

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(_REDRAW_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REDRAW_INTERVAL_S):
                    await self._changed.wait()
            self._changed.clear()
            self._facts = await self._look()
            self._redraw()

    def _redraw(self) -> None:
        """Have all drawn again, by the task that `run` belongs to: a failure ends that."""
        self._stale.set()

    def _draw(self) -> None:
        cells = self._lay_out()
        lines = [(line, status_view.colours(line)) for line in self._page.lines]
        output.draw_screen([*lines, ([self._page.footer], {0: _FOOTER_COLOUR})], cells)

    def _lay_out(self) -> int:
        """Make the page for the screen as it is now; returns the cells of a line."""
        cells, rows = self._screen.size()
        # Columns stay where they are until the screen has another width.
        view = status_view.for_terminal(self._facts, cells, self._widths if cells == self._cells else ())
        self._cells, self._widths = cells, view.widths()
        self._page = page(view, rows, self._top, "q quits" if self._screen.has_keys else "Ctrl-C quits")
        self._top = self._page.top
        return cells

    def _press(self, key: Key) -> None:
        match key:
            case Key.UP:
                self._top -= 1
            case Key.DOWN:
                self._top += 1
            case Key.PAGE_UP:
                self._top -= max(1, self._page.shown)
            case Key.PAGE_DOWN:
                self._top += max(1, self._page.shown)
            case Key.HOME:
                self._top = 0
            case Key.END:
                self._top = len(self._facts.meshes)
            case Key.QUIT:
                self._end(None)
        # The next key, which may come before all is drawn, goes on from where this one has led.
        self._lay_out()
        self._redraw()

    def _end(self, error: RaveError | None) -> None:
        if not self._over.done():
            self._over.set_result(error)
        self._redraw()
