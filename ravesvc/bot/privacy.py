"""The command `forgetme`: users delete what is stored about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ravesvc.bot.arguments import actor
from ravesvc.bot.command import Context, Registry
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import lines, ngettext

_YES = "yes"
_MAX_WORD_CHARS = 32


if TYPE_CHECKING:
    # No process needs protocols to run, and each would cost a bot 5 KB.
    class ForgetsUsers(Protocol):
        """Where it is kept; see `Backend`."""

        async def forget_user(self, actor: int) -> int:
            """Remove what is kept of a user; returns how many entries there were."""


def register(registry: Registry, memory: ForgetsUsers) -> None:
    """Register it."""

    async def forgetme(context: Context, *, answer: str = "") -> None:
        user = actor(context)
        if fold(answer[:_MAX_WORD_CHARS]) != _YES:
            await context.reply(
                lines(
                    _("This removes what is kept of you in all rooms: videos in queues, votes, what was noted."),
                    _("It can't be undone. To go on, write {command} yes", command=context.written),
                )
            )
            return
        removed = await memory.forget_user(user)
        if removed:
            await context.reply(ngettext("Removed: {n} entry about you", "Removed: {n} entries about you", removed))
        else:
            await context.reply(_("Nothing is kept of you"))

    registry.command("forgetme", _("Removes what is kept of you, in all rooms."), usage=_("[yes]"), example=_YES)(
        forgetme
    )
