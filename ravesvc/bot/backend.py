"""What the admin commands ask of the service as a whole, which every mesh shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ravesvc.bot.command_names import Permission
from ravesvc.common.picture import Picture
from ravesvc.common.video import Video

# Bytes of JSON in UTF-8 that a document of a room may have.
MAX_DOCUMENT_BYTES = 60 * 1024
# With this the names of the documents of plugins begin.
PLUGIN_PREFIX = "plugin-"
# Of what an admin writes for a setting of a plugin.
MAX_SETTING_CHARS = 500


class Counts(NamedTuple):
    """How many active admins and command permissions there are."""

    admins: int
    permissions: int


class EntryPoint(NamedTuple):
    """A module with commands that an installed package offers; `version` is the package's."""

    name: str
    module: str
    version: str


class PluginInfo(NamedTuple):
    """What a bot has loaded.

    Attributes:
        source: the file or module.
        version: that of the package; for a file a digest of its content.
        commands: their names, in one text.
    """

    source: str
    version: str
    commands: str


if TYPE_CHECKING:

    class Backend(Protocol):
        """The owner of admins, permissions, account, and of what rooms remember.

        `actor` is the chat user who asks, whose right it checks itself.

        When a change is answered, it is safe on disk and holds in every mesh. Every method raises `RaveError`, in
        words fit for the chat: AccessDenied, InvalidArgument, LastAdmin, Busy, StoreUnavailable, NotRunning (no
        answer).
        """

        async def add_admin(self, actor: int, user: int) -> bool:
            """Make a user an admin in all meshes; False if they are one already."""

        async def claim_admin(self, actor: int, code: str) -> bool:
            """Make the actor an admin by a code from the host; False if they are one already.

            Raises AccessDenied for any other code.
            """

        async def remove_admin(self, actor: int, user: int) -> bool:
            """Take the right away; False if they have none. Raises LastAdmin for the last one."""

        async def ignore_user(self, actor: int, user: int) -> bool:
            """Make all bots ignore a user; False if they do already. Raises InvalidArgument for an admin."""

        async def unignore_user(self, actor: int, user: int) -> bool:
            """Make all bots answer a user again; False if they do."""

        async def set_permission(self, actor: int, command: str, permission: Permission, description: str) -> None:
            """Set who may run a command, in all meshes."""

        async def remove_permission(self, actor: int, command: str) -> bool:
            """Reset a command to its default permission; False if that is so already."""

        async def refresh(self, actor: int) -> Counts:
            """Read the store again, renew the credentials file, and send the changes to all bots."""

        async def relogin(self, actor: int) -> int:
            """Begin to log in again with the account's address; returns when the mail is on its way.

            The number is how many seconds there are to follow its link.
            """

        async def allow_leave(self, actor: int) -> None:
            """Return if the user may make the bot leave: an admin, or any user if `leave` is open to all."""

        async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
            """Videos that fit some words, the best first; maybe none.

            Raises, as the next two do, RateLimited (with the time to wait), Config (no provider can search, and what
            to set), InvalidArgument, Network, Timeout, ServerError, BadData.
            """

        async def look_up_video(self, actor: int, link: str) -> Video:
            """The video that a link leads to. Raises NotFound, Forbidden (it may not be shown elsewhere) as well."""

        async def fetch_picture(self, actor: int, video: Video) -> Picture:
            """The picture of a video, the caller's to close. Raises NotFound as well."""

        async def read_document(self, name: str) -> str | None:
            """A document of this room as JSON; None if there is none. A name is a word in lower case."""

        async def write_document(self, name: str, text: str) -> None:
            """Put a JSON object or list in the place of a document of this room; `MAX_DOCUMENT_BYTES` bytes at most.

            Users are named under keys that hold users, so that they can be forgotten: see `ravesvc.common.forget`.

            Raises InvalidArgument, too, when the room or the host has no place for it; RateLimited for more than one
            write in a second, in the long run.
            """

        async def read_shared(self, name: str) -> tuple[str, str]:
            """A document that all rooms share as JSON, and its version; both are empty if there is none."""

        async def write_shared(self, name: str, text: str, version: str) -> bool:
            """Put a JSON object or list in the place of a version of such a document.

            False if it has another version by now. Raises as `write_document` does.
            """

        async def append_history(self, name: str, entry: str) -> None:
            """Add a JSON object to a history of this room, with the time as its field `time`; the oldest give way.

            Raises as `write_document` does.
            """

        async def read_history(self, name: str, count: int) -> list[str]:
            """The latest entries of a history of this room, at most so many, each as JSON, the oldest of them first.

            `time` is in seconds since the epoch.
            """

        async def forget_user(self, actor: int) -> int:
            """Remove what is kept of the actor, in all rooms; returns how many entries there were.

            Raises InvalidArgument for an admin, and for who is ignored; AccessDenied when Rave does not list them in
            this room, and what kept the parent from asking Rave. Running bots have forgotten them as well then.
            """

        async def login_ended(self) -> None:
            """Wait until the login that began last has succeeded, if it has not yet; raises what made it fail."""
