"""Lockdown: closes a room for a while when many users join at once, so that a raid finds no way in.

When more than 8 users join within 30 seconds, the bot takes the room out of Rave's lists: for ten minutes only
invited users find it and get in. After that it is as it was before. Users who are in the room stay there. Admins
write:

    ?lockdown on [10m]        close the room now, for so long
    ?lockdown off             open it again now
    ?lockdown status          whether it is closed, and for how long
    ?lockdown limit 8 30s     how many users may join within which time; with 0 the bot never closes it by itself

Only the leader of a room can close it: the leader can make the bot the leader in the app. The bot itself should be in
the room by an invitation: one that has found it in a list may not get back in before the room is open again.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/lockdown.py /etc/rave/commands.d/
    ravectl refresh
"""

import asyncio
import contextlib
import math
import time

from ravesvc.commands import (
    Code,
    Context,
    Duration,
    Event,
    Permission,
    Privacy,
    RaveError,
    UserError,
    command,
    on_load,
    on_user_join,
)

CLOSED = Privacy(public=False, friends=False, local=False)
LOCK_S = Duration(600)
MIN_LOCK_S, MAX_LOCK_S = 60, 86_400
USERS, WITHIN_S = 8, Duration(30)
MAX_USERS = 100
MIN_WITHIN_S, MAX_WITHIN_S = 5, 600
# After that time the bot tries again to open the room, or says again that it may not close it.
RETRY_S = 300.0
TELL_EVERY_S = 1800.0
# Rave has not done what it was asked for. After any other failure it may have done it.
NOT_DONE = (Code.FORBIDDEN, Code.REFUSED, Code.NOT_FOUND, Code.BAD_REQUEST, Code.RATE_LIMITED, Code.INVALID_ARGUMENT)


class Memory:
    """What the file knows while the bot runs."""

    def __init__(self) -> None:
        # When each user has joined, by the clock of time.monotonic; those of the last moments.
        self.joined: dict[int, float] = {}
        # Opens the room again.
        self.opening: asyncio.Task[None] | None = None
        self.told_at = -math.inf


memory = Memory()


@on_load
async def take_up(event: Event) -> None:
    """Go on with a lockdown during which the bot was started anew."""
    open_later(event)


@on_user_join
async def count(event: Event) -> None:
    """Close the room if too many users have joined within the time."""
    users, within = await event.store.get("limit", [USERS, WITHIN_S])
    if event.user_id is None or event.is_admin or users == 0:
        return
    now = time.monotonic()
    # The same user may come and go: that is no raid.
    memory.joined[event.user_id] = now
    memory.joined = {user: at for user, at in memory.joined.items() if now - at <= within}
    if len(memory.joined) <= users:
        return
    memory.joined = {}
    if await event.store.get("lock"):
        return
    try:
        await close(event, LOCK_S)
    except UserError:
        # Only invited users come anyway.
        return
    except RaveError as error:
        await tell_failure(event, error)
        return
    text = f"More than {users} users have joined within {within:.0f} s: for {span(LOCK_S)} only invited users get in"
    await event.send(f"{text}. Admins can end that with the command “lockdown off”")


async def close(where: Event | Context, seconds: float) -> None:
    """Close the room for so long from now on. Raises RaveError if that can't be done."""
    lock = await where.store.get("lock")
    was = lock["was"] if lock else await where.rave.privacy()
    if lock is None and was == CLOSED:
        raise UserError("only invited users get into this room anyway")
    # Noted before it is done: if the bot ends in between, the next one opens the room again.
    await where.store.set("lock", {"was": was, "until": time.time() + seconds})
    try:
        await where.rave.set_privacy(CLOSED)
    except RaveError as error:
        if lock is None and error.code in NOT_DONE:
            await where.store.delete("lock")
        raise
    finally:
        open_later(where)


def open_later(where: Event | Context) -> None:
    """Open the room at the end of the lockdown, if there is one."""
    if memory.opening:
        memory.opening.cancel()
    memory.opening = asyncio.create_task(wait_and_open(where))


async def wait_and_open(where: Event | Context) -> None:
    """Wait for the end of the lockdown, and open the room: again and again until Rave does it."""
    while True:
        try:
            lock = await where.store.get("lock")
            if lock is None:
                return
            left = lock["until"] - time.time()
            if left <= 0:
                await where.send(await reopen(where))
                return
        except RaveError as error:
            await tell_failure(where, error)
            left = RETRY_S
        await asyncio.sleep(left)


async def reopen(where: Event | Context) -> str:
    """Let the room be as it was before the lockdown; returns what to say. Raises RaveError if that can't be done."""
    lock = await where.store.get("lock")
    is_closed = await where.rave.privacy() == CLOSED
    if is_closed:
        await where.rave.set_privacy(Privacy(*lock["was"]))
    await where.store.delete("lock")
    said = "The lockdown is over"
    return said if is_closed else f"{said}. The room was open already, and stays as it is"


async def tell_failure(where: Event | Context, error: RaveError) -> None:
    """Say why the room can't be closed or opened; not each time."""
    if time.monotonic() - memory.told_at >= TELL_EVERY_S:
        memory.told_at = time.monotonic()
        hint = f". {error.hint[:1].upper()}{error.hint[1:]}" if error.hint else ""
        with contextlib.suppress(RaveError):
            await where.send(f"I can't change who gets into this room: {error.message}{hint}")


@command(
    "lockdown on",
    "Closes the room for users who are not invited.",
    permission=Permission.ADMIN,
    group="Order",
    example="10m",
)
async def on(context: Context, how_long: Duration = LOCK_S) -> None:
    """Close the room, or have it closed for another time."""
    if not MIN_LOCK_S <= how_long <= MAX_LOCK_S:
        raise UserError("a lockdown lasts from 1 min to 24 h")
    await close(context, how_long)
    await context.reply(f"For {span(how_long)} only invited users get in")


@command("lockdown off", "Opens the room again.", permission=Permission.ADMIN, group="Order")
async def off(context: Context) -> None:
    """Open the room before its time."""
    if not await context.store.get("lock"):
        raise UserError("there is no lockdown")
    await context.reply(await reopen(context))


@command("lockdown status", "Tells whether the room is closed.", permission=Permission.ADMIN, group="Order")
async def status(context: Context) -> None:
    """Tell the lockdown and the limit."""
    lock = await context.store.get("lock")
    users, within = await context.store.get("limit", [USERS, WITHIN_S])
    state = f"Closed for {span(lock['until'] - time.time())} more" if lock else "Not closed"
    limit = f"when more than {users} users join within {within:.0f} s" if users else "never"
    await context.reply(f"{state}. Closes by itself: {limit}")


@command(
    "lockdown limit",
    "Changes how many users may join within which time.",
    permission=Permission.ADMIN,
    group="Order",
    example="8 30s",
)
async def limit(context: Context, users: int, within: Duration = WITHIN_S) -> None:
    """Change the limit."""
    if users != 0 and not 2 <= users <= MAX_USERS:
        raise UserError(f"that is no number of users from 2 to {MAX_USERS}", hint="0 turns it off")
    if not MIN_WITHIN_S <= within <= MAX_WITHIN_S:
        raise UserError("the time is from 5 s to 10 min")
    await context.store.set("limit", [users, within])
    await status(context)


def span(seconds: float) -> str:
    """A time for people, such as 1 h 30 min."""
    hours, minutes = divmod(max(0, math.ceil(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
