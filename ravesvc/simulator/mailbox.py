"""The mails with magic links: what was sent, whether a link was followed, and what proves it. No I/O, no waiting."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ravesvc.errors import Code, RaveError
from ravesvc.simulator.events import EventLog
from ravesvc.simulator.fault_options import FaultOptions


@dataclass(slots=True)
class Mail:
    """A mail. `polls` is how often was asked for it, `told` whether an answer has said that it was followed."""

    email: str = field(repr=False)
    sent_at: float
    state_id: str = field(repr=False)
    id_token: str = field(repr=False)
    polls: int = 0
    followed: bool = False
    told: bool = False


class Mailbox:
    """All mails, by the id under which one asks for them. Addresses are in lower case."""

    def __init__(self, options: FaultOptions, log: EventLog, clock: Callable[[], float]) -> None:
        self._options = options
        self._log = log
        self._clock = clock
        self._mails: dict[str, Mail] = {}

    def send(self, email: str) -> Mail:
        """Send a mail."""
        # What proves that a link was followed has the form of a JSON Web Token.
        id_token = ".".join(secrets.token_urlsafe(length) for length in (24, 300, 256))
        mail = Mail(email.lower(), self._clock(), f"st_{secrets.token_hex(8)}", id_token)
        self._mails[mail.state_id] = mail
        self._log.record("mail")
        return mail

    def poll(self, state_id: str) -> Mail:
        """Ask for a mail; raises `RaveError`: NotFound, NotConfirmed when its link is good no longer."""
        mail = self._mails.get(state_id)
        if mail is None:
            raise RaveError(Code.NOT_FOUND, "no such mail")
        mail.polls += 1
        self._log.record("polled", polls=mail.polls)
        if self._waits(mail) and mail.polls > self._options.confirm:
            self._follow(mail)
        if not mail.followed and self._is_old(mail):
            raise RaveError(Code.NOT_CONFIRMED, "the link is good no longer")
        return mail

    def follow(self, email: str | None) -> None:
        """Follow the link of the latest mail that waits, to this address or any; raises `RaveError` (NotFound)."""
        for mail in reversed(self._mails.values()):
            if self._waits(mail) and email in (None, mail.email):
                self._follow(mail)
                return
        raise RaveError(Code.NOT_FOUND, "no mail waits", hint="rave-simulator wait --mail")

    def proven(self, id_token: str) -> str | None:
        """The address that a token was given out for, or None."""
        for mail in self._mails.values():
            if mail.followed and secrets.compare_digest(mail.id_token.encode(), id_token.encode()):
                return mail.email
        return None

    @property
    def waiting(self) -> bool:
        """Whether there is a mail whose link can be followed."""
        return any(self._waits(mail) for mail in self._mails.values())

    @property
    def polls(self) -> int:
        """How often was asked for the latest mail."""
        return next((mail.polls for mail in reversed(self._mails.values())), 0)

    def to_json(self) -> dict[str, Any]:
        """For the control API: how many were `sent`, whether one is `waiting`, the `polls` for the latest."""
        return {"sent": len(self._mails), "waiting": self.waiting, "polls": self.polls}

    def _follow(self, mail: Mail) -> None:
        mail.followed = True
        self._log.record("followed")

    def _waits(self, mail: Mail) -> bool:
        return not mail.followed and not self._is_old(mail)

    def _is_old(self, mail: Mail) -> bool:
        return self._clock() - mail.sent_at >= self._options.link_life
