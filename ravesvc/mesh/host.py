"""What ties a worker to whoever runs it: whom it asks, whom it tells, and where its own commands are.

A child of the service has the message bus for that. A process that runs all meshes by itself has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ravesvc.bot.backend import Backend
from ravesvc.bot.command_names import Permission
from ravesvc.bot.plugins import EntryPoint, Sources
from ravesvc.config.advice import Advice
from ravesvc.config.worker_settings import Edition, Session
from ravesvc.names import Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectAdvice:
    """What the parent knows that an attempt to connect has to heed.

    Attributes:
        failures: attempts in a row that have failed, in this process or in earlier ones.
        failing_for: seconds since the first of them.
        pause: seconds for which nothing is to be asked of Rave, because it wants a pause; 0 when it does not.
        why: in words, when there is a pause.
    """

    failures: int = 0
    failing_for: float = 0.0
    pause: float = 0.0
    why: str = ""


class ParentApi(Backend, Protocol):
    """Who knows admins, permissions and session. Every method raises `RaveError` when there is no answer."""

    async def admins(self) -> frozenset[int]:
        """The user ids of all admins. Raises StoreUnavailable until the store is read."""

    async def permissions(self) -> dict[str, Permission]:
        """Whom commands are for, by name, where somebody has changed that. Raises as `admins` does."""

    async def ignored_users(self) -> frozenset[int]:
        """The user ids of those whom not to listen to. Raises as `admins` does."""

    async def connect_advice(self) -> ConnectAdvice:
        """What there is to know before an attempt to connect to our mesh."""

    async def chat_form(self) -> str:
        """The form in which other bots have learned to send chat to servers such as ours; empty if none has."""

    async def entry_points(self) -> list[EntryPoint]:
        """The modules with commands that installed packages offer."""

    async def session(self) -> Session:
        """The account's session as it is now. Raises LoginNeeded, too, if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a worker is.

    Attributes:
        connected: whether it is in its mesh, and `lasted` for how many seconds.
        title: the mesh's, as strangers wrote it.
        server: host of the mesh's socket server.
        users: in the mesh now.
        reconnects: how often the connection was made anew.
        attempts: to connect that have failed in a row.
        last_error: in words.
        command_errors: what is wrong with own commands, in sentences.
        unshown: how many of its messages have had no echo.
        chat_form: the form in which its server is known to show chat; empty while that is not known.
    """

    connected: bool
    lasted: float
    title: str
    server: str
    users: int
    reconnects: int
    attempts: int
    last_error: str
    command_errors: tuple[str, ...]
    unshown: int
    chat_form: str


class WorkerControl(Protocol):
    """A worker as its link sees it."""

    mesh: str
    edition: Edition

    def status(self) -> Status:
        """How it is now."""

    async def users(self) -> tuple[list[tuple[int, str]], int]:
        """Ids and display names of the first users in the mesh now, and how many there are."""

    def reconnect(self) -> None:
        """Another connection at once, whether there is one or the next attempt is being waited for."""

    async def refresh(self, what: Announcement) -> None:
        """Ask for one kind and return when the answer is applied; raises `RaveError` when it can't be had."""

    def forget_user(self, user: int) -> None:
        """Forget what it remembers of a user, and write nothing of them any more."""

    def met(self) -> None:
        """There is somebody who has not heard of it; what it knows may be old, too."""


class WorkerHost(Protocol):
    """The tie itself."""

    @property
    def parent(self) -> ParentApi:
        """Whom to ask."""

    @property
    def advice(self) -> Advice:
        """What people have to do about failures, where the bots run."""

    @property
    def commands(self) -> Sources:
        """Where own commands come from."""

    async def join(self) -> None:
        """Get in touch; raises `RaveError` when that has to wait for `keep`."""

    async def keep(self) -> None:
        """Stay in touch for ever."""

    async def leave(self) -> None:
        """Be in touch no more, after everything said has been passed on."""

    async def ready(self) -> None:
        """Say that it has started; nothing is imported from now on, own commands excepted."""

    def emit(self, signal: str, *args: Any) -> None:
        """Say that something has happened: a signal of `WorkerObject`. It is lost while nobody is in touch."""

    def tell(self, status: str) -> None:
        """Say how it is, in a line for people; may be called at any rate."""

    def ending(self) -> None:
        """Say that it is about to end."""
