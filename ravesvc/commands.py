"""The interface for authors of commands.

A file in /etc/rave/commands.d/, or a module that an installed package names under the entry point group
`ravesvc.commands`, registers what it has with these decorators:

    from ravesvc.commands import command

    @command("greet", "Greets the user who asks.")
    async def greet(context):
        await context.reply(f"Hello, {await context.display_name()}!")

Bots read it when they start and when you run `ravectl refresh`. A handler is a coroutine: await what takes time,
because one event loop serves the whole mesh. A bot ends a handler that keeps the event loop busy for two seconds, or
takes longer than its time in all, and names it in the log.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar

from ravesvc.api.models import Privacy
from ravesvc.api.web_response import WebResponse
from ravesvc.bot.command import Context, PluginTimer
from ravesvc.bot.command_names import Permission
from ravesvc.bot.dialogue import Answer, NoAnswerError
from ravesvc.bot.event import Event, EventKind
from ravesvc.bot.limits import Cooldown, Per
from ravesvc.bot.mentions import Member
from ravesvc.bot.parameters import Duration, Range, UserId
from ravesvc.bot.plugin_settings import Setting, declare
from ravesvc.bot.registration import current_registry, registering
from ravesvc.bot.step_timeout import with_step_timeout
from ravesvc.common import timespan
from ravesvc.common.picture import Picture
from ravesvc.common.spelling import fold
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError

__all__ = [
    "Answer",
    "Code",
    "Context",
    "Cooldown",
    "Duration",
    "Event",
    "Member",
    "NoAnswerError",
    "Per",
    "Permission",
    "Picture",
    "Privacy",
    "Range",
    "RaveError",
    "Setting",
    "UserError",
    "UserId",
    "Video",
    "WebResponse",
    "check",
    "command",
    "every",
    "fold",
    "on_connected",
    "on_error",
    "on_kicked",
    "on_load",
    "on_message",
    "on_reaction",
    "on_unload",
    "on_user_join",
    "on_user_left",
    "on_video",
    "registering",
    "setting",
]


class UserError(RaveError):
    """Raise it in a handler to tell the user what is wrong with what they have written, in words of your own.

    The bot answers with the message and, if there is one, the hint. No cooldown begins.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Both are sentences without a full stop."""
        super().__init__(Code.INVALID_ARGUMENT, message, hint=hint)


CommandHandler: TypeAlias = Callable[..., Coroutine[Any, Any, None]]
ErrorHandler: TypeAlias = Callable[[Context, Exception], Coroutine[Any, Any, None]]
EventHandler: TypeAlias = Callable[[Event], Coroutine[Any, Any, None]]

T = TypeVar("T")

_MAX_DESCRIPTION_CHARS = 200
_MAX_USAGE_CHARS = 100
_MAX_GROUP_CHARS = 32
_MAX_SPAN_S = 86_400
_MAX_ALIASES = 8
_MAX_TIMERS = 16


def command(
    name: str,
    description: str = "",
    *,
    permission: Permission = Permission.USER,
    cooldown: float | Cooldown = 0.0,
    seconds: float | None = None,
    group: str = "",
    usage: str = "",
    example: str = "",
    aliases: Sequence[str] = (),
    checks: Sequence[CommandHandler] = (),
) -> Callable[[CommandHandler], CommandHandler]:
    """Register the decorated `async def handler(context, ...)` as a command; `context` is a `Context`.

    The words that a user writes after the command fill the handler's other parameters, by their types: `str` (without
    a type as well), `int`, `float`, `Annotated[int, Range(1, 6)]`, `bool`, `Literal["on", "off"]`, an `Enum`,
    `Duration`, `Member`, `UserId`, `Video`, and any class with a class method `from_word(word)`. Double quotes make
    one word of several. A parameter with a default may be left out, `*words: str` takes all that are left, and `*,
    text: str` is the rest of the line, as is `*, video: Video`. A user whose words do not fit is told how to write
    the command.

    Args:
        name: one word of at most 32 characters that is no command yet, or two for a sub-command, as in `quiz start`.
            Users may also write it in capitals, in full width, and in other forms that keyboards produce.
        description: one sentence for `help`, of at most 200 characters.
        permission: who may run it, unless an admin changes that with `setperm`: all users, or only admins with
            `Permission.ADMIN`.
        cooldown: seconds until the same user may run it again, or a `Cooldown`: `Cooldown(30, Per.ROOM)` is for all
            users together, `Cooldown(30, Per.ROLE)` for all admins, and for all others, and `Cooldown(30,
            admins=False)` does not hold for admins. A run that fails for what the
            user has written does not count.
        seconds: how long the handler may take in all; a minute if None.
        group: under which `help` lists it, at most 32 characters; "more" if it is empty.
        usage: what to write after the name, such as `<city> [days]`, at most 100 characters; that of the parameters
            if it is empty.
        example: the same as a user would write it, such as `Paris 3`, likewise.
        aliases: other names, at most 8.
        checks: each is an `async def check(context)` that runs before the handler, and raises `UserError` with the
            reason if the command may not be run now. It returns nothing.

    Raises:
        RaveError: InvalidArgument, in words for the author.
    """
    _require(isinstance(name, str), 'write @command("name", "What it does.")')
    described = isinstance(description, str) and description.isprintable() and description.strip()
    _require(described, f"the command {name} needs a description of what it does, on one line")
    _require(len(description) <= _MAX_DESCRIPTION_CHARS, f"the description of {name} is longer than 200 characters")
    _require(permission in set(Permission), f"the permission of {name} is neither USER nor ADMIN of Permission")
    rest = cooldown if isinstance(cooldown, Cooldown) else Cooldown(cooldown)
    _require(_is_span(rest.seconds), f"the cooldown of {name} is no number of seconds, from 0 to a day")
    _require(rest.per in set(Per), f"the cooldown of {name} is none of per USER, ROLE and ROOM")
    for what, text, max_chars in (
        ("group", group, _MAX_GROUP_CHARS),
        ("usage", usage, _MAX_USAGE_CHARS),
        ("example", example, _MAX_USAGE_CHARS),
    ):
        fits = isinstance(text, str) and text.isprintable() and len(text) <= max_chars
        _require(fits, f"the {what} of {name} is no text on one line of at most {max_chars} characters")
    known = not isinstance(aliases, str) and len(aliases) <= _MAX_ALIASES and all(isinstance(a, str) for a in aliases)
    _require(known, f"the aliases of {name} are no list of at most {_MAX_ALIASES} names")
    _require(seconds is None or (_is_span(seconds) and seconds > 0), f"the time of {name} is no number of seconds")

    _require(isinstance(checks, Sequence), f"the checks of {name} are no list")
    for each in checks:
        _require_coroutine(each)
        _require_parameters(each, "context")

    def register(handler: CommandHandler) -> CommandHandler:
        _require_coroutine(handler)
        current_registry().command(
            name,
            description,
            permission=Permission(permission),
            seconds=None if seconds is None else float(seconds),
            cooldown=rest,
            group=group.strip(),
            usage=usage.strip(),
            example=example.strip(),
            aliases=tuple(aliases),
            checks=tuple(map(_guarded, checks)),
        )(_guarded(handler))
        return handler

    return register


def check(function: CommandHandler) -> CommandHandler:
    """Register the decorated `async def function(context)` as a check of all commands of this file.

    As one of `checks` it raises `UserError` for a command that may not be run now. It runs before those.
    """
    _require_coroutine(function)
    _require_parameters(function, "context")
    current_registry().checks.append(_guarded(function))
    return function


def setting(
    name: str, description: str, *, default: T, kind: Any = None, between: tuple[T, T] | None = None
) -> Setting[T]:
    """Declare a setting that admins of a room change there, and operators with ravectl(1).

        greeting = setting("greeting", "What new users are told", default="Welcome!")

    In a handler `greeting.of(context)`, or of an event, is its value in that room, now. If the file is welcome.py, an
    admin writes `?settings welcome.greeting Hello there`, and `default` to reset it. The word before the dot is the
    name of the file, or the last part of the module.

    Args:
        name: one word of at most 32 letters, digits and _.
        description: what it is, in at most 100 characters, without a full stop.
        default: the value in a room where nothing was set.
        kind: the type of the value: str, int, float, bool, Duration or a `Literal`; that of the default if None. A
            text is one line of at most 500 characters.
        between: the smallest and the largest value of a number or Duration, such as (1, 20).

    A file has at most 16. Raises `RaveError` (InvalidArgument), in words for the author.
    """
    registry = current_registry()
    made = declare(registry.source, registry.settings, name, description, default, kind, between)
    registry.add_setting(made)
    return made


def on_error(handler: ErrorHandler) -> ErrorHandler:
    """Register the decorated `async def handler(context, error)` for commands of this file that raise an exception.

    It answers in place of "Something went wrong", and has ten seconds. The log and `ravectl refresh` name the failure
    all the same. A `RaveError` is answered by the bot, with its message.
    """
    _require_coroutine(handler)
    _require_parameters(handler, "context", "error")
    registry = current_registry()
    _require(registry.on_error is None, "a file has one handler of errors")
    registry.on_error = _guarded(handler)
    return handler


def on_connected(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for when the bot has entered the mesh, each time."""
    return _on(EventKind.CONNECTED, handler)


def on_user_join(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for users who come; `event.user_id` is who."""
    return _on(EventKind.USER_JOIN, handler)


def on_user_left(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for users who go; `event.user_id` is who."""
    return _on(EventKind.USER_LEFT, handler)


def on_message(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for messages that are no command; see `event.message`."""
    return _on(EventKind.MESSAGE, handler)


def on_reaction(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for reactions of users to messages; see `event.emoji`."""
    return _on(EventKind.REACTION, handler)


def on_video(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for when another video begins, or the video has ended.

    `event.room.playback` is what plays then, or None. What plays when the bot enters the room is no event.
    """
    return _on(EventKind.VIDEO, handler)


def on_load(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for when the file is in force and the bot in the room: once.

    A version of the file that comes by `ravectl refresh` counts anew. `on_connected` comes after it.
    """
    return _on(EventKind.LOAD, handler)


def on_unload(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for the end of the file's version, or of the bot.

    It has two seconds. After it all tasks that the file has started are cancelled.
    """
    return _on(EventKind.UNLOAD, handler)


def every(span: str | float) -> Callable[[EventHandler], EventHandler]:
    """Register the decorated `async def handler(event)` to run again and again while the bot is in the room.

    Args:
        span: the time from one run to the next, such as "10m" or "1h30m", or in seconds: from 1 s to a day. A run
            that takes longer delays the next one.

    Raises:
        RaveError: InvalidArgument, in words for the author.
    """
    seconds = _seconds(span)
    _require(not callable(span), 'write @every("10m")')
    _require(_is_span(seconds) and seconds >= 1, f"{span!r} is no time from 1s to 1d, such as 10m")

    def register(handler: EventHandler) -> EventHandler:
        _require_coroutine(handler)
        _require_parameters(handler, "event")
        registry = current_registry()
        _require(len(registry.timers) < _MAX_TIMERS, f"a file has at most {_MAX_TIMERS} timers")
        registry.timers.append(PluginTimer(seconds, _guarded(handler)))
        return handler

    return register


def on_kicked(handler: EventHandler) -> EventHandler:
    """Register the decorated `async def handler(event)` for when the bot is thrown out. It can say nothing then."""
    return _on(EventKind.KICKED, handler)


def _on(kind: EventKind, handler: EventHandler) -> EventHandler:
    _require_coroutine(handler)
    _require_parameters(handler, "event")
    current_registry().on(kind)(_guarded(handler))
    return handler


def _guarded(handler: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Awaitable[None]]:
    """The handler, whose steps are bounded and noted as those of the plugin that is being loaded."""
    return with_step_timeout(handler, current_registry().tasks.mark)


def _require_coroutine(handler: object) -> None:
    name = getattr(handler, "__name__", "the handler")
    _require(inspect.iscoroutinefunction(handler), f"{name} is no coroutine: write async def {name}(...)")


def _require_parameters(handler: Callable[..., object], *names: str) -> None:
    try:
        inspect.signature(handler).bind(*names)
    except TypeError:
        name = getattr(handler, "__name__", "the handler")
        _require(None, f"{name} has other parameters than it gets: write async def {name}({', '.join(names)})")


def _seconds(span: object) -> float:
    try:
        return timespan.parse(span) if isinstance(span, str) else float(span)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _is_span(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= _MAX_SPAN_S


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise RaveError(Code.INVALID_ARGUMENT, otherwise)
