"""Who may do what: polkit decides (org.freedesktop.PolicyKit1.Authority), root needs nobody's leave."""

from __future__ import annotations

import asyncio
import pwd

from ravesvc.bus import Bus, Call, Variant
from ravesvc.errors import Code, RaveError

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_POLKIT = (
    "org.freedesktop.PolicyKit1",
    "/org/freedesktop/PolicyKit1/Authority",
    "org.freedesktop.PolicyKit1.Authority",
)
_ALLOW_USER_INTERACTION = 1
# A person may have to type a password.
_INTERACTIVE_TIMEOUT = 120.0
# Strangers must not use up the calls that the bus lets us have under way, or root would have to wait for them.
_PROMPTS_AT_ONCE = 8
_CHECKS_AT_ONCE = 32


class Authority:
    """Passes or refuses a call. The subject is always the caller's bus name, which nobody can take over."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._prompts = asyncio.Semaphore(_PROMPTS_AT_ONCE)
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)

    async def __call__(self, call: Call, action: str | None) -> None:
        """Raise `RaveError` (AccessDenied) unless the caller has the right. A method without an action is refused."""
        if action is None:
            raise RaveError(Code.ACCESS_DENIED, f"{call.member} names no right that would allow it")
        if await self._is_root(call) or await self._allows(call, action):
            return
        raise RaveError(
            Code.ACCESS_DENIED, f"{call.member} needs the right {action}", hint="try as root, or with sudo"
        )

    async def actor(self, call: Call) -> str:
        """Who calls, for people: the name of the user, or their number if they have none."""
        user = await self._user(call)
        if user is None:
            # Gone again, after having been let in.
            return "somebody"
        try:
            # A directory service may take its time.
            return (await asyncio.to_thread(pwd.getpwuid, user)).pw_name
        except KeyError:
            return f"user {user}"

    async def _is_root(self, call: Call) -> bool:
        # A caller that has vanished gets nothing.
        return await self._user(call) == 0

    async def _user(self, call: Call) -> int | None:
        try:
            (user,) = await self._bus.call(*_BUS, "GetConnectionUnixUser", "s", call.sender)
        except RaveError:
            return None
        return int(user)

    async def _allows(self, call: Call, action: str) -> bool:
        subject = ["system-bus-name", {"name": Variant("s", call.sender)}]
        flags = _ALLOW_USER_INTERACTION if call.interactive else 0
        slots = self._prompts if call.interactive else self._checks
        if slots.locked():
            raise RaveError(Code.RATE_LIMITED, "too many callers wait for polkit", hint="try again in a while")
        try:
            async with slots:
                (result,) = await self._bus.call(
                    *_POLKIT,
                    "CheckAuthorization",
                    "(sa{sv})sa{ss}us",
                    subject,
                    action,
                    {},
                    flags,
                    "",
                    timeout=_INTERACTIVE_TIMEOUT if call.interactive else 25.0,
                )
        except RaveError as e:
            hint = "is polkit installed and running? root may do it all the same"
            raise RaveError(Code.ACCESS_DENIED, f"polkit did not answer: {e.message}", hint=hint) from e
        return bool(result[0])
