"""Match rules: which signals reach which handler.

The daemon's filter is not enough: anybody may address a signal to us directly, past every rule. So each signal is
compared with the rules again, and with the sender's name above all: by its header, before its body is decoded. A
signal carries its sender's unique name; for a rule that names a well-known one, the name's owner is tracked in the
daemon's own order of events.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ravesvc.bus.header import Header
from ravesvc.bus.message import Message
from ravesvc.errors import RaveError

DAEMON = "org.freedesktop.DBus"
DAEMON_PATH = "/org/freedesktop/DBus"

_log = logging.getLogger(__name__)

_FIELD = re.compile(r"(\w+)='([^',]*)'(?:,|$)")
_KEYS = {"type", "sender", "interface", "member", "path", "path_namespace", "arg0", "arg0namespace"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalMessage:
    """A received signal; `sender` is a unique name, or that of the daemon. Descriptors in it are closed after it."""

    sender: str
    path: str
    interface: str
    member: str
    body: Sequence[Any]


Handler = Callable[[SignalMessage], None]
# Whether a signal with this header, in a frame of so many bytes, is worth to be decoded.
Accept = Callable[[Header, int], bool]


class MatchEntry(NamedTuple):
    """A rule, and whom it is for."""

    fields: dict[str, str]
    handler: Handler
    accept: Accept


def accept_all(header: Header, size: int) -> bool:
    """Have each signal that fits a rule decoded."""
    return True


def name_changes(name: str) -> str:
    """The rule for the daemon's NameOwnerChanged of a name."""
    source = f"sender='{DAEMON}',path='{DAEMON_PATH}',interface='{DAEMON}'"
    return f"type='signal',{source},member='NameOwnerChanged',arg0='{name}'"


def parse(rule: str) -> dict[str, str]:
    """The fields of a match rule for signals; ValueError for what is no rule or more than this module knows."""
    fields = dict(_FIELD.findall(rule))
    if _FIELD.sub("", rule) or fields.get("type") != "signal" or fields.keys() - _KEYS:
        raise ValueError(f"not a rule that signals can be matched by: {rule!r}")
    return fields


def fits_header(fields: dict[str, str], header: Header, sender: str) -> bool:
    """Whether a signal has what a rule asks for, arguments aside; `sender` is the unique name that it asks for."""
    return (
        fields.get("member", header.member) == header.member
        and fields.get("interface", header.interface) == header.interface
        and sender == header.sender
        and fields.get("path", header.path) == header.path
        and ("path_namespace" not in fields or _below(header.path, fields["path_namespace"].rstrip("/"), "/"))
    )


def fits(fields: dict[str, str], message: Message, sender: str) -> bool:
    """Whether a signal has all that a rule asks for, arguments included."""
    return (
        fits_header(fields, message, sender)
        and ("arg0" not in fields or _first(message) == fields["arg0"])
        and ("arg0namespace" not in fields or _below(_first(message), fields["arg0namespace"], "."))
    )


def _tells_owner(header: Header) -> bool:
    return header.sender == DAEMON and header.member == "NameOwnerChanged"


def _below(name: str, parent: str, separator: str) -> bool:
    return name == parent or name.startswith(parent + separator)


def _first(message: Message) -> str:
    """The first argument if it is a string, which is all that arg0 matches."""
    return message.body[0] if message.signature.startswith("s") else ""


class Matches:
    """The rules of one connection and their handlers. `ask` calls a method of the daemon with one string."""

    def __init__(self, ask: Callable[[str, str], Awaitable[list[Any]]]) -> None:
        self._ask = ask
        self._rules: list[MatchEntry] = []
        self._followed: Counter[str] = Counter()
        self._owners: dict[str, str] = {}

    async def add(self, rule: str, handler: Handler, accept: Accept = accept_all) -> Callable[[], Awaitable[None]]:
        """Have `handler` called for the signals that fit `rule` and are accepted; returns what ends that."""
        entry = MatchEntry(parse(rule), handler, accept)
        sender = entry.fields.get("sender", ":")
        name = "" if sender.startswith(":") or sender == DAEMON else sender

        async def remove() -> None:
            self._drop(entry)
            await self._forget(rule)
            await self._unfollow(name)

        await self._follow(name)
        self._rules.append(entry)
        try:
            await self._ask("AddMatch", rule)
        except BaseException:
            self._drop(entry)
            await self._unfollow(name)
            raise
        return remove

    def wanted(self, header: Header, size: int) -> list[MatchEntry] | None:
        """The rules that a signal, in a frame of `size` bytes, fits as far as its header tells, and that accept it.

        None for one that is of no use. `accept` may count what it sees: it is asked here alone, once for a signal.
        """
        entries = [
            entry
            for entry in self._rules
            if fits_header(entry.fields, header, self._sender_of(entry.fields, header)) and entry.accept(header, size)
        ]
        return entries if entries or _tells_owner(header) else None

    def dispatch(self, message: Message, entries: Sequence[MatchEntry]) -> None:
        """Hand a signal to those that `wanted` it and whose rule it fits as a whole.

        Their exceptions are logged and go no further.
        """
        if _tells_owner(message):
            name, _, owner = message.body
            if name in self._followed:
                self._owners[name] = owner
        signal = SignalMessage(
            sender=message.sender,
            path=message.path,
            interface=message.interface,
            member=message.member,
            body=message.body,
        )
        for entry in entries:
            if fits(entry.fields, message, self._sender_of(entry.fields, message)):
                try:
                    entry.handler(signal)
                except Exception:  # noqa: BLE001 - one handler's bug must not reach the others, or the connection
                    _log.exception("the handler of the signal %s failed", message.member)

    def _sender_of(self, fields: dict[str, str], header: Header) -> str:
        """The unique name of the sender that a rule asks for: any, or the owner of a well-known name by now."""
        named = fields.get("sender", header.sender)
        return self._owners.get(named, named)

    async def _follow(self, name: str) -> None:
        """Know the owner of a well-known name from now on (the daemon counts how often a rule was added)."""
        if not name:
            return
        self._followed[name] += 1
        try:
            await self._ask("AddMatch", name_changes(name))
        except BaseException:
            self._release(name)
            raise
        try:
            owner = await self._owner(name)
        except BaseException:
            await self._unfollow(name)
            raise
        # A change that was announced meanwhile is at least as new as this answer.
        self._owners.setdefault(name, owner)

    async def _owner(self, name: str) -> str:
        try:
            (owner,) = await self._ask("GetNameOwner", name)
        except RaveError as e:
            if e.attributes.get("error_name") == "org.freedesktop.DBus.Error.NameHasNoOwner":
                return ""
            raise
        return str(owner)

    async def _unfollow(self, name: str) -> None:
        if name:
            self._release(name)
            await self._forget(name_changes(name))

    def _release(self, name: str) -> None:
        self._followed[name] -= 1
        if not self._followed[name]:
            del self._followed[name]
            self._owners.pop(name, None)

    def _drop(self, entry: MatchEntry) -> None:
        # By identity: the same rule and handler may be there twice.
        self._rules = [each for each in self._rules if each is not entry]

    async def _forget(self, rule: str) -> None:
        try:
            await self._ask("RemoveMatch", rule)
        except RaveError as e:
            _log.debug("could not take back a match rule: %s", e)
