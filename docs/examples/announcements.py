"""Announcements: `?announce add 30m Drink water` has the bot say so every half an hour.

`?announce list` lists them with their numbers, `?announce remove 2` removes one; all three are for admins. The bot
announces nothing into an empty room, and nothing when no message was written since its last announcement (commands do
not count). The room remembers them; when the bot starts anew, the time until each begins anew, too.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/announcements.py /etc/rave/commands.d/
    ravectl refresh
"""

import time

from ravesvc.commands import Duration, Permission, UserError, command, every, on_message

MAX_ANNOUNCEMENTS = 10
MIN_MINUTES = 5
MAX_MINUTES = 24 * 60
MAX_TEXT_CHARS = 300

# When an announcement was said last, or its time began, by its number.
said_at = {}
# Whether there was a message since the last announcement.
has_news = False


@on_message
async def note(event):
    """A user has written something: an announcement would not be the next message after the last one."""
    global has_news
    has_news = True


@every("1m")
async def announce(event):
    """Say what is due; one at a time, as the next one waits for a message as well."""
    global has_news
    announcements = await event.store.get("announcements", [])
    due = []
    for each in announcements:
        since = said_at.setdefault(each["number"], time.monotonic())
        late_s = time.monotonic() - since - each["minutes"] * 60
        if late_s >= 0:
            due.append((late_s, each))
    if due and event.others and has_news:
        _, longest_due = max(due, key=lambda pair: pair[0])
        await event.send(longest_due["text"])
        said_at[longest_due["number"]] = time.monotonic()
        has_news = False


@command(
    "announce add",
    "Says a text again and again.",
    permission=Permission.ADMIN,
    group="Chat",
    example="30m Drink water",
)
async def add(context, interval: Duration, *, text: str):
    """Keep an announcement."""
    minutes = round(interval / 60)
    if not MIN_MINUTES <= minutes <= MAX_MINUTES:
        raise UserError(f"the time is {MIN_MINUTES} min to {MAX_MINUTES // 60} h", hint="write for example 30m")
    if len(text) > MAX_TEXT_CHARS:
        raise UserError(f"an announcement has at most {MAX_TEXT_CHARS} characters")
    if context.is_command(text):
        # Another bot in the room might obey.
        raise UserError("the text must not begin like a command")

    def change(announcements):
        if len(announcements) >= MAX_ANNOUNCEMENTS:
            raise UserError(f"a room has at most {MAX_ANNOUNCEMENTS} announcements", hint="remove one first")
        number = max((each["number"] for each in announcements), default=0) + 1
        return [*announcements, {"number": number, "minutes": minutes, "text": text}]

    announcements = await context.store.update("announcements", change, [])
    number = announcements[-1]["number"]
    said_at[number] = time.monotonic()
    await context.reply(f"Announcement {number} comes every {minutes} min")


@command("announce list", "Lists the announcements.", permission=Permission.ADMIN, group="Chat")
async def list_all(context):
    """Say all, with their numbers."""
    announcements = await context.store.get("announcements", [])
    lines = [f"{each['number']}. every {each['minutes']} min: {each['text']}" for each in announcements]
    await context.reply("\n".join(lines) or "There are no announcements")


@command("announce remove", "Removes an announcement.", permission=Permission.ADMIN, group="Chat", example="2")
async def remove(context, number: int):
    """Keep it no longer."""

    def change(announcements):
        left = [each for each in announcements if each["number"] != number]
        if len(left) == len(announcements):
            raise UserError(
                f"there is no announcement {number}", hint=f"{context.prefixes[0]}announce list shows all"
            )
        return left

    await context.store.update("announcements", change, [])
    # The next one may get this number.
    said_at.pop(number, None)
    await context.reply(f"Announcement {number} is removed")
