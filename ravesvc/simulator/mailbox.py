"""The mails with magic links: which were sent, whose link was followed, and the proof of that. No I/O, no waiting."""

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
    """A mail.

    Attributes:
        polls: how often the client has polled it.
        proof_sent: whether an answer has said that the link was followed.
    """

    email: str = field(repr=False)
    sent_at: float
    state_id: str = field(repr=False)
    id_token: str = field(repr=False)
    polls: int = 0
    followed: bool = False
    proof_sent: bool = False


class Mailbox:
    """All mails, by their state id. Addresses are in lower case."""

    def __init__(self, options: FaultOptions, log: EventLog, clock: Callable[[], float]) -> None:
        self._options = options
        self._log = log
        self._clock = clock
        self._mails: dict[str, Mail] = {}

    def send(self, email: str) -> Mail:
        """Send a mail."""
        # The proof that a link was followed has the form of a JSON Web Token.
        id_token = ".".join(secrets.token_urlsafe(length) for length in (24, 300, 256))
        mail = Mail(email.lower(), self._clock(), f"st_{secrets.token_hex(8)}", id_token)
        self._mails[mail.state_id] = mail
        self._log.record("mail")
        return mail

    def poll(self, state_id: str) -> Mail:
        """Poll a mail; raises `RaveError`: NotFound, NotConfirmed when its link has expired."""
        mail = self._mails.get(state_id)
        if mail is None:
            raise RaveError(Code.NOT_FOUND, "no such mail")
        mail.polls += 1
        self._log.record("polled", polls=mail.polls)
        if self._is_open(mail) and mail.polls > self._options.confirm:
            self._follow(mail)
        if not mail.followed and self._has_expired(mail):
            raise RaveError(Code.NOT_CONFIRMED, "the link is good no longer")
        return mail

    def follow(self, email: str | None) -> None:
        """Follow the link of the latest open mail, to this address or any; raises `RaveError` (NotFound)."""
        for mail in reversed(self._mails.values()):
            if self._is_open(mail) and email in (None, mail.email):
                self._follow(mail)
                return
        raise RaveError(Code.NOT_FOUND, "no mail waits", hint="rave-simulator wait --mail")

    def email_of(self, id_token: str) -> str | None:
        """The address for which this token was issued, or None."""
        for mail in self._mails.values():
            if mail.followed and secrets.compare_digest(mail.id_token.encode(), id_token.encode()):
                return mail.email
        return None

    @property
    def waiting(self) -> bool:
        """Whether there is a mail whose link can be followed."""
        return any(self._is_open(mail) for mail in self._mails.values())

    @property
    def polls(self) -> int:
        """How often the client has polled the latest mail."""
        return next((mail.polls for mail in reversed(self._mails.values())), 0)

    def to_json(self) -> dict[str, Any]:
        """For the control API: how many were `sent`, whether one is `waiting`, the `polls` for the latest."""
        return {"sent": len(self._mails), "waiting": self.waiting, "polls": self.polls}

    def _follow(self, mail: Mail) -> None:
        mail.followed = True
        self._log.record("followed")

    def _is_open(self, mail: Mail) -> bool:
        return not mail.followed and not self._has_expired(mail)

    def _has_expired(self, mail: Mail) -> bool:
        return self._clock() - mail.sent_at >= self._options.link_life
