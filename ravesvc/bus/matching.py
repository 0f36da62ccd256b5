"""Match rules: which signals reach which handler.

The daemon's filter is not enough: any connection may address a signal to us directly, past every rule. So each signal
is compared with the rules again, its sender above all: by its header, before its body is decoded. A signal has its
sender's unique name. For a rule with a well-known name, the owner of that name is tracked in the order in which the
daemon announces changes.
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
# Whether to decode a signal with this header, in a frame of this many bytes.
Accept = Callable[[Header, int], bool]


class MatchEntry(NamedTuple):
    """A rule and its handler."""

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
    """The fields of a match rule for signals; ValueError for an invalid rule, or a key that this module lacks."""
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
        and ("arg0" not in fields or _first_argument(message) == fields["arg0"])
        and ("arg0namespace" not in fields or _below(_first_argument(message), fields["arg0namespace"], "."))
    )


def _is_owner_change(header: Header) -> bool:
    return header.sender == DAEMON and header.member == "NameOwnerChanged"


def _below(name: str, parent: str, separator: str) -> bool:
    return name == parent or name.startswith(parent + separator)


def _first_argument(message: Message) -> str:
    """The first argument if it is a string, which is all that arg0 matches."""
    return message.body[0] if message.signature.startswith("s") else ""


class Matches:
    """The rules of one connection and their handlers. `ask` calls a method of the daemon with one string."""

    def __init__(self, ask: Callable[[str, str], Awaitable[list[Any]]]) -> None:
        self._call_daemon = ask
        self._rules: list[MatchEntry] = []
        self._tracked: Counter[str] = Counter()
        self._owners: dict[str, str] = {}

    async def add(self, rule: str, handler: Handler, accept: Accept = accept_all) -> Callable[[], Awaitable[None]]:
        """Call `handler` for the signals that fit `rule` and are accepted; returns a function that ends it."""
        entry = MatchEntry(parse(rule), handler, accept)
        sender = entry.fields.get("sender", ":")
        name = "" if sender.startswith(":") or sender == DAEMON else sender

        async def remove() -> None:
            self._remove_entry(entry)
            await self._remove_match(rule)
            await self._untrack_owner(name)

        await self._track_owner(name)
        self._rules.append(entry)
        try:
            await self._call_daemon("AddMatch", rule)
        except BaseException:
            self._remove_entry(entry)
            await self._untrack_owner(name)
            raise
        return remove

    def candidates(self, header: Header, size: int) -> list[MatchEntry] | None:
        """The rules that a signal's header fits and that accept the signal; `size` is that of its frame in bytes.

        None if the signal is of no use. `accept` may count its calls: it is called here alone, once for a signal.
        """
        entries = [
            entry
            for entry in self._rules
            if fits_header(entry.fields, header, self._sender_of(entry.fields, header)) and entry.accept(header, size)
        ]
        return entries if entries or _is_owner_change(header) else None

    def dispatch(self, message: Message, entries: Sequence[MatchEntry]) -> None:
        """Call the handlers of those `candidates` whose rule the whole signal fits.

        Their exceptions are logged and go no further.
        """
        if _is_owner_change(message):
            name, _, owner = message.body
            if name in self._tracked:
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
        """The unique name of the sender that a rule asks for; the signal's own sender if it asks for none."""
        named = fields.get("sender", header.sender)
        return self._owners.get(named, named)

    async def _track_owner(self, name: str) -> None:
        """Keep the owner of a well-known name from now on.

        The daemon counts how often a rule was added, so several matches may track one name.
        """
        if not name:
            return
        self._tracked[name] += 1
        try:
            await self._call_daemon("AddMatch", name_changes(name))
        except BaseException:
            self._release(name)
            raise
        try:
            owner = await self._get_owner(name)
        except BaseException:
            await self._untrack_owner(name)
            raise
        # NameOwnerChanged may have come before this answer, and is then at least as new: it stays.
        self._owners.setdefault(name, owner)

    async def _get_owner(self, name: str) -> str:
        try:
            (owner,) = await self._call_daemon("GetNameOwner", name)
        except RaveError as e:
            if e.attributes.get("error_name") == "org.freedesktop.DBus.Error.NameHasNoOwner":
                return ""
            raise
        return str(owner)

    async def _untrack_owner(self, name: str) -> None:
        if name:
            self._release(name)
            await self._remove_match(name_changes(name))

    def _release(self, name: str) -> None:
        self._tracked[name] -= 1
        if not self._tracked[name]:
            del self._tracked[name]
            self._owners.pop(name, None)

    def _remove_entry(self, entry: MatchEntry) -> None:
        # By identity: the same rule and handler may be there twice.
        self._rules = [each for each in self._rules if each is not entry]

    async def _remove_match(self, rule: str) -> None:
        try:
            await self._call_daemon("RemoveMatch", rule)
        except RaveError as e:
            _log.debug("could not take back a match rule: %s", e)
