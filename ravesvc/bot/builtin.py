"""The commands that every bot has."""

from __future__ import annotations

from ravesvc.bot import games, meshinfo
from ravesvc.bot import help as help_command
from ravesvc.bot.command import Context, Registry
from ravesvc.bot.text import duration, plain
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import joined, lines, ngettext

# A mesh id is a UUID; its start is enough to tell meshes apart in conversation.
_SHORT_ID_CHARS = 8
_MAX_TITLE_CHARS = 80


def register(registry: Registry) -> None:
    """Register all of them."""
    registry.command("hello", _("Greets you."))(hello)
    registry.command("info", _("Tells about this mesh and this bot."))(info)
    registry.command("ping", _("Answers Pong."))(ping)
    registry.command("status", _("Tells how the connection fares."))(status)
    registry.command("whoami", _("Tells your user id, and whether you are an admin."))(whoami)
    help_command.register(registry)
    meshinfo.register(registry)
    games.register(registry)


async def hello(context: Context) -> None:
    """Greet by display name."""
    await context.reply(_("Hello, {name}!", name=await context.display_name()))


async def info(context: Context) -> None:
    """Mesh, server, version."""
    facts = context.facts
    title = plain(facts.title, _MAX_TITLE_CHARS) or _("untitled")
    commands = ngettext("{n} command", "{n} commands", len(context.registry.commands()))
    await context.reply(
        lines(
            _("Mesh: {title} ({id})", title=title, id=context.mesh_id[:_SHORT_ID_CHARS]),
            _("Server: {server}", server=facts.server or _("unknown")),
            _("Bot: ravesvc {version}, {commands}", version=facts.version, commands=commands),
        )
    )


async def ping(context: Context) -> None:
    """Show that the bot is alive."""
    await context.reply(_("Pong!"))


async def status(context: Context) -> None:
    """Connection and company."""
    since = context.facts.connected_since
    connection = _("Connecting") if since is None else _("Connected for {time}", time=duration(context.now - since))
    again = ngettext("{n} reconnection", "{n} reconnections", context.facts.reconnects)
    users = ngettext("{n} user", "{n} users", len(context.users))
    await context.reply(
        lines(
            joined(", ", [connection, again]),
            _("Mesh {id}: {users}", id=context.mesh_id[:_SHORT_ID_CHARS], users=users),
        )
    )


async def whoami(context: Context) -> None:
    """The asker's user id."""
    if context.user_id is None:
        await context.reply(_("Rave does not tell who you are"))
    elif context.user_id in context.permissions.admins:
        await context.reply(_("Your user id is {id}, and you are an admin", id=context.user_id))
    else:
        await context.reply(_("Your user id is {id}, and you are not an admin", id=context.user_id))
