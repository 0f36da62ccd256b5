"""Who may do what: polkit decides (org.freedesktop.PolicyKit1.Authority), root may do everything."""

from __future__ import annotations

import asyncio
import pwd
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ravesvc.bus import Bus, Call, Variant
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.dbus.callers import Callers

_POLKIT = (
    "org.freedesktop.PolicyKit1",
    "/org/freedesktop/PolicyKit1/Authority",
    "org.freedesktop.PolicyKit1.Authority",
)
_ALLOW_USER_INTERACTION = 1
# A person may have to type a password.
_INTERACTIVE_TIMEOUT_S = 120.0
# Calls of polkit under way at once, in all and by one user. The bus lets us have 128: strangers together must not use
# them up, or root would have to wait, and one of them must leave some to the others.
_PROMPTS, _PROMPTS_PER_USER = 16, 4
_CHECKS, _CHECKS_PER_USER = 48, 12


class _Slots:
    """How many calls may be under way, in all and for one user. A caller who finds none free is refused at once."""

    def __init__(self, total: int, per_user: int) -> None:
        self._total = total
        self._per_user = per_user
        self._taken: Counter[int] = Counter()

    @contextmanager
    def taken(self, user: int) -> Iterator[None]:
        """Have one for the time of a block; raises `RaveError` (RateLimited) when none is free."""
        if self._taken[user] >= self._per_user:
            self._refuse("too many of your calls wait for polkit")
        if self._taken.total() >= self._total:
            self._refuse("too many callers wait for polkit")
        self._taken[user] += 1
        try:
            yield
        finally:
            self._taken[user] -= 1
            # Drops users that have none, of whom there may be any number in the course of time.
            self._taken = +self._taken

    def _refuse(self, why: str) -> None:
        raise RaveError(Code.RATE_LIMITED, why, hint="try again in a while")


class AccessCheck:
    """Passes or refuses a call. The subject is always the caller's bus name, which no other process can get."""

    def __init__(self, bus: Bus, callers: Callers) -> None:
        self._bus = bus
        self._callers = callers
        self._prompts = _Slots(_PROMPTS, _PROMPTS_PER_USER)
        self._checks = _Slots(_CHECKS, _CHECKS_PER_USER)

    async def __call__(self, call: Call, action: str | None) -> None:
        """Raise `RaveError` (AccessDenied) unless the caller has the right. A method without an action is refused."""
        if action is None:
            raise RaveError(Code.ACCESS_DENIED, f"{call.member} names no right that would allow it")
        user = await self._callers.user(call.sender)
        # A caller that has vanished gets nothing.
        if user == 0 or (user is not None and await self._allows(call, user, action)):
            return
        raise RaveError(
            Code.ACCESS_DENIED, f"{call.member} needs the right {action}", hint="try as root, or with sudo"
        )

    async def actor(self, call: Call) -> str:
        """Who calls, for people: the name of the user, or their number if they have none."""
        user = await self._callers.user(call.sender)
        if user is None:
            # Gone again, after having been let in.
            return "a caller who is gone"
        try:
            # A directory service may take its time.
            return (await asyncio.to_thread(pwd.getpwuid, user)).pw_name
        except KeyError:
            return f"user {user}"

    async def _allows(self, call: Call, user: int, action: str) -> bool:
        subject = ["system-bus-name", {"name": Variant("s", call.sender)}]
        flags = _ALLOW_USER_INTERACTION if call.interactive else 0
        slots = self._prompts if call.interactive else self._checks
        with slots.taken(user):
            try:
                (result,) = await self._bus.call(
                    *_POLKIT,
                    "CheckAuthorization",
                    "(sa{sv})sa{ss}us",
                    subject,
                    action,
                    {},
                    flags,
                    "",
                    timeout=_INTERACTIVE_TIMEOUT_S if call.interactive else 25.0,
                )
            except RaveError as e:
                hint = "is polkit installed and running? root may do it all the same"
                raise RaveError(Code.ACCESS_DENIED, f"polkit did not answer: {e.message}", hint=hint) from e
        return bool(result[0])
