"""Polls: `?poll "Pizza or pasta?" Pizza Pasta` asks the room, `?vote 2` or `?vote Pasta` votes.

A user has one vote, and changes it by voting again. `?poll` shows the votes so far. A poll closes after five minutes,
or when an admin or the user who made it writes `?poll close`; then the bot tells the result. A room has one poll at
once. It outlives a restart of the bot: its five minutes begin anew then.

To enable it in all rooms, as root:

    ln -s /usr/share/rave-orchestrator/plugins/poll.py /etc/rave/commands.d/
    ravectl refresh
"""

import asyncio

from ravesvc.commands import RaveError, UserError, command, fold, on_connected

OPEN_S = 300
MAX_QUESTION_CHARS = 200
MAX_OPTIONS = 9
MAX_OPTION_CHARS = 40
MAX_VOTES = 500
EXAMPLE = '"Pizza or pasta?" Pizza Pasta'

# The task that closes the poll; None before the first.
closing = None


@command("poll", "Asks the room, or shows the votes so far.", group="Chat", example=EXAMPLE)
async def poll(context, question: str = "", *options: str):
    """Open a poll, or show the one that is open."""
    if not question:
        await context.reply(shown(context, require_open(context, await context.store.get("poll"))))
        return
    made = {
        "question": one_line(question, MAX_QUESTION_CHARS),
        "options": read_options(context, options),
        "votes": [],
        # Under this key, and under "user" in the votes, `?forgetme` finds a user.
        "by": context.user_id,
    }

    def begin(before):
        if before:
            raise UserError("a poll is open already", hint=f"vote, or close it with {context.prefixes[0]}poll close")
        return made

    # Two users may ask at the same moment: `update` lets the second one see the poll of the first.
    await context.store.update("poll", begin)
    start_timer(context)
    await context.send(shown(context, made))


@command("vote", "Votes in the poll, by number or by name.", group="Chat", example="2")
async def vote(context, *, choice: str):
    """Count a vote, in place of the former one of the user."""
    if context.user_id is None:
        raise UserError("Rave does not say who you are, so your vote can't be counted")

    def count(before):
        now = require_open(context, before)
        option = read_choice(choice, now["options"])
        others = [each for each in now["votes"] if each["user"] != context.user_id]
        if len(others) >= MAX_VOTES:
            raise UserError(f"more than {MAX_VOTES} votes can't be counted")
        return {**now, "votes": [*others, {"user": context.user_id, "option": option}]}

    now = await context.store.update("poll", count)
    await context.reply(f"You vote for {now['options'][now['votes'][-1]['option']]}")


@command("poll close", "Closes the poll and tells the result.", group="Chat")
async def close(context):
    """Close it early."""
    now = require_open(context, await context.store.get("poll"))
    made_it = context.user_id is not None and context.user_id == now["by"]
    if not made_it and context.user_id not in context.permissions.admins:
        raise UserError("only an admin or the user who made the poll may close it")
    if closing:
        closing.cancel()
    await tell_result(context)


@on_connected
async def resume(event):
    """Go on with a poll that was open when the bot left, or when this file was loaded anew."""
    if await event.store.get("poll") and (closing is None or closing.done()):
        start_timer(event)


def start_timer(room):
    """Close the poll after its time; `room` is a context or an event."""
    global closing
    closing = asyncio.create_task(close_later(room))


async def close_later(room):
    """Wait, and tell the result."""
    await asyncio.sleep(OPEN_S)
    try:
        await tell_result(room)
    except RaveError:
        # The connection or the service is gone. The poll is still there, and `resume` takes it up again.
        return


async def tell_result(room):
    """Say who has won, and then remove the poll, so that a result that could not be said is not lost."""
    now = await room.store.get("poll")
    # The user who made it may have written ?forgetme.
    if now:
        await room.send(result(now))
        await room.store.delete("poll")


def require_open(context, now):
    """The poll. Raises UserError if there is none."""
    if not now:
        raise UserError("no poll is open", hint=f"open one with {context.prefixes[0]}poll {EXAMPLE}")
    return now


def read_options(context, options):
    """The options as they are shown. Raises UserError."""
    if not 2 <= len(options) <= MAX_OPTIONS:
        raise UserError(
            f"a poll has 2 to {MAX_OPTIONS} options", hint=f"for example {context.prefixes[0]}poll {EXAMPLE}"
        )
    found = [one_line(option, MAX_OPTION_CHARS) for option in options]
    if len(set(map(fold, found))) < len(found):
        raise UserError("two of the options are the same")
    return found


def one_line(text, max_chars):
    """A text of a user without line ends. Raises UserError if it is empty or too long."""
    line = " ".join(text.split())
    if not 1 <= len(line) <= max_chars:
        raise UserError(f"a question has 1 to {MAX_QUESTION_CHARS} characters, an option 1 to {MAX_OPTION_CHARS}")
    return line


def read_choice(choice, options):
    """The place of the option that is meant. An option that is a number counts by its name. Raises UserError."""
    key = fold(choice[: 2 * MAX_OPTION_CHARS])
    names = [fold(option) for option in options]
    numbers = [str(number) for number in range(1, len(options) + 1)]
    if key in names:
        return names.index(key)
    if key in numbers:
        return numbers.index(key)
    raise UserError("the poll has no such option", hint=f"write a number from 1 to {len(options)}, or a name")


def counts(now):
    """How many votes each option has."""
    return [sum(vote["option"] == place for vote in now["votes"]) for place in range(len(now["options"]))]


def shown(context, now):
    """The poll, with its votes."""
    # Not with what a user has written: another bot might obey a message that begins like a command.
    lines = [f"Poll: {now['question']}"]
    for number, (option, votes) in enumerate(zip(now["options"], counts(now), strict=True), 1):
        lines.append(f"{number}. {option}" + (f" ({votes})" if votes else ""))
    lines.append(f"Vote with {context.prefixes[0]}vote and the number or the name")
    return "\n".join(lines)


def result(now):
    """What has come out."""
    found = counts(now)
    lines = [f"The poll is closed: {now['question']}"]
    lines += [f"{option}: {votes}" for option, votes in zip(now["options"], found, strict=True)]
    winners = [option for option, votes in zip(now["options"], found, strict=True) if votes == max(found)]
    if not now["votes"]:
        lines.append("There was no vote")
    elif len(winners) == 1:
        lines.append(f"{winners[0]} wins")
    else:
        lines.append(f"A tie: {', '.join(winners)}")
    return "\n".join(lines)
