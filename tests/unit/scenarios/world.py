"""What a scenario does to a service and sees of it, however that runs its bots.

A scenario is written once, against `World`, and runs over all that implement it. It says nothing of how a bot is
started or heard, so that it holds for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ravesvc.names import ExitStatus

# The same in every process: pytest-xdist compares the names of tests.
MESH = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
OTHER = "9f8e7d6c-5b4a-4f3e-8d2c-1b0a4f3e2d1c"
THIRD = "5a6b7c8d-1e2f-4a3b-9c4d-5e6f7a8b9c0d"

# Users: ourselves, and another one.
OWN = 900000001
GUEST = 42

API_HOST = "api.test"

# Seconds. In each world Rave is asked that often for its list, and a bot how it is; a crash waits that long for its
# first restart, and a block that ends by itself lasts that long.
ROUND_S = 600.0
POLL_S = 300.0
RESTART_DELAY_S = 10.0
BLOCK_S = 3600.0
# A bot is started again so many times before its mesh is blocked.
MAX_RESTARTS = 5
# Seconds that a decision takes at most: it may wait for other meshes to fail as well, and for an answer of Rave.
DECISION_S = 5.0


@dataclass(frozen=True)
class Connected:
    """The bot is in its mesh."""


@dataclass(frozen=True)
class Disconnected:
    reason: str


@dataclass(frozen=True)
class ConnectionFailed:
    """`attempts` to connect have failed in a row."""

    attempts: int
    error: str


@dataclass(frozen=True)
class PauseRequested:
    """A host of Rave has asked the bot to wait."""

    host: str
    seconds: int


@dataclass(frozen=True)
class Left:
    reason: str


@dataclass(frozen=True)
class Kicked:
    """The bot was kicked."""


@dataclass(frozen=True)
class ChatFormLearned:
    """The bot knows by now in which form its server shows chat; it says so when it is asked how it is."""

    form: str


BotEvent = Connected | Disconnected | ConnectionFailed | PauseRequested | Left | Kicked | ChatFormLearned


class World(Protocol):
    """A service with its surroundings: Rave, a disk, an operator, bots, and a clock that stands still by itself.

    Attributes:
        slow: whether a bot takes until `finish` to be started, where that takes time at all, and to be stopped.
        new_bots_connect: whether a bot that is started gets into its mesh at once.
        disk_full: whether nothing can be saved.
        rave_answers: whether Rave does.
        step_fails: what is raised whenever the service is about to start a bot, or None.
        left: the meshes that the service has left on Rave's side.
    """

    slow: bool
    new_bots_connect: bool
    disk_full: bool
    rave_answers: bool
    step_fails: Exception | None

    @property
    def left(self) -> Sequence[str]: ...

    # What is done to it.

    async def start(self, **options: object) -> None:
        """The service starts, with options of rave.yaml; those that are not named are as the last time."""

    async def restart(self, **options: object) -> None:
        """The service ends, and another one starts on the same disk."""

    async def close(self) -> None:
        """The service ends."""

    async def list(self, *meshes: str, users: Sequence[int] = (GUEST,)) -> None:
        """From now on Rave lists these, with these users in each; a service that runs reads that at once."""

    async def invite(self, mesh: str) -> None:
        """Rave lists this one, too; the service reads that at once."""

    async def say(self, mesh: str, event: BotEvent) -> None:
        """The bot of a mesh says something; no time passes."""

    async def end(self, mesh: str, status: ExitStatus) -> None:
        """The bot of a mesh ends by itself; `DECISION_S` pass."""

    async def finish(self, mesh: str) -> None:
        """What was slow is over: a start or a stop of the bot that is under way ends."""

    async def tick(self, seconds: float) -> None:
        """Time passes."""

    async def hold(self, mesh: str) -> None:
        """An operator stops a mesh."""

    async def release(self, mesh: str) -> None:
        """An operator starts a mesh that is held."""

    async def unblock(self, mesh: str) -> None:
        """An operator takes the entry of a mesh out of the blocklist."""

    async def block(self, *meshes: str) -> None:
        """An operator blocks meshes for ever."""

    async def lose_session(self) -> None:
        """There is no session any more, because the store can't be read; the account is as it was."""

    async def remove_account(self) -> None:
        """An operator takes the account out of the store."""

    async def outdate(self) -> None:
        """All bots that run are of another version than those that are started from now on."""

    async def roll(self) -> int:
        """An operator has outdated bots replaced, one after another; returns how many there are."""

    # What is seen of it.

    def state(self, mesh: str) -> str:
        """The state of a mesh in a word; empty if the service knows nothing of it."""

    def reason(self, mesh: str) -> str:
        """Why it is in that state, in words."""

    def last_error(self, mesh: str) -> str:
        """What went wrong last there, in words."""

    def meshes(self) -> set[str]:
        """All of which the service shows a state."""

    def bots(self, mesh: str) -> int:
        """How many bots the mesh has had."""

    def running(self) -> set[str]:
        """The meshes that have a bot."""

    def blocked(self) -> dict[str, str]:
        """The reason for each block that is safe on disk."""

    def failures(self, mesh: str) -> int:
        """How many failed attempts to connect in a row are safe on disk."""

    def attempts(self, mesh: str) -> int:
        """How many failed attempts in a row are shown of a mesh."""

    def chat_form(self, mesh: str) -> str:
        """The form that a new bot of a mesh is told that others have learned."""
