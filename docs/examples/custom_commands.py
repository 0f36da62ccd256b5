"""Text commands that admins make in the chat: `?cmd add rules Be kind`, and `?rules` is answered with that.

`?cmd add` with a name that exists changes the text. `?cmd alias r rules` gives a command a second name, `?cmd list`
lists all, and `?cmd remove rules` removes one. The room remembers them. They never take the place of a command of the
bot or of another file.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/custom_commands.py /etc/rave/commands.d/
    ravectl refresh
"""

import time

from ravesvc.commands import Permission, UserError, command, fold, on_message

MAX_COMMANDS = 50
MAX_ALIASES = 3
MAX_NAME_CHARS = 32
MAX_TEXT_CHARS = 300
# A user, and a command, is answered once in that time. Two bots that answer each other end at that.
REST_S = 3

# When there was an answer, by user id and by name of a command.
answered = {}


@on_message
async def answer(event):
    """Answer a message that begins like a command, and names none that a file or the bot has."""
    if not event.unknown_command:
        return
    commands = await event.store.get("commands", {})
    name = find(commands, event.unknown_command)
    if name and may_answer(name, event.user_id, time.monotonic()):
        await event.reply(commands[name]["text"])


def may_answer(name, user, now):
    """Whether neither the command nor the user had an answer just now."""
    for key in [key for key, at in answered.items() if now - at >= REST_S]:
        del answered[key]
    if name in answered or user in answered:
        return False
    answered[name] = answered[user] = now
    return True


def find(commands, name):
    """The name of the command that has this name or alias; None if there is none."""
    return next((each for each, made in commands.items() if name == each or name in made["aliases"]), None)


@command(
    "cmd add",
    "Makes a text command, or changes its text.",
    permission=Permission.ADMIN,
    group="Chat",
    example="rules Be kind",
)
async def add(context, name, *, text: str):
    """Keep a command."""
    key = read_name(context, name)
    if len(text) > MAX_TEXT_CHARS:
        raise UserError(f"a text has at most {MAX_TEXT_CHARS} characters")
    if context.is_command(text):
        # Another bot in the room might obey.
        raise UserError("the text must not begin like a command")

    def change(commands):
        if find(commands, key) not in (None, key):
            raise UserError(f"{key} is an alias already", hint="remove it first")
        if key not in commands and len(commands) >= MAX_COMMANDS:
            raise UserError(f"a room has at most {MAX_COMMANDS} text commands", hint="remove one first")
        aliases = commands[key]["aliases"] if key in commands else []
        return {**commands, key: {"text": text, "aliases": aliases}}

    await context.store.update("commands", change, {})
    await context.reply(f"From now on {context.prefixes[0]}{key} is answered with that")


@command(
    "cmd alias",
    "Gives a text command another name.",
    permission=Permission.ADMIN,
    group="Chat",
    example="r rules",
)
async def alias(context, alias, name):
    """Keep another name of a command."""
    key = read_name(context, alias)

    def change(commands):
        found = require(context, commands, read(context, name))
        if find(commands, key):
            raise UserError(f"there is a text command {key} already", hint="take another name")
        aliases = [*commands[found]["aliases"], key]
        if len(aliases) > MAX_ALIASES:
            raise UserError(f"a text command has at most {MAX_ALIASES} aliases")
        return {**commands, found: {**commands[found], "aliases": aliases}}

    await context.store.update("commands", change, {})
    await context.reply(f"From now on {context.prefixes[0]}{key} is another name of it")


@command(
    "cmd remove",
    "Removes a text command with its aliases, or one alias.",
    permission=Permission.ADMIN,
    group="Chat",
    example="rules",
)
async def remove(context, name):
    """Keep it no longer."""
    key = read(context, name)

    def change(commands):
        found = require(context, commands, key)
        if found == key:
            return {each: made for each, made in commands.items() if each != key}
        aliases = [each for each in commands[found]["aliases"] if each != key]
        return {**commands, found: {**commands[found], "aliases": aliases}}

    await context.store.update("commands", change, {})
    await context.reply(f"Removed: {context.prefixes[0]}{key}")


@command("cmd list", "Lists the text commands of this room.", group="Chat")
async def list_all(context):
    """Say the names, with their aliases."""
    commands = await context.store.get("commands", {})
    listed = []
    for name, made in sorted(commands.items()):
        listed.append(" = ".join(f"{context.prefixes[0]}{each}" for each in (name, *made["aliases"])))
    # It begins with words: another bot in the room might obey a message that begins like a command.
    await context.reply(f"Text commands: {', '.join(listed) or 'none yet'}")


def read(context, name):
    """The name that a user has written, with or without a prefix, as names are compared. Raises UserError."""
    for prefix in context.prefixes:
        name = name.removeprefix(prefix)
    if len(name) > MAX_NAME_CHARS:
        raise UserError(f"a name has at most {MAX_NAME_CHARS} characters")
    return fold(name)


def read_name(context, name):
    """The same for a name that is to be made. Raises UserError if it can't be typed or belongs to a command."""
    key = read(context, name)
    if len(key.split()) != 1 or not key.isprintable():
        raise UserError("the name of a text command is one word")
    if context.registry.get(key):
        raise UserError(f"the bot has a command {key} already", hint="take another name")
    return key


def require(context, commands, key):
    """The name of the command that has this name or alias. Raises UserError if there is none."""
    found = find(commands, key)
    if not found:
        raise UserError("there is no such text command", hint=f"{context.prefixes[0]}cmd list shows all")
    return found
