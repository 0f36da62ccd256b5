"""Why a bot is in its mesh no more, and the two ways in which it leaves by itself: on an admin's order, or alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ravesvc.api.client import Api
from ravesvc.errors import RaveError
from ravesvc.mesh.solitude import Solitude
from ravesvc.names import ExitStatus
from ravesvc.room.room import Room

_log = logging.getLogger(__name__)


class Departure:
    """Keeps the first reason for which the bot is in its mesh no more.

    Several can come within moments: an admin kicks the bot while it leaves, and the server closes the connection. The
    parent acts on the exit status, so a later and weaker reason must not replace the first.

    Attributes:
        exit_status: with which the worker has to end; None while there is no such reason.
        left: set when the bot has left by itself.
    """

    def __init__(self, api: Api, mesh: str, leave_when_alone_s: float, emit: Callable[..., None]) -> None:
        """`emit(signal, *arguments)` sends a signal to the parent; `leave_when_alone_s` 0 means never."""
        self.exit_status: ExitStatus | None = None
        self.left = asyncio.Event()
        self._api = api
        self._mesh = mesh
        self._emit = emit
        self._solitude = Solitude(leave_when_alone_s)
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None

    def set_exit_status(self, status: ExitStatus, signal: str, *args: str) -> None:
        """Send the parent the signal that says why the bot is in its mesh no more, unless it has had another."""
        if self.exit_status is None:
            self.exit_status = status
            self._emit(signal, *args)

    async def leave_on_order(self) -> None:
        """Leave the mesh for good. Raises `RaveError` when Rave refuses; then the bot stays."""
        try:
            await self._api.leave(self._mesh)
        finally:
            self._api.drop_idle()
        _log.info("The bot has left the mesh, as an admin has ordered")
        self.set_exit_status(ExitStatus.LEFT, "Left", "an admin said so")
        self.left.set()

    def watch_company(self, room: Room | None) -> None:
        """Look at the users in the room, and schedule the departure when the bot is the only one.

        Without a connection (`room` None) users may come unseen, so the bot does not leave then. The next connection
        shows who is there, and the time alone counts on from its beginning.
        """
        self._cancel_timer()
        if room is None:
            return
        loop = asyncio.get_running_loop()
        # Other devices of our account are no company.
        self._solitude.look(len(room.users - {room.own_user_id}), loop.time())
        if self._solitude.leave_at is not None:
            self._timer = loop.call_at(self._solitude.leave_at, self._start_leaving_alone)

    async def close(self) -> None:
        """Leave no more."""
        self._cancel_timer()
        if self._leaving:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _start_leaving_alone(self) -> None:
        self._leaving = asyncio.create_task(self._leave_alone())

    async def _leave_alone(self) -> None:
        """Leave the empty room, but keep the invitation, with which the bot comes back when there is company."""
        try:
            await self._api.depart(self._mesh)
        except RaveError as e:
            # The server sees us leave by the end of the connection all the same.
            _log.warning("The bot could not tell Rave that it leaves: %s", e)
        finally:
            self._api.drop_idle()
        _log.info("The bot has left the mesh, because it was alone there")
        self.set_exit_status(ExitStatus.ALONE, "Left", "it was alone there")
        self.left.set()
