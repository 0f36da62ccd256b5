"""The link between a worker and its parent: what the worker asks of it and tells it, and the other way round.

With the service as its parent a worker uses the message bus (`bus_link`). In single-process mode the parent is in the
same process (`ravesvc.single.local_link`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ravesvc.bot.backend import EntryPoint, PluginInfo
from ravesvc.bot.command_names import Permission
from ravesvc.bot.plugins import Sources
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.common.plugin_files import FileVersion
from ravesvc.config.advice import Advice
from ravesvc.config.worker_settings import Edition, Session
from ravesvc.names import Announcement


class ConnectAdvice(NamedTuple):
    """What the parent knows that matters before an attempt to connect.

    Attributes:
        failures: attempts in a row that have failed, in this process or in earlier ones.
        failing_for: seconds since the first of them.
        pause: seconds for which Rave does not want to be called; 0 when it does not mind.
        why: the reason of the pause, in words.
    """

    failures: int = 0
    failing_for: float = 0.0
    pause: float = 0.0
    why: str = ""


if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend

    class ParentApi(Backend, Protocol):
        """The parent, which knows admins, permissions and session. Without an answer a method raises `RaveError`."""

        async def admins(self) -> frozenset[int]:
            """The user ids of all admins. Raises StoreUnavailable until the store is read."""

        async def permissions(self) -> dict[str, Permission]:
            """The permissions that differ from the commands' own, by command. Raises as `admins` does."""

        async def ignored_users(self) -> frozenset[int]:
            """The user ids of those whom the bot does not answer. Raises as `admins` does."""

        async def connect_advice(self) -> ConnectAdvice:
            """What the parent knows that matters before an attempt to connect to our mesh."""

        async def chat_form(self) -> str:
            """The form in which other bots have learned to send chat to servers such as ours; empty if none has."""

        async def entry_points(self) -> list[EntryPoint]:
            """The modules with commands that installed packages offer."""

        async def tried_plugins(self) -> list[FileVersion]:
            """The new versions of plugins that are tried in this room."""

        async def session(self) -> Session:
            """The account's session as it is now. Raises LoginNeeded, too, if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a worker is.

    Attributes:
        connected: whether it is in its mesh, and `lasted` for how many seconds.
        title: the mesh's, which strangers have written.
        server: host of the mesh's socket server.
        users: in the mesh now.
        reconnects: how often the connection was made anew.
        attempts: how many attempts to connect have failed in a row.
        last_error: why the last one failed, or the last connection ended, in words.
        plugins: those that are in force.
        command_errors: what is wrong with plugins, in sentences.
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
    plugins: tuple[PluginInfo, ...]
    command_errors: tuple[str, ...]
    unshown: int
    chat_form: str


if TYPE_CHECKING:

    class WorkerControl(Protocol):
        """A worker as its link to the parent sees it; `settings` are those of its room."""

        mesh: str
        edition: Edition
        settings: SettingsKeeper

        def status(self) -> Status:
            """How it is now."""

        async def users(self) -> tuple[list[tuple[int, str]], int]:
            """Ids and display names of the first users in the mesh now, and how many there are."""

        def reconnect(self) -> None:
            """Replace the connection, or make the next attempt at once if there is none."""

        async def refresh(self, what: Announcement) -> None:
            """Ask the parent for one kind of data; returns when it is applied. Raises `RaveError` if it can't."""

        def forget_user(self, user: int) -> None:
            """Forget what the bot remembers of a user. Nothing of them is written after this call."""

        def on_new_peer(self) -> None:
            """A bus or a parent is there to which this worker is new. What the one before has said may be old."""


if TYPE_CHECKING:

    class ParentLink(Protocol):
        """The link itself."""

        @property
        def parent(self) -> ParentApi:
            """Answers the worker's questions."""

        @property
        def advice(self) -> Advice:
            """What an operator has to do about failures, depending on what runs the bots."""

        @property
        def commands(self) -> Sources:
            """Where plugins come from."""

        async def join(self) -> None:
            """Connect to the parent. Raises `RaveError` if that fails; `keep` tries again."""

        async def keep(self) -> None:
            """Stay connected, for ever."""

        async def leave(self) -> None:
            """Disconnect, after all signals have been sent."""

        async def notify_ready(self) -> None:
            """Tell the service manager that the worker has started. From now on it imports nothing but plugins.

            An upgrade may replace the program's files on disk once all bots have started.
            """

        def emit(self, signal: str, *args: Any) -> None:
            """Send a signal of `WorkerObject` to the parent. Without a connection it is lost."""

        def show_status(self, status: str) -> None:
            """Show the operator one line on how the worker is; may be called at any rate."""

        def notify_stopping(self) -> None:
            """Tell the service manager that the worker is about to end."""
