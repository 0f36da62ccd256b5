"""Around what a bot in its room asks of Rave: names of users, and what its commands want."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator

from ravesvc.api import failures
from ravesvc.api.client import Api
from ravesvc.errors import Code, RaveError

# Seconds for which a connection waits for the next request: a video is registered and then voted for. No longer:
# mostly a bot asks nothing for hours, and an idle connection of each would burden both sides.
_IDLE_S = 5.0


class RequestGuard:
    """Keeps the pauses that Rave asks for, and tells `on_pause` of each: the host and the seconds.

    They concern all bots of the account; and commands must not go on asking what the look-up of names may not.
    """

    def __init__(
        self,
        api: Api,
        host: str,
        on_pause: Callable[[str, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host` is the one that `api` asks."""
        self._api = api
        self._host = host
        self._on_pause = on_pause
        self._clock = clock
        self._quiet_until = -math.inf
        self._idle: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around a request; raises `RaveError` (RateLimited) during a pause."""
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
        # Commands that ran at the same time are all refused. The orchestrator takes 32 signals of a bot at once and
        # one a second from then on; if it were told of each, it would miss that the bot has lost its connection.
        if until >= self._quiet_until + 1:
            self._quiet_until = until
            self._on_pause(self._host, max(1, round(seconds)))

    def close(self) -> None:
        """Wait for no next request."""
        if self._idle:
            self._idle.cancel()
            self._idle = None
