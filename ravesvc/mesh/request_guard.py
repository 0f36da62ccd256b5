"""Guards the requests that a bot in its room makes to Rave, for names of users and for its commands."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator

from ravesvc.api import failures
from ravesvc.api.client import Api
from ravesvc.errors import Code, RaveError

# A connection waits so long for the next request, because a video is registered and then voted for. No longer,
# because most bots ask nothing for hours, and an idle connection of each would burden Rave and this machine.
_IDLE_S = 5.0


class RequestGuard:
    """Keeps the pauses that Rave asks for.

    A pause after one kind of request holds for all kinds, and by `on_pause` for all bots of the account.
    """

    def __init__(
        self,
        api: Api,
        host: str,
        on_pause: Callable[[str, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host` is the one that `api` asks; `on_pause(host, seconds)` is called for each new pause."""
        self._api = api
        self._host = host
        self._on_pause = on_pause
        self._clock = clock
        self._quiet_until = -math.inf
        self._idle: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A context in which to make a request. Raises `RaveError` (RateLimited) during a pause."""
        if (left := self._quiet_until - self._clock()) > 0:
            text = failures.pause_words(self._host, left)
            raise RaveError(Code.RATE_LIMITED, text, retry_after=math.ceil(left))
        try:
            yield
        except RaveError as e:
            if asked := failures.pause(e):
                self._pause(asked)
            raise
        finally:
            self.close()
            self._idle = asyncio.get_running_loop().call_later(_IDLE_S, self._api.drop_idle)

    def _pause(self, seconds: float) -> None:
        until = self._clock() + seconds
        # Rave refuses all requests that are under way. The orchestrator takes 32 signals of a bot at once and one a
        # second from then on: if we sent one for each refusal, it would drop the signal of a lost connection.
        if until >= self._quiet_until + 1:
            self._quiet_until = until
            self._on_pause(self._host, max(1, round(seconds)))

    def close(self) -> None:
        """Keep the connection open for no further request."""
        if self._idle:
            self._idle.cancel()
            self._idle = None
