"""Welcome: greets users who join, and says what the bot can do.

Several users who come within some seconds get one message together, and a user who comes again within an hour gets
none. Admins write `?settings welcome.greeting Hello {names}, write {prefix}help` for another text, and `?welcome off`
or `on`; `?welcome` shows both. The room remembers them. Who was greeted is forgotten when the bot starts anew.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/welcome.py /etc/rave/commands.d/
    ravectl refresh
"""

import asyncio
import time

from ravesvc.commands import Permission, RaveError, command, on_user_join, on_user_left, setting

DEFAULT_TEXT = "Welcome, {names}! I am a bot. Write {prefix}help to see what I can do."
# From the first user who comes to the message for all who have come until then.
GATHER_S = 5
AGAIN_AFTER_S = 3600
# The others are a number.
MAX_NAMES = 5

greeting = setting("greeting", "What users who join are told; {names} stands for them", default=DEFAULT_TEXT)

# Users who wait for their greeting, in the order in which they have come. A dict, as a set has no order.
waiting = {}
# When a user was greeted, by the clock of `time.monotonic`.
greeted = {}


@on_user_join
async def note(event):
    """Greet a user who comes, soon."""
    if event.user_id is None or await event.store.get("state", "on") == "off":
        return
    for user in [user for user, at in greeted.items() if time.monotonic() - at >= AGAIN_AFTER_S]:
        del greeted[user]
    if event.user_id in greeted:
        return
    # The first one starts the task, and those who come while it sleeps find their greeting on its way.
    is_first = not waiting
    waiting[event.user_id] = time.monotonic()
    if is_first:
        asyncio.create_task(greet(event))


@on_user_left
async def drop(event):
    """Do not greet a user who is gone again."""
    waiting.pop(event.user_id, None)


async def greet(event):
    """Greet all who have come meanwhile."""
    await asyncio.sleep(GATHER_S)
    users = list(waiting)
    greeted.update(waiting)
    waiting.clear()
    if not users:
        return
    names = [await event.people.name(user) for user in users[:MAX_NAMES]]
    if len(users) > MAX_NAMES:
        names.append(f"{len(users) - MAX_NAMES} more")
    listed = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
    text = greeting.of(event)
    if event.is_command(text):
        # Another bot in the room might obey.
        text = DEFAULT_TEXT
    try:
        # No str.format: in a text of an admin it could reach into the program.
        await event.send(text.replace("{prefix}", event.prefixes[0]).replace("{names}", listed))
    except RaveError:
        # The connection is gone: a greeting that comes minutes late is of no use.
        return


@command("welcome", "Shows the greeting of users who join.", permission=Permission.ADMIN, group="Chat")
async def show(context):
    """Say what the text is, and whether it is used."""
    await context.reply(f"The welcome is {await context.store.get('state', 'on')}: {greeting.of(context)}")


@command("welcome on", "Greets users who join.", permission=Permission.ADMIN, group="Chat")
async def switch_on(context):
    """Greet from now on."""
    await context.store.set("state", "on")
    await context.reply("I greet users who join")


@command("welcome off", "Greets no users.", permission=Permission.ADMIN, group="Chat")
async def switch_off(context):
    """Greet no longer."""
    await context.store.set("state", "off")
    waiting.clear()
    await context.reply("I no longer greet users who join")
