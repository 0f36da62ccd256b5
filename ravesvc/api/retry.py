"""Trying again what failed in a way that may pass."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ravesvc.common import backoff
from ravesvc.errors import RaveError

_log = logging.getLogger(__name__)

T = TypeVar("T")

# After this many attempts, or after this time, the last error is raised.
ATTEMPTS = 4
RETRY_TIMEOUT_S = 60.0


async def repeat(
    what: str,
    attempt: Callable[[], Awaitable[T]],
    may_repeat: Callable[[RaveError], bool],
    sleep: Callable[[float], Awaitable[None]],
    rng: Callable[[], float],
    failed: Callable[[str], None] = lambda _text: None,
) -> T:
    """What the first `attempt` that succeeds returns; raises the `RaveError` of the last one, which `what` begins.

    Between two attempts are growing pauses, plus what the error's attribute `retry_after` asks for. Before each pause
    `failed` is told why there is one, and how long it is, in a sentence.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RETRY_TIMEOUT_S
    pauses = itertools.islice(backoff.delays(1.0, 8.0, rng), ATTEMPTS - 1)
    while True:
        try:
            return await attempt()
        except RaveError as e:
            error = RaveError(e.code, f"{what} failed: {e.message}", hint=e.hint, **e.attributes)
        pause = next(pauses, math.inf) + float(error.attributes.get("retry_after", 0))
        if loop.time() + pause > deadline or not may_repeat(error):
            raise error
        failed(f"{error.message}; next attempt in {pause:.0f} s")
        _log.debug("trying again in %.1f s: %s", pause, error)
        await sleep(pause)
