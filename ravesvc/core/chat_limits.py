"""How much admins may change from rooms, and who of them: a bot that was taken over speaks for those in its room."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ravesvc.common.translation import gettext as _
from ravesvc.config.options import OWNERS
from ravesvc.errors import Code, RaveError

_HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRules:
    """The options with these names, see rave.yaml(5)."""

    admins_by_chat: str
    hourly_changes_per_mesh: int
    hourly_changes: int

    @property
    def owners_alone(self) -> bool:
        """Whether only owners make and remove admins from a room."""
        return self.admins_by_chat == OWNERS


class ChangeLimit:
    """Counts the changes of the last hour, of each mesh and of all."""

    def __init__(
        self,
        rules: ChatRules,
        earlier: Callable[[], Iterable[tuple[float, str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with those of the process before this one, so that an end of the service gives no new allowance.

        `earlier` is asked for them at the first change: how many seconds ago, the longest first, and from which mesh.
        `clock` is in monotonic seconds.
        """
        self.rules = rules
        self._earlier: Callable[[], Iterable[tuple[float, str]]] | None = earlier
        self._clock = clock
        # When, and from which mesh; the latest last.
        self._changes: deque[tuple[float, str]] = deque()

    def take(self, mesh: str) -> None:
        """Count a change, whether it succeeds or not. Raises `RaveError`: RateLimited, in words for the chat."""
        now = self._clock()
        if self._earlier:
            self._changes.extend((now - ago, where) for ago, where in self._earlier())
            self._earlier = None
        while self._changes and now - self._changes[0][0] >= _HOUR_S:
            self._changes.popleft()
        here = [at for at, where in self._changes if where == mesh]
        if len(here) >= self.rules.hourly_changes_per_mesh:
            raise _too_often(_("admins have changed as much from this room as they may"), here[0] + _HOUR_S - now)
        if len(self._changes) >= self.rules.hourly_changes:
            wait = self._changes[0][0] + _HOUR_S - now
            raise _too_often(_("admins have changed as much from all rooms as they may"), wait)
        self._changes.append((now, mesh))


def _too_often(text: str, wait: float) -> RaveError:
    hint = _("try again in {n} min, or ask an operator", n=math.ceil(wait / 60))
    return RaveError(Code.RATE_LIMITED, text, hint=hint)
