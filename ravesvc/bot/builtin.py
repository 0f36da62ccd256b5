"""The commands that every bot has."""

from __future__ import annotations

from ravesvc.bot.command import Registry
from ravesvc.bot.context import Context
from ravesvc.bot.text import plain
from ravesvc.words import count

# A mesh id is a UUID; its start is enough to tell meshes apart in conversation.
_SHORT_ID = 8
_TITLE_LENGTH = 80


def register(registry: Registry) -> None:
    """Register all of them."""
    registry.command("hello", "Greets you.")(hello)
    registry.command("help", "Lists the commands that you may use.")(help_)
    registry.command("info", "Tells about this mesh and this bot.")(info)
    registry.command("ping", "Answers Pong.")(ping)
    registry.command("status", "Tells how the connection fares.")(status)
    registry.command("whoami", "Tells your user id, and whether you are an admin.")(whoami)


async def hello(context: Context) -> None:
    """Greet by display name."""
    await context.reply(f"Hello, {await context.display_name()}!")


async def help_(context: Context) -> None:
    """List what the asker may run."""
    # A line must not start with a prefix: split, it could be a message that orders something from another bot.
    first = context.prefixes[0]
    lines = [f"• **{first}{command.name}**: {command.description}" for command in context.allowed_commands()]
    others = " or ".join(context.prefixes[1:])
    hint = [f"Instead of {first} you may also write {others}"] if others else []
    await context.reply("\n".join(["Commands:", *lines, *hint]))


async def info(context: Context) -> None:
    """Mesh, server, version."""
    facts = context.facts
    await context.reply(
        f"Mesh: {plain(facts.title, _TITLE_LENGTH) or 'untitled'} ({context.mesh_id[:_SHORT_ID]})\n"
        f"Server: {facts.server or 'unknown'}\n"
        f"Bot: ravesvc {facts.version}, {count(len(context.registry.commands()), 'command')}"
    )


async def ping(context: Context) -> None:
    """Show that the bot is alive."""
    await context.reply("Pong!")


async def status(context: Context) -> None:
    """Connection and company."""
    since = context.facts.connected_since
    connection = "Connecting" if since is None else f"Connected for {duration(context.now - since)}"
    await context.reply(
        f"{connection}, {count(context.facts.reconnects, 'reconnection')}\n"
        f"Mesh {context.mesh_id[:_SHORT_ID]}: {count(len(context.users), 'user')}"
    )


async def whoami(context: Context) -> None:
    """The asker's user id."""
    if context.user_id is None:
        await context.reply("Rave does not tell who you are")
        return
    right = "an admin" if context.user_id in context.permissions.admins else "not an admin"
    await context.reply(f"Your user id is {context.user_id}, and you are {right}")


def duration(seconds: float) -> str:
    """A span in its two largest units, such as 3 h 12 min."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((i for i, (value, _) in enumerate(units) if value), len(units) - 1)
    return " ".join(f"{value} {unit}" for value, unit in units[first : first + 2])
