"""One login, as ravectl requests and follows it."""

from __future__ import annotations

import asyncio

from ravesvc import names
from ravesvc.ctl.client import Service, service_error
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.interrupt import interrupting
from ravesvc.ctl.ui.progress import Lines, Spinner
from ravesvc.errors import RaveError

# The step that every login begins with.
_FIRST = "sending"
_REDRAW_S = 0.2
# The time in which a login that was cancelled has to end.
_CANCEL_TIMEOUT_S = 5.0
# The steps in words. Only the wait for the link in the mail has a time limit.
_WORDS = {_FIRST: "Sending the mail", "waiting": "Follow the link in the mail", "signing-in": "Signing in"}
_TIMED = "waiting"


class SignIn:
    """One login, from the request to the end."""

    def __init__(self, service: Service, display: Lines | Spinner) -> None:
        self._service = service
        self._display = display
        # There is one login at a time: signals before ours has begun are about another one.
        self._begun = False
        self._answered = False
        self._over: asyncio.Future[RaveError | None]

    async def run(self, email: str) -> Exit:
        """Log in; raises `RaveError` for what made it fail. SIGINT, SIGTERM and SIGHUP cancel it."""
        self._over = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task
        with interrupting(task):
            try:
                await self._log_in(email)
            except asyncio.CancelledError:
                task.uncancel()
                return await self._cancel()
        output.print_line("Logged in.")
        return Exit.OK

    async def _log_in(self, email: str) -> None:
        drawing = asyncio.create_task(self._draw())
        try:
            # Before the call, or the first steps might be missed.
            await self._service.on_signal("LoginProgress", self._progress, interface=names.ACCOUNT_INTERFACE)
            await self._service.on_signal("LoginFinished", self._finished, interface=names.ACCOUNT_INTERFACE)
            await self._service.on_end(self._end)
            await self._service.ask("Login", "s", email, interface=names.ACCOUNT_INTERFACE)
            self._begun = self._answered = True
            await asyncio.wait([self._over])
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
            self._display.end()
        if error := self._over.result():
            raise error

    async def _cancel(self) -> Exit:
        if self._begun:
            try:
                await self._service.ask("CancelLogin", interface=names.ACCOUNT_INTERFACE)
            except RaveError as e:
                output.print_failure(RaveError(e.code, f"the login could not be cancelled: {e.message}", hint=e.hint))
                return Exit.INTERRUPTED
            # The login may have succeeded before the cancellation.
            await asyncio.wait([self._over], timeout=_CANCEL_TIMEOUT_S)
            if self._over.done() and self._over.result() is None:
                output.print_line("Logged in: it was too late to cancel that.")
                return Exit.OK
        output.print_error("the login is cancelled")
        return Exit.INTERRUPTED

    async def _draw(self) -> None:
        while True:
            await asyncio.sleep(_REDRAW_S)
            self._display.draw()

    def _progress(self, step: str, seconds: int) -> None:
        if step == _FIRST and not self._answered:
            self._begun, self._over = True, asyncio.get_running_loop().create_future()
        if self._begun and not self._over.done():
            self._display.show(_WORDS.get(step, step), seconds if step == _TIMED else None)

    def _finished(self, code: str, message: str) -> None:
        self._end(service_error(code, message) if code else None)

    def _end(self, error: RaveError | None) -> None:
        if not self._over.done():
            self._over.set_result(error)
